"""Memory of words that the host writes beat by beat and the sequencer reads whole: program and timings."""

from amaranth import Array, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import ceil_log2

from lpu_isa.config import address_bits

from .interfaces import MemoryRead
from .primitives import EBR_BITS, SLICE_BITS, Ebr, Technology

__all__ = ["BeatMemory", "BeatWrite"]


def BeatWrite(depth: int, n_beats: int, beat_bits: int) -> Signature:
    """One beat of one word; seen by reads of later cycles."""
    return Signature({
        "enable": Out(1),
        "address": Out(address_bits(depth)),
        "beat": Out(address_bits(n_beats)),
        "data": Out(beat_bits),
    })  # fmt: skip


class BeatMemory(wiring.Component):
    """``depth`` words of ``n_beats`` beats, in block RAMs of its own for each beat.

    Parameters
    ----------
    depth : int
        Words; a power of two.
    n_beats, beat_bits : int
        A word's beats, lowest first, and their width, up to 36 bits.
    technology : Technology
        What the block RAMs are built from.

    Ports
    -----
    read : In(MemoryRead)       The whole word.
    write : In(BeatWrite)       One beat.
    """

    def __init__(self, depth: int, n_beats: int, beat_bits: int, technology: Technology = Technology.GENERIC) -> None:
        self.depth = depth
        self.n_beats = n_beats
        self.beat_bits = beat_bits
        self.technology = technology
        super().__init__({
            "read": In(MemoryRead(depth, n_beats * beat_bits)),
            "write": In(BeatWrite(depth, n_beats, beat_bits)),
        })  # fmt: skip

    @property
    def ebr_width(self) -> int:
        """Width of the block RAMs: the narrowest that holds a beat."""
        return next(slices * SLICE_BITS for slices in (1, 2, 4) if slices * SLICE_BITS >= self.beat_bits)

    @property
    def n_banks(self) -> int:
        """Block RAMs of each beat, one behind the other in the address."""
        return -(-self.depth // (EBR_BITS // self.ebr_width))

    @property
    def n_ebr(self) -> int:
        """Block RAMs in all."""
        return self.n_banks * self.n_beats

    def elaborate(self, platform) -> Module:
        m = Module()
        row_bits = ceil_log2(EBR_BITS // self.ebr_width)
        bank = Signal(range(max(2, self.n_banks)))
        bank_q = Signal.like(bank)
        m.d.sync += [bank.eq(self.read.address >> row_bits), bank_q.eq(bank)]
        write, words = self.write, []
        for beat in range(self.n_beats):
            banks = []
            for index in range(self.n_banks):
                ebr = Ebr(self.ebr_width, self.technology)
                m.submodules[f"beat{beat}_bank{index}"] = ebr
                chosen = write.enable & (write.beat == beat) & (write.address >> row_bits == index)
                m.d.comb += [
                    ebr.read_enable.eq(self.read.enable),
                    ebr.read_address.eq(self.read.address),
                    ebr.write_enable.eq(chosen.replicate(len(ebr.write_enable))),
                    ebr.write_address.eq(write.address),
                    ebr.write_data.eq(write.data),
                ]
                banks.append(ebr.read_data[: self.beat_bits])
            words.append(Array(banks)[bank_q] if self.n_banks > 1 else banks[0])
        m.d.comb += self.read.data.eq(Cat(words))
        return m
