"""The file that a user drops into a design of their own, and what the page about it says."""

import hashlib
import re
from pathlib import Path

import pytest

from lpu_isa.config import SHAPES
from lpu_isa.fingerprint import fingerprint
from lpu_rtl.bank import Bank
from lpu_rtl.export import tile_file, verilog_text
from lpu_rtl.primitives import Multiplier18
from lpu_sw.run import find_tile
from lpu_tb.build import TILE, tile_text
from lpu_tb.public import ports
from lpu_tb.verilog_lint import lint
from lpu_tb.xilinx import xilinx_area

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
SMALL = SHAPES["4x4"]


def declared_bits(text: str, port: str) -> int:
    """Bits of a port of the top module."""
    top = text[text.index(f"module {TILE}(") :]
    high, low = re.search(rf"^  (?:in|out)put (?:\[(\d+):(\d+)\] )?{port} ?;", top, re.MULTILINE).groups("0")
    return int(high) - int(low) + 1


def test_the_file_tells_licence_tile_and_origin():
    config = find_tile("4x4,wmem_words=1024")
    text = tile_file(config, "module tile();\nendmodule\n")
    comment = [line for line in text.splitlines() if line.startswith("//")]
    assert comment[0] == "// SPDX-License-Identifier: Apache-2.0"
    assert "wmem_words=1024" in text and f"{fingerprint(config):016x}" in text
    body = text.split("\n", len(comment))[-1]
    assert hashlib.sha256(body.encode()).hexdigest() in comment[-1]


@pytest.mark.parametrize("shape", ["8x16", "16x16"])
def test_the_file_is_small_enough_for_any_tool(shape):
    assert len(tile_file(SHAPES[shape], tile_text(SHAPES[shape]))) < 20_000_000


def test_the_page_lists_every_port_with_its_width():
    text = tile_text(SMALL)
    listed = {}
    for names, bits in re.findall(r"^\| (`.*?`) \| ([\d, ]+) \|", PAGE, re.MULTILINE):
        names, bits = re.findall(r"`(\w+)`", names), bits.split(", ")
        listed |= dict(zip(names, map(int, bits * (len(names) // len(bits))), strict=True))
    assert listed == {port.signal: declared_bits(text, port.signal) for port in ports(text, TILE)}


def test_the_example_of_the_page_connects_every_port(tmp_path):
    [example] = re.findall(r"^```verilog\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    source = tmp_path / "lpu.v"
    source.write_text(tile_file(SMALL, tile_text(SMALL)) + example)
    assert lint(source, "lpu") == ""


def test_on_a_xilinx_chip_a_bank_is_block_ram_and_a_product_one_multiplier(tmp_path):
    bank = Bank(512, 8, 26)
    area = xilinx_area(verilog_text(bank, "bank"), "bank", tmp_path)
    assert area.bram36 == -(-8 * 26 // 72)  # 512 words of 72 bits each
    assert (area.lut, area.dsp48) == (0, 0)
    product = Multiplier18(is_signed=True)
    area = xilinx_area(verilog_text(product, "product"), "product", tmp_path)
    assert (area.dsp48, area.ff, area.lut) == (1, 0, 0), "its registers are those of the multiplier"
