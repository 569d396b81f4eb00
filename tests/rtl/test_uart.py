# amaranth: UnusedElaboratable=no
"""The serial line's two ends."""

import pytest

from lpu_rtl.board.uart import UartReceiver, UartTransmitter
from lpu_tb.runner import run_bench


@pytest.mark.parametrize("divisor", [4, 7])
def test_bytes_arrive_at_any_phase_and_two_per_cent_off_the_rate(divisor):
    given = {"divisor": divisor, "n_bytes": 2000, "drifts": [-0.02, 0.0, 0.02], "seed": 1}
    run_bench(UartReceiver(divisor), "receiver", "lpu_tb.benches.uart", name=f"uart-{divisor}", parameters=given)


@pytest.mark.parametrize("end", [UartReceiver, UartTransmitter])
def test_too_fast_a_line_is_refused(end):
    with pytest.raises(ValueError, match="divisor must be at least 4, not 3"):
        end(3)
