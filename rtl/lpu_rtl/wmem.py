"""Weight SRAM: a word of ``rows x cols`` int8 a cycle, written a row or a column at a time."""

from amaranth import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from lpu_isa.config import TileConfig

from .bank import Bank
from .interfaces import WeightRead, WeightWrite
from .primitives import Technology

__all__ = ["WeightMemory"]

_BYTE = 8


class WeightMemory(wiring.Component):
    """A bank with a write enable for each of its bytes, so that rows and columns are nothing but enables.

    Parameters
    ----------
    config : TileConfig
        Takes ``rows``, ``cols`` and ``wmem_words``. On the FPGA 2,560 words of 8 x 16 are 160 block RAMs.
    technology : Technology
        ``GENERIC`` or ``ECP5``.

    Ports
    -----
    read : In(WeightRead)       Address in cycle c, word in c + 2.
    write : In(WeightWrite)     Cycle c; seen by reads of later cycles.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        self.config = config
        self.technology = technology
        super().__init__({"read": In(WeightRead(config)), "write": In(WeightWrite(config))})

    def elaborate(self, platform) -> Module:
        m = Module()
        rows, cols = self.config.rows, self.config.cols
        m.submodules.bank = bank = Bank(self.config.wmem_words, rows * cols, _BYTE, self.technology)
        write = self.write
        for row in range(rows):
            for col in range(cols):
                in_row = (write.row == row) & write.columns[col]
                in_column = write.column == col
                byte = row * cols + col
                m.d.comb += [
                    bank.write_enable[byte].eq(write.enable & Mux(write.by_column, in_column, in_row)),
                    bank.write_data[byte].eq(Mux(write.by_column, write.data[row], write.data[col % rows])),
                ]
        m.d.comb += [
            bank.write_address.eq(write.address),
            bank.read_enable.eq(self.read.enable),
            bank.read_address.eq(self.read.address),
            self.read.data.as_value().eq(bank.read_data.as_value()),
        ]
        return m
