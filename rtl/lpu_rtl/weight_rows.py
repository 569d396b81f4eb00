"""One row of a weight word, or a part of it, as a vector: for embeddings, and for the host."""

from operator import or_

from amaranth import Array, Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig

from .float.encoding import delayed, gated
from .float.tree import balanced
from .interfaces import WEIGHT_READ_LATENCY, WEIGHT_ROW_LATENCY, WeightRead, WeightRowRead
from .primitives import Technology, replicated

__all__ = ["WeightRows"]

_FEW = 4
"""Rows that a look-up table brings together."""


class WeightRows(wiring.Component):
    """Reads a weight word and chooses ``rows`` values of one row.

    The word comes from all of the chip: the part is chosen beside each row, where rows that are not wanted become zero;
    in the next two cycles they come together.

    Parameters
    ----------
    config : TileConfig
    technology : Technology
        What registers in several places are built from.

    Ports
    -----
    read : In(WeightRowRead)
    weights : Out(WeightRead)       To the weight SRAM, in the same cycle.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        self.config, self.technology = config, technology
        super().__init__({"read": In(WeightRowRead(config)), "weights": Out(WeightRead(config))})

    def elaborate(self, platform) -> Module:
        m = Module()
        assert WEIGHT_ROW_LATENCY == WEIGHT_READ_LATENCY + 3
        rows, read = self.config.rows, self.read
        part = delayed(m, read.part, WEIGHT_READ_LATENCY - 1, name="part")
        row = delayed(m, read.row, WEIGHT_READ_LATENCY - 1, name="row")
        # A gate a row and an `or` of them take less than a choice by number.
        is_row = delayed(m, Cat(row == index for index in range(rows)), 1, name="is_row")
        parts = []
        for index in range(rows):
            word = Value.cast(self.weights.data[index])
            part_here = replicated(m, f"part{index}", part, self.technology)
            chosen = Array(word[at : at + 8 * rows] for at in range(0, len(word), 8 * rows))[part_here]
            parts.append(delayed(m, gated(chosen, is_row[index]), 1, name=f"part_of_row{index}"))
        few = [
            delayed(m, balanced(or_, parts[at : at + _FEW]), 1, name=f"rows_from{at}") for at in range(0, rows, _FEW)
        ]
        m.d.comb += [
            self.weights.enable.eq(read.enable),
            self.weights.address.eq(read.address),
            read.data.as_value().eq(delayed(m, balanced(or_, few), 1, name="values")),
        ]
        return m
