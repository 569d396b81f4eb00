"""Scalar register file: 32 words of 32 bits in distributed memory, a copy of which serves each read port.

Most ports bring what is added to an address or a count, and a sum that is out of range is a fault. All that matters of
a register that is larger than any address is that it is, so these ports have copies of few bits, where such a register
is the smallest number that they hold: no address or count makes up for that.
"""

from functools import reduce
from operator import or_

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.fields import REGISTERS

from .float.encoding import gated
from .interfaces import RegisterRead, RegisterWrite
from .primitives import LUT_RAM

__all__ = ["RegisterFile"]


class RegisterFile(wiring.Component):
    """Scalar registers; register 0 reads as zero.

    Parameters
    ----------
    n_reads, n_places, n_ahead : int
        Read ports of 32 bits, those for addresses and counts, and those that are read a cycle ahead.
    place_bits : int
        Width of the latter: one bit more than the widest address or count.
    n_writes : int
        Writers, of which at most one writes in a cycle.

    Ports
    -----
    reads, places : In(RegisterRead) array      Asynchronous; ``places`` are sign-extended.
    ahead : In(RegisterRead) array      ``data`` a cycle after ``index``, as an asynchronous port would show them then:
                                        what is written in between is in them.
    writes : In(RegisterWrite) array    Visible from the next cycle on. Never enabled for register 0, nor after the
                                        first cycle of ``clearing``.
    clear : In(1)                       Start zeroing all registers, one a cycle.
    clearing : Out(1)                   Still at it; also after a hardware reset, since the memory starts undefined.
    """

    def __init__(self, n_reads: int, n_places: int, n_ahead: int, place_bits: int, n_writes: int) -> None:
        self.place_bits = place_bits
        super().__init__({
            "reads": In(RegisterRead).array(n_reads),
            "places": In(RegisterRead).array(n_places),
            "ahead": In(RegisterRead).array(n_ahead),
            "writes": In(RegisterWrite).array(n_writes),
            "clear": In(1),
            "clearing": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.words = words = memory.Memory(shape=32, depth=REGISTERS, init=[], attrs=LUT_RAM)
        m.submodules.near = near = memory.Memory(shape=signed(self.place_bits), depth=REGISTERS, init=[], attrs=LUT_RAM)
        write, near_write = words.write_port(), near.write_port()
        clearing, cleared = Signal(init=1), Signal(range(REGISTERS))

        # What writes goes to all copies: so there is no choice, only gates. `cleared` is 0 when nothing is zeroed. A
        # write in the first cycle that zeroes comes in place of register 0, which is zero, and is zeroed itself later.
        m.d.comb += [
            self.clearing.eq(clearing),
            write.en.eq(Cat(clearing, *(one.enable for one in self.writes)).any()),
            write.addr.eq(reduce(or_, (gated(one.index, one.enable) for one in self.writes), cleared)),
            write.data.eq(reduce(or_, (gated(one.data, one.enable) for one in self.writes))),
        ]
        with m.If(clearing):
            m.d.sync += [cleared.eq(cleared + 1), clearing.eq(cleared != REGISTERS - 1)]
        with m.If(self.clear):
            m.d.sync += [clearing.eq(1), cleared.eq(0)]

        smallest = -(1 << (self.place_bits - 1))
        highs = [one.data[self.place_bits - 1 :] for one in self.writes]
        are_far = [one.enable & high.any() & ~high.all() for one, high in zip(self.writes, highs, strict=True)]
        m.d.comb += [
            near_write.en.eq(write.en),
            near_write.addr.eq(write.addr),
            near_write.data.eq(Mux(Cat(are_far).any(), smallest, write.data.as_signed())),
        ]
        for array, ports in ((words, self.reads), (near, self.places)):
            for port in ports:
                read = array.read_port(domain="comb")
                m.d.comb += [read.addr.eq(port.index), port.data.eq(read.data)]
        for port in self.ahead:
            read = words.read_port(domain="comb")
            m.d.comb += read.addr.eq(port.index)
            m.d.sync += port.data.eq(Mux(write.en & (write.addr == port.index), write.data, read.data))
        return m
