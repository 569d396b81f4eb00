"""Weight SRAM under random row writes, column writes and reads at once."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from lpu_isa.config import TileConfig
from lpu_rtl.interfaces import WEIGHT_READ_LATENCY

from ..clock import start_clock
from ..runner import parameters

_CYCLES = 500
_WORDS = 10  # few enough that reads and writes meet


def _integer(values: np.ndarray) -> int:
    return int.from_bytes(values.astype(np.int8).tobytes(), "little")


@cocotb.test(timeout_time=100, timeout_unit="us")
async def traffic(dut) -> None:
    """Rows (with a mask of columns) and columns are written, nothing else changes, reads take two cycles."""
    config = TileConfig(**parameters()["config"])
    rng = np.random.default_rng(parameters()["seed"])
    rows, cols, depth = config.rows, config.cols, config.wmem_words
    words = sorted({0, depth - 1, *parameters()["words"], *rng.choice(depth, _WORDS, replace=False).tolist()})
    memory = {word: np.zeros((rows, cols), np.int8) for word in words}
    filled = [(word, column) for word in words for column in range(cols)]
    expected: list[int | None] = []

    dut.rst.value = 0
    dut.read__enable.value = 0
    start_clock(dut.clk)
    for cycle in range(len(filled) + _CYCLES):
        await FallingEdge(dut.clk)
        if cycle >= WEIGHT_READ_LATENCY and (wanted := expected[cycle - WEIGHT_READ_LATENCY]) is not None:
            assert dut.read__data.value.to_unsigned() == wanted, f"cycle {cycle}"
        word = words[int(rng.integers(len(words)))]
        is_read = cycle >= len(filled) and rng.random() < 0.8
        dut.read__enable.value = int(is_read)
        dut.read__address.value = word
        expected.append(_integer(memory[word]) if is_read else None)

        values = rng.integers(-128, 128, rows).astype(np.int8)
        row, columns, column = (int(rng.integers(n)) for n in (rows, 1 << cols, cols))
        by_column, is_written = rng.random() < 0.5, rng.random() < 0.9
        word = words[int(rng.integers(len(words)))]
        if cycle < len(filled):
            (word, column), by_column, is_written = filled[cycle], True, True
        dut.write__enable.value = int(is_written)
        dut.write__address.value = word
        dut.write__by_column.value = int(by_column)
        in_rows = (1 << rows) - 1 if by_column else 1 << row
        dut.write__rows.value = in_rows if is_written else 0
        dut.write__columns.value = 1 << column if by_column else columns
        dut.write__data.value = _integer(values)
        if is_written and by_column:
            memory[word][:, column] = values
        elif is_written:
            mask = columns >> np.arange(cols) & 1 == 1
            memory[word][row, mask] = np.tile(values, cols // rows)[mask]
