"""The receiver of the serial line alone, fed by a sender whose clock has nothing to do with its own."""

import random

import cocotb
from cocotb.queue import Queue
from cocotb.triggers import ClockCycles, RisingEdge, Timer, with_timeout

from ..clock import CLOCK_NS, start_clock
from ..runner import parameters

_PICOSECONDS = 1000 * CLOCK_NS


@cocotb.test(timeout_time=1, timeout_unit="sec")
async def bytes_at_any_phase(dut) -> None:
    """``n_bytes`` random bytes arrive at each of ``drifts`` (share of the rate), back to back or after a pause."""
    given = parameters()
    draw = random.Random(given["seed"])
    dut.rx.value = 1
    dut.rst.value = 1
    start_clock(dut.clk)
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    heard: Queue = Queue()
    cocotb.start_soon(_listen(dut, heard))
    for drift in given["drifts"]:
        bit_ps = round(_PICOSECONDS * given["divisor"] / (1 + drift))
        await Timer(_PICOSECONDS + draw.randrange(_PICOSECONDS), "ps")
        sent = draw.randbytes(given["n_bytes"])
        for byte in sent:
            for level in (0, *(byte >> bit & 1 for bit in range(8)), 1):
                dut.rx.value = level
                await Timer(bit_ps, "ps")
            if not draw.randrange(4):
                await Timer(1 + draw.randrange(3 * bit_ps), "ps")
        got = bytes([await with_timeout(heard.get(), 20 * bit_ps, "ps") for _ in sent])
        assert got == sent, f"at a drift of {drift}"
    assert heard.empty()


async def _listen(dut, heard: Queue) -> None:
    while True:
        await RisingEdge(dut.valid)
        heard.put_nowait(int(dut.data.value))
