"""A transport for long loads: AXI4-Lite by hand, a wake of Python a word instead of cocotbext-axi's several a channel.

It moves a word five times as fast, and so loads a model in seconds. The benches use `lpu_tb.axi`, which was not written
for this tile, and so proves that others can drive it as well.
"""

import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge, Timer

from .clock import CLOCK_NS, start_clock

__all__ = ["FastTransport"]

_OKAY = 0
_LIMIT_CYCLES = 1000
"""No answer takes that long, not even behind the clearing of the registers."""


class FastTransport:
    """Carries out `lpu_sw.host.protocol.Transport` on the port ``host``; the only user of that port.

    Between its methods it is always just after a falling edge of the clock, so that what it sees is stable and what it
    sets is there before the next rising edge.
    """

    def __init__(self, dut) -> None:
        self.clk, self.rst, self.irq = dut.clk, dut.rst, dut.irq
        names = ("awvalid", "awaddr", "wvalid", "wdata", "wstrb", "bvalid", "bready", "bresp",
                 "arvalid", "araddr", "rvalid", "rready", "rdata", "rresp")  # fmt: skip
        for name in names:
            setattr(self, name, getattr(dut, f"host__{name}"))
        self._cycle = Timer(CLOCK_NS, unit="ns")
        self._write = Timer(2 * CLOCK_NS, unit="ns")  # taken at the first rising edge, done at the second

    async def bring_up(self) -> None:
        """Start the clock and reset the design."""
        for signal in (self.awvalid, self.wvalid, self.arvalid):
            signal.value = 0
        for signal in (self.bready, self.rready, self.rst):
            signal.value = 1
        self.wstrb.value = 0b1111
        start_clock(self.clk)
        for _ in range(2):
            await FallingEdge(self.clk)
        self.rst.value = 0
        await FallingEdge(self.clk)

    async def write(self, address: int, words: np.ndarray) -> None:
        """Write uint32 words from byte ``address`` onwards. Raises ``OSError`` when the tile refuses one."""
        for place, word in enumerate(words.tolist()):
            self.awaddr.value = address + 4 * place
            self.wdata.value = word
            if not place:
                self.awvalid.value = self.wvalid.value = 1
            await self._write
            # Address and data were taken once: the port is not ready again before the answer is there.
            await self._until(self.bvalid)
            if int(self.bresp.value) != _OKAY:
                self.awvalid.value = self.wvalid.value = 0
                await self._cycle
                raise OSError(f"write of {word:#010x} at {address + 4 * place:#08x} was refused")
        self.awvalid.value = self.wvalid.value = 0
        await self._cycle

    async def read(self, address: int, n_words: int) -> np.ndarray:
        """uint32 (n_words,) from byte ``address`` onwards. Raises ``OSError`` when the tile refuses one."""
        words = np.zeros(n_words, np.uint32)
        for place in range(n_words):
            self.araddr.value = address + 4 * place
            self.arvalid.value = 1
            await self._cycle
            self.arvalid.value = 0
            await self._until(self.rvalid)
            if int(self.rresp.value) != _OKAY:
                await self._cycle
                raise OSError(f"read at {address + 4 * place:#08x} was refused")
            words[place] = int(self.rdata.value)
            await self._cycle
        return words

    async def attention(self) -> None:
        """Wait until the tile's ``irq`` is high."""
        if not self.irq.value:
            await RisingEdge(self.irq)
            await FallingEdge(self.clk)

    async def _until(self, signal) -> None:
        for _ in range(_LIMIT_CYCLES):
            if signal.value:
                return
            await self._cycle
        raise OSError(f"{signal._name} stays low")
