"""The host's windows onto the memories: a byte address to one beat of one word, through the units' own ports."""

from functools import reduce
from operator import or_

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import ceil_log2, exact_log2

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.host import ADDRESS_BITS, REGION_SHIFT, TIMING_BITS, Window, beats, depth, stride

from .beats import BeatWrite
from .float.encoding import gated
from .float.tree import balanced
from .interfaces import (
    WEIGHT_ROW_LATENCY,
    AccumulatorRead,
    MemoryRead,
    MemoryWrite,
    WeightRowRead,
    WeightWrite,
    vector_layout,
)
from .mxm import BlockRead
from .primitives import Technology, replicated

__all__ = ["READ_LATENCY", "WindowRead", "WindowWrite", "Windows"]

READ_LATENCY = 1 + WEIGHT_ROW_LATENCY + 2
"""Cycles from address to data: those of the slowest memory, one to choose the beat, one to choose the memory."""

_BLOCK_RAM_LATENCY = 2
_WORD_BYTES = 4
_READ_ONLY = (Window.ACC, Window.ACT)


WindowRead = Signature({
    "enable": Out(1),
    "address": Out(ADDRESS_BITS),
    "exists": In(1),
    "data": In(32),
})  # fmt: skip
"""A byte address in cycle c; ``exists`` in c, whether it lies in a memory; ``data`` in c + `READ_LATENCY`."""

WindowWrite = Signature({
    "enable": Out(1),
    "address": Out(ADDRESS_BITS),
    "exists": In(1),
    "bytewise": In(1),
    "data": Out(32),
    "strobe": Out(_WORD_BYTES),
})  # fmt: skip
"""In cycle c; a memory has it in c + 1. ``exists``: the address lies in a memory that the host may write. ``bytewise``:
any strobe will do; elsewhere the whole word is written."""


class _Place:
    """Where a byte address points, if window ``window`` is meant: word and beat."""

    def __init__(self, config: TileConfig, window: Window, address: Value) -> None:
        shift = stride(config, window).bit_length() - 1
        low = _WORD_BYTES.bit_length() - 1
        offset = address[:REGION_SHIFT]
        self.chosen = address[REGION_SHIFT:] == window
        self.word = offset[shift:]
        self.beat = offset[low:shift]
        self.exists = self.chosen & (self.word < depth(config, window)) & (self.beat < beats(config, window))


