"""Tests of a counter whose start value is random: they show what `lpu_tb.runner` promises."""

import cocotb
from cocotb.triggers import FallingEdge

from ..clock import start_clock
from ..runner import parameters


async def _start(dut) -> None:
    dut.enable.value = 0
    start_clock(dut.clk)
    await FallingEdge(dut.clk)


@cocotb.test(timeout_time=10, timeout_unit="us")
async def counts(dut) -> None:
    """The counter rises by ``step`` from whatever it held; that start value is written to ``start.txt``."""
    await _start(dut)
    start = dut.count.value.to_unsigned()
    dut.enable.value = 1
    for n in range(1, 10):
        await FallingEdge(dut.clk)
        assert dut.count.value.to_unsigned() == (start + n * parameters()["step"]) % 256
        assert dut.inner.doubled.value.to_unsigned() == dut.count.value.to_unsigned() * 2
    with open("start.txt", "w") as file:
        file.write(str(start))


@cocotb.test(timeout_time=10, timeout_unit="us")
async def fails(dut) -> None:
    """Always fails."""
    await _start(dut)
    raise AssertionError("the words of the failing test")
