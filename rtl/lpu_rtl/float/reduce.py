"""Reductions over all lanes of all vectors of a pass: sum, maximum and where it is."""

import operator

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.fields import REGISTERS
from lpu_isa.formats import REDUCE_FRACTION_BITS, REDUCE_GROWTH_BITS
from lpu_isa.mxm import COUNT_BITS
from lpu_isa.vxm import CONVERT, REDUCE, Reduce

from ..interfaces import RegisterWrite, vector_layout
from .convert import Convert
from .encoding import EXPONENT, delayed, float_layout, gated, significand
from .tree import balanced, larger, largest, pairwise

__all__ = ["Reducer", "reduce_layout"]

_WORDS = REDUCE - 1
"""Cycle, counted as `REDUCE` is, of the words that are written: the sequencer takes them in the next."""


def reduce_layout(config: TileConfig) -> data.StructLayout:
    """What comes with a vector: the `lpu_isa.vxm.Reduce` that it is part of, and its place in it."""
    return data.StructLayout({
        "kind": range(max(Reduce) + 1),
        "is_first": 1,
        "is_last": 1,
        "register": address_bits(REGISTERS),
        "start": config.float_bits,
    })  # fmt: skip


def _saturated(amount: Value, width: int) -> Value:
    """A shift amount, cut down to one that shifts ``width`` bits out if it does."""
    near = width.bit_length()
    return amount[:near] | amount[near:].any().replicate(near)