class Windows(wiring.Component):
    """Reads and writes one beat a cycle. For use while the units that share the ports are idle.

    Parameters
    ----------
    config : TileConfig
    technology : Technology
        What registers in several places are built from.

    Ports
    -----
    read : In(WindowRead), write : In(WindowWrite)      From the host.
    program_read, ... act_read                          To the memories, each only enabled for its own window.
    program_write, timing_write, wmem_write, vmem_write, smem_write
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        self.config, self.technology = config, technology
        n_beats = BundleFormat(config).beats
        vector = vector_layout(config)
        super().__init__({
            "read": In(WindowRead),
            "write": In(WindowWrite),
            "program_read": Out(MemoryRead(config.bundles, 32 * n_beats)),
            "program_write": Out(BeatWrite(config.bundles, n_beats, 32)),
            "timing_read": Out(MemoryRead(config.timings, TIMING_BITS)),
            "timing_write": Out(BeatWrite(config.timings, 1, TIMING_BITS)),
            "wmem_read": Out(WeightRowRead(config)),
            "wmem_write": Out(WeightWrite(config)),
            "vmem_read": Out(MemoryRead(config.vmem_words, vector)),
            "vmem_write": Out(MemoryWrite(config, config.vmem_words)),
            "smem_read": Out(MemoryRead(config.smem_words, vector)),
            "smem_write": Out(MemoryWrite(config, config.smem_words)),
            "acc_read": Out(AccumulatorRead(config)),
            "act_read": Out(BlockRead(config)),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        self._read(m)
        self._write(m)
        return m

    def _read(self, m: Module) -> None:
        config, read = self.config, self.read
        beats_of = {
            Window.PROGRAM: _split(self.program_read.data, 32),
            Window.TIMING: [self.timing_read.data],
            Window.WMEM: _split(self.wmem_read.data.as_value(), 32),
            Window.VMEM: _split(self.vmem_read.data.as_value(), config.float_bits),
            Window.SMEM: _split(self.smem_read.data.as_value(), config.float_bits),
        }
        sums = [self.acc_read.data.sums[row] for row in range(config.rows)]
        beats_of[Window.ACC] = [half for total in sums for half in (total[:32], _extended(total[32:]))]
        block = self.act_read.data
        beats_of[Window.ACT] = [*_split(block.values.as_value(), 32), block.code]

        exists = [_Place(config, window, read.address).exists for window in Window]
        m.d.comb += read.exists.eq(Cat(exists).any())
        enables, addresses = [read.enable], [read.address]
        for cycle in range(1, 1 + WEIGHT_ROW_LATENCY + 1):
            enable_q = Signal(name=f"enable_q{cycle}")
            address_q = Signal(ADDRESS_BITS, name=f"address_q{cycle}")
            m.d.sync += [enable_q.eq(enables[-1]), address_q.eq(addresses[-1])]
            enables.append(enable_q)
            addresses.append(address_q)
        answers = []
        for window in Window:
            # The faster memories are asked later, so that all answer in the same cycle.
            asked_at = 1 if window is Window.WMEM else 1 + WEIGHT_ROW_LATENCY - _BLOCK_RAM_LATENCY
            place, answered = _Place(config, window, addresses[asked_at]), _Place(config, window, addresses[-2])
            port = getattr(self, f"{window.name.lower()}_read")
            m.d.comb += port.address.eq(place.word)
            beat = answered.beat
            if window is Window.WMEM:  # a beat is one of those that make a part of a row
                per_part = exact_log2(config.rows // _WORD_BYTES)
                part = exact_log2(config.words_per_block)
                m.d.comb += [
                    port.part.eq(place.beat[per_part:][:part]),
                    port.row.eq(place.beat[per_part + part :]),
                ]
                beat = beat[:per_part]
            if "enable" in port.signature.members:
                # It chooses between users far away, so it is found out a cycle before.
                asks_next = enables[asked_at - 1] & _Place(config, window, addresses[asked_at - 1]).chosen
                m.d.sync += port.enable.eq(asks_next)
            answer = Signal(32, name=f"{window.name.lower()}_answer")
            # One-hot, since a choice among many by number takes twice the area.
            parts = beats_of[window]
            is_it = Signal(len(parts), name=f"{window.name.lower()}_beat")
            m.d.sync += is_it.eq(Cat(answered.chosen & (beat == number) for number in range(len(parts))))
            gated_parts = [gated(part, on) for part, on in zip(parts, is_it, strict=True)]
            m.d.sync += answer.eq(balanced(or_, gated_parts))
            answers.append(answer)
        m.d.sync += read.data.eq(reduce(or_, answers))

    def _write(self, m: Module) -> None:
        config, write = self.config, self.write
        places = {window: _Place(config, window, write.address) for window in Window if window not in _READ_ONLY}
        m.d.comb += [
            write.exists.eq(Cat(place.exists for place in places.values()).any()),
            write.bytewise.eq(places[Window.WMEM].chosen),
        ]
        # The memories lie all over the chip, so what is written goes there from registers.
        address = Signal.like(write.address, reset_less=True)
        m.d.sync += address.eq(write.address)
        for window, asked in places.items():
            place = _Place(config, window, address)
            word = replicated(m, f"{window.name.lower()}_word", write.data, self.technology)
            port = getattr(self, f"{window.name.lower()}_write")
            enable = Signal(name=f"{window.name.lower()}_enable")
            is_asked = write.enable & asked.exists
            m.d.sync += enable.eq(is_asked)
            m.d.comb += port.address.eq(place.word)
            if window in (Window.PROGRAM, Window.TIMING):
                m.d.comb += [port.enable.eq(enable), port.beat.eq(place.beat), port.data.eq(word)]
            elif window is Window.WMEM:
                quad_bits = ceil_log2(config.cols // _WORD_BYTES)  # a beat is four neighbours of one row
                m.d.sync += [
                    port.rows.eq(is_asked << asked.beat[quad_bits:]),
                    port.columns.eq(write.strobe << (asked.beat[:quad_bits] * _WORD_BYTES)),
                ]
                m.d.comb += [
                    port.enable.eq(enable),
                    *(port.data[i].eq(word.word_select(i % _WORD_BYTES, 8)) for i in range(config.rows)),
                ]
            else:
                m.d.sync += port.enable.eq(is_asked << asked.beat)
                m.d.comb += [
                    *(port.data[lane].eq(word) for lane in range(config.rows)),
                ]


def _split(word: Value, bits: int) -> list[Value]:
    """A word's parts of that width, lowest first."""
    return [word[at : at + bits] for at in range(0, len(word), bits)]


def _extended(high: Value) -> Value:
    """The upper beat of a sum, sign-extended."""
    return Cat(high, high[-1].replicate(32 - len(high)))
