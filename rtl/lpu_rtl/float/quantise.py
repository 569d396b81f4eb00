"""Quantiser: vectors of floats to int8, with an exponent that a block shares or with scale 1."""

import operator

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.formats import BLOCK_EXPONENT_OFFSET, INTEGER_CODE, QUANTISED_MAX
from lpu_isa.mxm import TRACKERS
from lpu_isa.vxm import TO_BLOCKS, Quantise

from ..interfaces import BlockWrite, WeightWrite, vector_layout
from .encoding import delayed, float_layout, gated
from .shift import shift_right
from .tree import balanced, larger, largest, pairwise

__all__ = ["Quantiser", "is_to_blocks", "quantise_layout"]

_MAGNITUDE_BITS = QUANTISED_MAX.bit_length()
_CUT_LANE = data.StructLayout({"magnitude": _MAGNITUDE_BITS + 1, "sticky": 1, "exponent": 8, "sign": 1})
"""A float cut down to what rounding to 7 bits needs: its highest 8 bits, and whether anything is below them."""
_SHIFTED_LANE = data.StructLayout({"magnitude": _MAGNITUDE_BITS, "guard": 1, "sticky": 1, "is_too_large": 1, "sign": 1})
"""The same in units of its block: an integer, the bit below it, and whether anything is below that."""


def is_to_blocks(kind: Value) -> Value:
    """Whether a `Quantise` writes blocks of the activation buffer."""
    return Cat(kind == member for member in TO_BLOCKS).any()


def quantise_layout(config: TileConfig) -> data.StructLayout:
    """What comes with a vector: where it goes (``kind`` is a `Quantise`), and its place in its block."""
    return data.StructLayout({
        "kind": 3,
        "address": address_bits(max(config.act_blocks, config.wmem_words)),
        "is_outside": 1,
        "part": address_bits(config.words_per_block),
        "closes": 1,
        "is_first_block": 1,
        "tracker": address_bits(TRACKERS),
        "index": address_bits(config.cols),
    })  # fmt: skip