class Reducer(wiring.Component):
    """Sum, maximum, or maximum and its index, over the vectors from a first to a last one.

    Golden model: ``lpu_sw.sim.arithmetic``: ``Arithmetic.reduce_sum``, ``reduce_max`` and ``argmax``.

    Ports
    -----
    event : In(reduce_layout(config))       Its ``kind`` is NONE when there is nothing to reduce.
    valid : In(rows)                        Lanes that count, the lowest ones; the others must be zero.
    vector : In(vector_layout(config))      An exponent field of 0 has no fraction.
    write : Out(RegisterWrite)              `lpu_isa.vxm.REDUCE` cycles after the last vector, less the one in which the
                                            sequencer takes it; ARGMAX a second time a cycle later.
    overflow : Out(1)                       With ``write``: the sum is too large.
    conflict : Out(1)                       Two reductions overlap, or two writes are due in one cycle.
    busy : Out(1)                           A vector, or a write, is on its way.

    Timing: a vector each cycle, first registered. Sum: pairs of lanes compared; largest exponent so far; aligned;
    summed; accumulated; converted. Maximum: a register a level of the tree.
    """

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        super().__init__({
            "event": In(reduce_layout(config)),
            "valid": In(config.rows),
            "vector": In(vector_layout(config)),
            "write": Out(RegisterWrite),
            "overflow": Out(1),
            "conflict": Out(1),
            "busy": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        in_progress = Signal()
        arrives = self.event.kind != Reduce.NONE
        with m.If(arrives):
            m.d.sync += in_progress.eq(~self.event.is_last)

        # Event k cycles after its vector.
        events = [self.event]
        for cycle in range(_WORDS + 1):
            events.append(delayed(m, events[-1], 1, name=f"event{cycle}", reset_less=False))
        layout = float_layout(self.config.significand_bits)
        vector = delayed(m, self.vector, 1, name="vector")
        fields = [layout(vector[row]).exponent for row in range(self.config.rows)]
        lanes = [delayed(m, layout(vector[row]), 1, name=f"lane{row}") for row in range(self.config.rows)]
        valid = delayed(m, self.valid, 2, name="valid")

        total, overflow = self._sum(m, events, fields, lanes)
        index, value = self._maximum(m, events, lanes, valid)

        # What is written where is chosen a cycle ahead of the words.
        ahead = events[_WORDS - 1]
        ends = (ahead.kind != Reduce.NONE) & ahead.is_last
        sums = (ahead.kind == Reduce.SUM) | (ahead.kind == Reduce.SUM_SQUARES)
        is_end, is_sum, is_maximum, is_index, is_after = (
            delayed(m, condition, 1, name=name, reset_less=False)
            for name, condition in {
                "is_end": ends,
                "is_sum": ends & sums,
                "is_maximum": ends & (ahead.kind == Reduce.MAX),
                "is_index": ends & (ahead.kind == Reduce.ARGMAX),
                "is_after": (events[_WORDS].kind == Reduce.ARGMAX) & events[_WORDS].is_last,
            }.items()
        )
        register = delayed(m, Mux(ends, ahead.register, events[_WORDS].register + 1), 1, name="register")
        was_after = delayed(m, is_after, 1, name="was_after", reset_less=False)
        second_word = delayed(m, value, 1, name="second_word")
        words = [gated(total, is_sum), gated(value, is_maximum), gated(index, is_index), gated(second_word, is_after)]
        m.d.comb += [
            self.write.enable.eq(is_end | is_after),
            self.write.index.eq(register),
            self.write.data.eq(balanced(operator.or_, words)),
            self.overflow.eq(is_sum & overflow),
            self.conflict.eq((arrives & self.event.is_first & in_progress) | (is_end & is_after)),
            self.busy.eq(Cat(event.kind != Reduce.NONE for event in events[1:]).any() | is_after | was_after),
        ]
        return m

    def _sum(self, m: Module, events: list, fields: list, lanes: list) -> tuple[Value, Value]:
        """The rounded sum and whether it is too large, `_WORDS` cycles after the last vector."""
        p = self.config.significand_bits
        layout = float_layout(p)

        # Largest exponent field so far, at first the start value's; pairs of lanes are compared while the lanes are
        # registered.
        pairs = [delayed(m, pair, 1, name=f"pair{i}") for i, pair in enumerate(pairwise(larger, fields))]
        event = events[2]
        start = layout(event.start)
        so_far = Signal(8, reset_less=True)
        before = Mux(event.is_first, start.exponent, so_far)
        field = largest([*pairs, before])
        with m.If(event.kind != Reduce.NONE):
            m.d.sync += so_far.eq(field)
        field = delayed(m, field, 1, name="field")
        rise = (field - delayed(m, before, 1, name="before"))[:8]

        # Align, with bits to spare below; every shift is a floor.
        aligned = []
        for row, lane in enumerate(lanes):
            value = delayed(m, self._significand(lane), 1, name=f"significand{row}")
            distance = (field - delayed(m, lane.exponent, 1, name=f"exponent{row}"))[:8]
            aligned.append(delayed(m, value >> _saturated(distance, len(value)), 1, name=f"aligned{row}"))
        width = p + REDUCE_FRACTION_BITS + REDUCE_GROWTH_BITS + 1
        total = Signal(signed(width), reset_less=True)
        m.d.sync += total.eq(balanced(operator.add, aligned))

        # Accumulate.
        event = events[5]
        running = Signal(signed(width), reset_less=True)
        rise = delayed(m, _saturated(rise, width), 2, name="rise")
        start = delayed(m, self._significand(start), 3, name="start")
        with m.If(event.kind != Reduce.NONE):
            m.d.sync += running.eq((Mux(event.is_first, start, running) >> rise) + total)

        m.submodules.convert = convert = Convert(width, p)
        unit = Signal(EXPONENT)
        m.d.comb += unit.eq(delayed(m, field, 3, name="field_converted") - (p - 1 + REDUCE_FRACTION_BITS))
        m.d.comb += [convert.value.eq(running), convert.unit.eq(unit)]
        assert _WORDS == 6 + CONVERT
        return delayed(m, convert.result, 1, name="sum"), delayed(m, convert.overflow, 1, name="sum_overflow")

    def _significand(self, value: data.View) -> Value:
        """A float's signed significand in units of a running sum whose largest exponent field is the float's own."""
        p = self.config.significand_bits
        magnitude = gated(significand(value), value.exponent != 0)
        signed_one = ((magnitude ^ value.sign.replicate(p + 1)) + value.sign)[: p + 1]
        return Cat(Const(0, REDUCE_FRACTION_BITS), signed_one).as_signed()

    def _maximum(self, m: Module, events: list, lanes: list, valid: Value) -> tuple[Value, Value]:
        """Index and value of the maximum, `_WORDS` cycles after the last vector."""
        # Floats as unsigned numbers of the same order, below which is only what does not count.
        keys = []
        for row, lane in enumerate(lanes):
            magnitude = Cat(lane.fraction, lane.exponent)
            is_negative = lane.sign & (lane.exponent != 0)
            key = Cat(magnitude ^ is_negative.replicate(len(magnitude)), ~is_negative)
            keys.append(delayed(m, gated(key, valid[row]), 1, name=f"key{row}"))
        lane_bits = address_bits(self.config.rows)
        candidate = data.StructLayout({"lane": lane_bits, "step": COUNT_BITS, "key": self.config.float_bits})

        def better(a, b):
            return candidate(Mux(b.key > a.key, b, a))  # the lower one of equals

        level, candidates = 3, []
        for row, key in enumerate(keys):
            first = Signal(candidate, name=f"candidate{row}")
            m.d.comb += [first.lane.eq(row), first.key.eq(key)]
            candidates.append(first)
        while len(candidates) > 1:
            candidates = [
                delayed(m, winner, 1, name=f"level{level}_{i}") for i, winner in enumerate(pairwise(better, candidates))
            ]
            level += 1

        event = events[level]
        step = Signal(COUNT_BITS, reset_less=True)
        newest, best = Signal(candidate), Signal(candidate, reset_less=True)
        m.d.comb += [newest.eq(candidates[0]), newest.step.eq(Mux(event.is_first, 0, step))]
        with m.If(event.kind != Reduce.NONE):
            m.d.sync += step.eq(newest.step + 1)
            with m.If(event.is_first | (newest.key > best.key)):
                m.d.sync += best.eq(newest)
        best = delayed(m, best, _WORDS - level - 1, name="best")
        sign = ~best.key[-1]
        magnitude = best.key[:-1] ^ sign.replicate(self.config.float_bits - 1)
        return Cat(best.lane, best.step), Cat(magnitude, sign)
