"""The host's transport inside the simulator: AXI4-Lite by cocotbext-axi."""

import logging

import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from .clock import start_clock

__all__ = ["AxiTransport", "bring_up"]


class AxiTransport:
    """Carries out `lpu_sw.host.protocol.Transport` on the port ``host`` of a design."""

    def __init__(self, dut) -> None:
        self.dut = dut
        # It would write every word that it moves into the log.
        logging.getLogger(f"cocotb.{dut._name}.host_").setLevel(logging.WARNING)
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "host_"), dut.clk, dut.rst)

    async def read(self, address: int, n_words: int) -> np.ndarray:
        """uint32 (n_words,) from byte ``address`` onwards. Raises ``OSError`` when the tile refuses."""
        answer = await self.master.read(address, 4 * n_words)
        if answer.resp != AxiResp.OKAY:
            raise OSError(f"read of {n_words} words at {address:#08x} was refused: {answer.resp.name}")
        return np.frombuffer(answer.data, "<u4")

    async def write(self, address: int, words: np.ndarray) -> None:
        """Write uint32 words from byte ``address`` onwards. Raises ``OSError`` when the tile refuses."""
        answer = await self.master.write(address, np.asarray(words, "<u4").tobytes())
        if answer.resp != AxiResp.OKAY:
            raise OSError(f"write of {len(words)} words at {address:#08x} was refused: {answer.resp.name}")

    async def attention(self) -> None:
        """Wait until the tile's ``irq`` is high."""
        if not self.dut.irq.value:
            await RisingEdge(self.dut.irq)


async def bring_up(dut) -> AxiTransport:
    """Start the clock, reset the design and return its transport."""
    dut.rst.value = 1
    transport = AxiTransport(dut)
    start_clock(dut.clk)
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 1)
    return transport
