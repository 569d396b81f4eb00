"""Block RAM of an ECP5 that a tile's memories take: 18 kbit blocks (EBR, DP16KD), counted memory by memory.

Accumulators, activation blocks, scalar registers and the loop stack are small enough for distributed RAM and take none.
"""

from typing import NamedTuple

from .bundle import BundleFormat
from .config import TileConfig
from .host import TIMING_BITS
from .tables import KNOT_FRACTION_BITS, SEGMENTS, Function

__all__ = ["BOARD_EBR", "MODES", "MemoryUse", "blocks", "budget"]

BOARD_EBR = 208
"""Blocks of the LFE5U-85F."""

MODES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
"""Words and bits that one block can be; 36 bits only with one read and one write port."""

_BYTE = 9
"""A block's write enables cover 9 bits."""


class MemoryUse(NamedTuple):
    """One memory: its size, and the blocks that it takes with the reason for their number."""

    memory: str
    words: int
    bits: int
    ebr: int
    how: str


def blocks(words: int, bits: int) -> int:
    """Blocks of a memory that is written a whole word at a time, in the mode that needs fewest."""
    return min(-(-words // depth) * -(-bits // width) for depth, width in MODES)


def budget(config: TileConfig) -> tuple[MemoryUse, ...]:
    """The memories of a tile that are block RAM."""
    bank_words, _ = MODES[3]
    wide_words, wide_bits = MODES[5]
    banks, rest = divmod(config.wmem_words, bank_words)
    rest_banks = -(-rest // wide_words)
    bytes_a_block = wide_bits // _BYTE
    weights = config.multipliers * banks + rest_banks * config.multipliers // bytes_a_block

    lane_bits = -(-config.float_bits // _BYTE) * _BYTE
    vector_bits = config.rows * lane_bits

    def copy(words: int) -> int:
        return -(-words // wide_words) * -(-vector_bits // wide_bits)

    beats = BundleFormat(config).beats
    table_words = SEGMENTS * sum(1 for function in Function if function is not Function.NONE)
    table_bits = KNOT_FRACTION_BITS + 1
    return (
        MemoryUse(
            "weight SRAM", config.wmem_words, 8 * config.multipliers, weights,
            f"a byte a multiplier: {banks} x {bank_words} words of {_BYTE} bits each, "
            f"{rest_banks} x {wide_words} words of {bytes_a_block} multipliers together",
        ),
        MemoryUse(
            "vector SRAM", config.vmem_words, config.rows * config.float_bits, 2 * copy(config.vmem_words),
            f"two copies, one a read port; a lane takes {lane_bits} bits, since write enables cover {_BYTE}",
        ),
        MemoryUse(
            "scale SRAM", config.smem_words, config.rows * config.float_bits, copy(config.smem_words), "one read port",
        ),
        MemoryUse(
            "function tables", table_words, table_bits, (config.rows + 1) * blocks(table_words, table_bits),
            "one a lane, one for the scalar port",
        ),
        MemoryUse(
            "program", config.bundles, 32 * beats, beats * blocks(config.bundles, 32),
            "one a 32-bit beat, since the host writes beats",
        ),
        MemoryUse("timing memory", config.timings, TIMING_BITS, blocks(config.timings, TIMING_BITS), ""),
        MemoryUse("inbox", config.mailbox_words, 32, blocks(config.mailbox_words, 32), ""),
        MemoryUse(
            "outbox", config.mailbox_words, 64, blocks(config.mailbox_words, 64), "a word and its cycle",
        ),
    )  # fmt: skip
