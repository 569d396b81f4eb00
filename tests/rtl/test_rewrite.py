"""Verilog as the simulator is given it; that it means the same is what every other bench shows."""

import re

from lpu_isa.config import SHAPES
from lpu_tb.build import tile_text
from lpu_tb.rewrite import with_clocked_resets, with_running_clock, without_register_starts

COUNTER = """
module counter(clk, rst, count);
  reg [7:0] \\$1 ;
  input clk;
  wire clk;
  input rst;
  wire rst;
  output [7:0] count;
  reg [7:0] count = 8'h05;
  reg bare;
  always @(posedge clk)
    count <= \\$1 ;
  always @(posedge clk)
    bare <= \\$2 ;
  always @* begin
    \\$1  = count + 1;
    if (rst) begin
      \\$1  = 8'h05;
    end
  end
endmodule
"""


def test_a_reset_moves_to_its_register():
    text = with_clocked_resets(COUNTER)
    assert "always @(posedge clk)\n    if (rst) count <= 8'h05;\n    else count <= \\$1 ;\n" in text
    assert "always @(posedge clk)\n    bare <= \\$2 ;\n" in text, "no reset, no change"
    assert "always @* begin\n    \\$1  = count + 1;\n  end\n" in text


def test_a_name_counts_in_its_own_module_alone():
    other = COUNTER.replace("8'h05", "8'h09").replace("module counter", "module other")
    assert with_clocked_resets(COUNTER + other) == with_clocked_resets(COUNTER) + with_clocked_resets(other)


def test_all_resets_of_a_tile_move():
    text = tile_text(SHAPES["4x4"])
    moved = with_clocked_resets(text)
    assert len(re.findall(r"^    if \(rst\) begin$", text, re.MULTILINE)) > 100
    assert not re.search(r"^    if \(rst\) begin$", moved, re.MULTILINE)
    assert moved.count("if (rst)") == text.count("if (rst)")


def test_a_clock_of_its_own():
    text = with_running_clock(COUNTER.replace("counter", "other") + COUNTER, "counter", 10)
    other, counter = text.split("\nmodule counter(")
    assert "input clk" in other
    assert "  output clk;\n  reg clk = 1'h0;\n  always #5 clk = ~clk;\n" in counter
    assert "input clk" not in counter


def test_registers_without_a_start():
    assert "  reg [7:0] count ;\n" in without_register_starts(COUNTER)
