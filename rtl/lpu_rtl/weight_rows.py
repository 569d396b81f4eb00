"""One row of a weight word, or a part of it, as a vector: for embeddings, and for the host."""

from amaranth import Array, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from lpu_isa.config import TileConfig

from .float.encoding import delayed
from .interfaces import WEIGHT_READ_LATENCY, WEIGHT_ROW_LATENCY, WeightRead, WeightRowRead

__all__ = ["WeightRows"]


class WeightRows(wiring.Component):
    """Reads a weight word and chooses ``rows`` values of one row.

    The word comes from all of the chip: the part is chosen beside each row, in the next cycle one row of each few, and
    in the last the row.

    Parameters
    ----------
    config : TileConfig

    Ports
    -----
    read : In(WeightRowRead)
    weights : Out(WeightRead)       To the weight SRAM, in the same cycle.
    """

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        super().__init__({"read": In(WeightRowRead(config)), "weights": Out(WeightRead(config))})

    def elaborate(self, platform) -> Module:
        m = Module()
        assert WEIGHT_ROW_LATENCY == WEIGHT_READ_LATENCY + 3
        rows, read = self.config.rows, self.read
        part = delayed(m, read.part, WEIGHT_READ_LATENCY, name="part")
        row = delayed(m, read.row, WEIGHT_READ_LATENCY + 1, name="row")
        parts = []
        for index in range(rows):
            word = Value.cast(self.weights.data[index])
            chosen = Array(word[at : at + 8 * rows] for at in range(0, len(word), 8 * rows))[part]
            parts.append(delayed(m, chosen, 1, name=f"part_of_row{index}"))
        near = exact_log2(rows) // 2
        row_next = delayed(m, row, 1, name="row_next")
        few = [
            delayed(m, Array(parts[at : at + (1 << near)])[row[:near]], 1, name=f"rows_from{at}")
            for at in range(0, rows, 1 << near)
        ]
        m.d.comb += [
            self.weights.enable.eq(read.enable),
            self.weights.address.eq(read.address),
            read.data.as_value().eq(delayed(m, Array(few)[row_next[near:]], 1, name="values")),
        ]
        return m
