"""Weight SRAM: a word of ``rows x cols`` int8 a cycle, written a row or a column at a time."""

from amaranth import Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from lpu_isa.config import TileConfig

from .bank import Bank
from .interfaces import WeightRead, WeightWrite
from .primitives import Technology, replicated

__all__ = ["WeightMemory"]

_BYTE = 8


class WeightMemory(wiring.Component):
    """A bank for each row with a write enable for each of its bytes, so that rows and columns are nothing but enables.

    The memory takes up the whole chip. So both ports are registered before they go to the banks, once for each row.

    Parameters
    ----------
    config : TileConfig
        Takes ``rows``, ``cols`` and ``wmem_words``. On the FPGA 2,560 words of 8 x 16 are 160 block RAMs.
    technology : Technology
        ``GENERIC`` or ``ECP5``.

    Ports
    -----
    read : In(WeightRead)       Address in cycle c, word in c + `WEIGHT_READ_LATENCY`.
    write : In(WeightWrite)     Cycle c; seen by reads whose address cycle is a later one.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        self.config = config
        self.technology = technology
        super().__init__({"read": In(WeightRead(config)), "write": In(WeightWrite(config))})

    def elaborate(self, platform) -> Module:
        m = Module()
        for row in range(self.config.rows):
            m.d.comb += self.read.data[row].as_value().eq(self._row(m, row))
        return m

    def _row(self, m: Module, row: int) -> Value:
        """One row's bank, and what is read from it."""
        rows, cols = self.config.rows, self.config.cols
        m.submodules[f"bank{row}"] = bank = Bank(self.config.wmem_words, cols, _BYTE, self.technology)
        read, write = self.read, self.write

        def here(name: str, value: Value) -> Value:
            return replicated(m, f"{name}{row}", value, self.technology)

        is_written, columns = here("is_written", write.rows[row]), here("columns", write.columns)
        by_column, values = here("by_column", write.by_column), here("values", write.data.as_value())
        m.d.comb += [
            bank.write_address.eq(here("write_address", write.address)),
            bank.read_enable.eq(here("read_enable", read.enable)),
            bank.read_address.eq(here("read_address", read.address)),
        ]
        for col in range(cols):
            value = Mux(by_column, values.word_select(row, _BYTE), values.word_select(col % rows, _BYTE))
            m.d.comb += [bank.write_enable[col].eq(is_written & columns[col]), bank.write_data[col].eq(value)]
        return bank.read_data.as_value()
