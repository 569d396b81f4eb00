"""Vector SRAM, and with one read port the scale SRAM: words of ``rows`` floats with a write enable a lane."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from lpu_isa.config import TileConfig

from .bank import Bank
from .interfaces import MemoryRead, MemoryWrite, vector_layout
from .primitives import Technology

__all__ = ["VectorMemory"]


class VectorMemory(wiring.Component):
    """One write and some read ports; each read port has its own copy of the words.

    Parameters
    ----------
    config : TileConfig
        Takes ``rows`` and ``float_bits``. On the FPGA a lane is padded to a multiple of 9 bits: 8 lanes of 26 bits
        are 6 block RAMs a copy.
    depth : int
        Words.
    n_read_ports : int
        Vector SRAM 2, scale SRAM 1.
    technology : Technology
        ``GENERIC`` or ``ECP5``.

    Ports
    -----
    write : In(MemoryWrite)                   Cycle c; seen by reads of later cycles.
    read : In(MemoryRead).array(...)          Address in cycle c, data in c + 2.

    Raises ``ValueError`` when ``n_read_ports`` or ``depth`` is less than 1.
    """

    def __init__(
        self, config: TileConfig, depth: int, n_read_ports: int, technology: Technology = Technology.GENERIC
    ) -> None:
        if n_read_ports < 1:
            raise ValueError(f"n_read_ports must be at least 1, not {n_read_ports!r}")
        self.config, self.depth, self.n_read_ports = config, depth, n_read_ports
        self.technology = technology
        super().__init__({
            "write": In(MemoryWrite(config, depth)),
            "read": In(MemoryRead(depth, vector_layout(config))).array(n_read_ports),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        for index, port in enumerate(self.read):
            copy = Bank(self.depth, self.config.rows, self.config.float_bits, self.technology)
            m.submodules[f"copy{index}"] = copy
            m.d.comb += [
                copy.write_enable.eq(self.write.enable),
                copy.write_address.eq(self.write.address),
                copy.write_data.eq(self.write.data),
                copy.read_enable.eq(port.enable),
                copy.read_address.eq(port.address),
                port.data.eq(copy.read_data),
            ]
        return m