class Quantiser(wiring.Component):
    """Round vectors to int8 and write them to the activation buffer or to weight SRAM.

    Golden model: ``quantise_block``, ``quantise_static`` and ``IntegerQuantiser`` of ``lpu_sw.sim.arithmetic``.

    Ports
    -----
    event : In(quantise_layout(config))     Its ``kind`` is NONE when there is nothing to quantise.
    vector : In(vector_layout(config))      Lanes that do not count are +0; an exponent field of 0 has no fraction.
    block_write, weight_write : Out         `lpu_isa.vxm.quantise_latency` cycles later.
    clamped : Out(range(rows + 1))          Lanes that scale 1 clamped; with ``weight_write``.
    is_outside : Out(1)                     With the write: its address is past the end of the memory.
    busy : Out(1)                           A vector is on its way.

    Timing: a vector each cycle. A block's exponent is known with its last vector, so its first one waits for it:
    pairs of lanes compared, largest of the block so far, ``cols / rows - 1`` cycles of waiting, shifted, rounded.
    """

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        super().__init__({
            "event": In(quantise_layout(config)),
            "vector": In(vector_layout(config)),
            "block_write": Out(BlockWrite(config)),
            "weight_write": Out(WeightWrite(config)),
            "clamped": Out(range(config.rows + 1)),
            "is_outside": Out(1),
            "busy": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self.config
        rows = range(config.rows)
        layout = float_layout(config.significand_bits)
        lanes = [layout(self.vector[row]) for row in rows]

        # Pairs of lanes.
        event = delayed(m, self.event, 1, name="event_paired", reset_less=False)
        events = [event]
        pairs = [
            delayed(m, field, 1, name=f"pair{i}")
            for i, field in enumerate(pairwise(larger, [lane.exponent for lane in lanes]))
        ]
        below = config.significand_bits - _MAGNITUDE_BITS - 1
        cuts = []
        for row, lane in enumerate(lanes):
            lane = delayed(m, lane, 1, name=f"lane{row}")
            cut = Signal(_CUT_LANE, name=f"cut{row}")
            m.d.comb += [
                cut.magnitude.eq(Cat(lane.fraction[below:], lane.exponent != 0)),
                cut.sticky.eq(lane.fraction[:below].any()),
                cut.exponent.eq(lane.exponent),
                cut.sign.eq(lane.sign),
            ]
            cuts.append(cut)

        # Largest exponent field of the block so far.
        field_before = Signal(8, reset_less=True)
        field_so_far = largest([*pairs, Mux(event.part == 0, 0, field_before)])
        m.d.sync += field_before.eq(field_so_far)

        # Waiting. The block's exponent is what its closing vector saw: the first to close from the oldest vector on.
        block_field = field = Const(0, 8)
        for stage in range(config.words_per_block):
            block_field = Mux(event.closes, field_so_far, block_field)
            # With scale 1 the unit is 1.
            field = Mux(event.kind == Quantise.ACT, block_field, INTEGER_CODE + BLOCK_EXPONENT_OFFSET)
            event = delayed(m, event, 1, name=f"event_waiting{stage}", reset_less=False)
            events.append(event)
            field_so_far = delayed(m, field_so_far, 1, name=f"field_waiting{stage}")
            cuts = [delayed(m, cut, 1, name=f"cut{row}_waiting{stage}") for row, cut in enumerate(cuts)]
        field = delayed(m, field, 1, name="field_shifting")

        # Shift.
        is_empty = field < BLOCK_EXPONENT_OFFSET + 2
        shifted = [
            delayed(m, self._shifted(m, cut, field, name=f"cut{row}"), 1, name=f"shifted{row}")
            for row, cut in enumerate(cuts)
        ]
        is_empty = delayed(m, is_empty, 1, name="is_empty")
        field = delayed(m, field, 1, name="field")
        event = delayed(m, event, 1, name="event_shifted", reset_less=False)
        events.append(event)

        # Round.
        is_integers = event.kind == Quantise.INTEGERS
        values, are_clamped = [], []
        for row, lane in enumerate(shifted):
            value, is_clamped = self._rounded(lane, is_integers)
            values.append(delayed(m, Mux(is_empty, 0, value), 1, name=f"value{row}"))
            are_clamped.append(delayed(m, is_clamped, 1, name=f"is_clamped{row}"))
        code = delayed(m, Mux(is_empty, 0, field - BLOCK_EXPONENT_OFFSET)[:8], 1, name="code")
        # What the memories' ports are told is decoded a cycle ahead: they are far away.
        is_row, is_column = event.kind == Quantise.ROW, event.kind == Quantise.COLUMN
        the_row = gated(1 << event.index[: address_bits(config.rows)], is_row)
        the_column = (1 << event.index)[: config.cols]
        part = Cat((event.part == part).replicate(config.rows) for part in range(config.words_per_block))
        is_block, is_weight, is_column, written_rows, written_columns = (
            delayed(m, value, 1, name=name, reset_less=False)
            for name, value in (
                ("is_block", is_to_blocks(event.kind)),
                ("is_weight", is_row | is_column),
                ("is_column", is_column),
                ("written_rows", (the_row | is_column.replicate(config.rows))[: config.rows]),
                ("written_columns", Mux(is_column, the_column, part)),
            )
        )
        event = delayed(m, event, 1, name="event_rounded", reset_less=False)
        events.append(event)

        block, weight = self.block_write, self.weight_write
        m.d.comb += [
            block.enable.eq(is_block),
            block.block.eq(event.address),
            block.part.eq(event.part),
            block.code.eq(code),
            block.first.eq(event.is_first_block),
            block.tracker.eq(event.tracker),
            weight.enable.eq(is_weight),
            weight.address.eq(event.address),
            weight.by_column.eq(is_column),
            weight.rows.eq(written_rows),
            weight.columns.eq(written_columns),
            self.clamped.eq(Mux(is_weight, balanced(operator.add, are_clamped), 0)),
            self.is_outside.eq((event.kind != Quantise.NONE) & event.is_outside),
            self.busy.eq(Cat(event.kind != Quantise.NONE for event in events).any()),
        ]
        for row, value in enumerate(values):
            m.d.comb += [block.data[row].eq(value), weight.data[row].eq(value)]
        return m

    def _shifted(self, m: Module, cut, field: Value, *, name: str) -> data.View:
        """A lane in units of 2**(field - 133)."""
        result = Signal(_SHIFTED_LANE, name=f"{name}_shifted")
        distance = Signal(signed(9), name=f"{name}_distance")
        m.d.comb += distance.eq(field - cut.exponent)
        shift_bits = _MAGNITUDE_BITS.bit_length()
        shifted, lost = shift_right(m, cut.magnitude, distance[:shift_bits], name=name)
        kept = Mux(distance >> shift_bits > 0, 0, shifted)  # further than the guard bit: less than a half
        m.d.comb += [
            result.magnitude.eq(kept[1:]),
            result.guard.eq(kept[0]),
            result.sticky.eq(lost | cut.sticky),
            result.is_too_large.eq(distance < 0),
            result.sign.eq(cut.sign),
        ]
        return result

    def _rounded(self, lane, is_integers: Value) -> tuple[Value, Value]:
        """A lane rounded to nearest even, and whether it had to be clamped.

        ``is_integers``: a negative lane that is clamped becomes -128.
        """
        round_up = lane.guard & (lane.sticky | lane.magnitude[0])
        is_clamped = lane.is_too_large | (round_up & (lane.magnitude == QUANTISED_MAX))
        magnitude = Mux(is_clamped, QUANTISED_MAX, lane.magnitude)
        # The negative of a number is its complement plus one: rounding up takes that one away.
        sign = lane.sign.replicate(_MAGNITUDE_BITS + 1)
        # Without it, the complement of 127 is -128.
        value = (magnitude ^ sign) + ((round_up & ~is_clamped) ^ (lane.sign & ~(is_clamped & is_integers)))
        return value[: _MAGNITUDE_BITS + 1], is_clamped
