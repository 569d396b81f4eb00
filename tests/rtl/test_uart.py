# amaranth: UnusedElaboratable=no
"""The serial line's two ends."""

import json
import os

import pytest

from lpu_rtl.board.uart import UartReceiver, UartTransmitter
from lpu_tb.runner import run_bench
from lpu_tb.synth import netlist

DRIFTS = [-0.02, 0.0, 0.02]
N_BYTES = 1_000_000 // len(DRIFTS) if os.environ.get("LPU_LARGE") else 2_000
"""At each drift."""


@pytest.mark.parametrize("divisor", [4, 7])
def test_bytes_arrive_at_any_phase_and_two_per_cent_off_the_rate(divisor):
    given = {"divisor": divisor, "n_bytes": N_BYTES, "drifts": DRIFTS, "seed": 1}
    run_bench(UartReceiver(divisor), "receiver", "lpu_tb.benches.uart", name=f"uart-{divisor}", parameters=given)


def test_two_flip_flops_stand_between_the_pin_and_any_logic(tmp_path):
    made = json.loads(netlist(UartReceiver(4), "receiver", tmp_path).read_text())["modules"]["receiver"]
    net = made["ports"]["rx"]["bits"]
    for _ in range(2):
        [(cell, pin)] = [
            (cell, pin)
            for cell in made["cells"].values()
            for pin, connected in cell["connections"].items()
            if connected == net and cell["port_directions"][pin] == "input"
        ]
        assert (cell["type"], pin) == ("TRELLIS_FF", "DI")
        net = cell["connections"]["Q"]


@pytest.mark.parametrize("end", [UartReceiver, UartTransmitter])
def test_too_fast_a_line_is_refused(end):
    with pytest.raises(ValueError, match="divisor must be at least 4, not 3"):
        end(3)
