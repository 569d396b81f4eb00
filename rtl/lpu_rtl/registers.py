"""Scalar register file: 32 words of 32 bits in distributed memory, a copy of which serves each read port."""

from amaranth import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.fields import REGISTERS

from .interfaces import RegisterRead, RegisterWrite
from .primitives import LUT_RAM

__all__ = ["RegisterFile"]


class RegisterFile(wiring.Component):
    """Scalar registers; register 0 reads as zero.

    Parameters
    ----------
    n_reads : int
        Read ports.

    Ports
    -----
    reads : In(RegisterRead) array      Asynchronous.
    write : In(RegisterWrite)           Visible from the next cycle on. Ignored while ``clearing``.
    clear : In(1)                       Start zeroing all registers, one a cycle.
    clearing : Out(1)                   Still at it; also after a hardware reset, since the memory starts undefined.
    """

    def __init__(self, n_reads: int) -> None:
        super().__init__({
            "reads": In(RegisterRead).array(n_reads),
            "write": In(RegisterWrite),
            "clear": In(1),
            "clearing": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.words = words = memory.Memory(shape=32, depth=REGISTERS, init=[], attrs=LUT_RAM)
        write = words.write_port()
        remaining = Signal(range(REGISTERS + 1), init=REGISTERS)

        m.d.comb += self.clearing.eq(remaining != 0)
        with m.If(self.clearing):
            m.d.comb += [write.en.eq(1), write.addr.eq(remaining - 1)]
            m.d.sync += remaining.eq(remaining - 1)
        with m.Else():
            m.d.comb += [
                write.en.eq(self.write.enable & (self.write.index != 0)),
                write.addr.eq(self.write.index),
                write.data.eq(self.write.data),
            ]
        with m.If(self.clear):
            m.d.sync += remaining.eq(REGISTERS)

        for port in self.reads:
            read = words.read_port(domain="comb")
            m.d.comb += [read.addr.eq(port.index), port.data.eq(read.data)]
        return m
