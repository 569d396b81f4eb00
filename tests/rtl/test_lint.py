"""Verilator's lint finds nothing in the Verilog of a tile."""

import pytest

from lpu_isa.config import SHAPES
from lpu_tb.build import TILE, tile_text
from lpu_tb.verilog_lint import lint


def test_a_tile_is_clean(tmp_path):
    source = tmp_path / "tile.v"
    source.write_text(tile_text(SHAPES["4x4"]))
    assert lint(source, TILE) == ""


@pytest.mark.parametrize(
    ("body", "warning"),
    [("always @* if (a) y = b;", "LATCH"), ("assign y = a; assign y = b;", "MULTIDRIVEN"), ("", "UNDRIVEN")],
)
def test_a_fault_is_found(tmp_path, body, warning):
    source = tmp_path / "faulty.v"
    source.write_text(f"module faulty (input a, input b, output reg y);\n{body}\nendmodule\n")
    assert warning in lint(source, "faulty")
