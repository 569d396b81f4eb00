"""The shape of a tile: every width and depth that the other files derive theirs from."""

from dataclasses import dataclass, fields, replace
from functools import cached_property

__all__ = ["SHAPES", "TileConfig", "address_bits"]


def address_bits(depth: int) -> int:
    """Bits that count from 0 to ``depth - 1``, at least one."""
    return max(1, (depth - 1).bit_length())


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class TileConfig:
    """Shape of one tile.

    Parameters
    ----------
    rows : int
        Lanes of a vector and rows of the matrix unit; a power of two, at least 4.
    cols : int
        Columns of the matrix unit and int8 values of an activation block; a power of two, a multiple of ``rows``.
    wmem_words : int
        Weight SRAM, words of ``rows x cols`` int8.
    vmem_words, smem_words : int
        Vector SRAM and scale SRAM, words of ``rows`` floats.
    act_blocks : int
        Activation buffer, blocks of ``cols`` int8 with one exponent.
    accumulators : int
        Accumulator bank, entries of ``rows`` fixed-point sums.
    summed : int
        Entries of it, from 0 on, that can be added to at any time; see `lpu_isa.mxm`.
    bundles : int
        Program memory.
    timings : int
        Timing memory: distances to the next bundle that depend on the position.
    mailbox_words : int
        Depth of the inbox and of the outbox.
    significand_bits : int
        18 (one ECP5 multiplier a lane) or 24 (IEEE-754 binary32), the leading one included.

    Raises ``ValueError`` naming the parameter, its value and what it must be.
    """

    rows: int = 8
    cols: int = 16
    wmem_words: int = 2560
    vmem_words: int = 512
    smem_words: int = 512
    act_blocks: int = 64
    accumulators: int = 64
    summed: int = 32
    bundles: int = 512
    timings: int = 4096
    mailbox_words: int = 512
    significand_bits: int = 18

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{field.name} must be a positive integer, not {value!r}")
        if not _is_power_of_two(self.rows) or self.rows < 4:
            raise ValueError(f"rows must be a power of two, at least 4, not {self.rows}")
        if not _is_power_of_two(self.cols) or self.cols % self.rows:
            raise ValueError(f"cols must be a power of two and a multiple of rows ({self.rows}), not {self.cols}")
        if self.significand_bits not in (18, 24):
            raise ValueError(f"significand_bits must be 18 or 24, not {self.significand_bits}")
        for name in ("vmem_words", "smem_words", "act_blocks", "accumulators", "summed", "bundles", "timings",
                     "mailbox_words"):  # fmt: skip
            if not _is_power_of_two(getattr(self, name)):
                raise ValueError(f"{name} must be a power of two, not {getattr(self, name)}")
        if self.accumulators < 16 or self.act_blocks < 16:
            raise ValueError("accumulators and act_blocks must be at least 16")
        if not 16 <= self.summed <= self.accumulators:
            raise ValueError(f"summed must be from 16 to accumulators ({self.accumulators}), not {self.summed}")

    def replace(self, **changes: int) -> "TileConfig":
        """A copy with some parameters changed."""
        return replace(self, **changes)

    @property
    def name(self) -> str:
        """Short name such as ``8x16``."""
        return f"{self.rows}x{self.cols}"

    @property
    def words_per_block(self) -> int:
        """Vectors of ``rows`` lanes that fill one activation block of ``cols`` values."""
        return self.cols // self.rows

    @property
    def multipliers(self) -> int:
        """Multiplications of the matrix unit a cycle."""
        return self.rows * self.cols

    @cached_property
    def tree_levels(self) -> int:
        """Levels of the matrix unit's adder tree."""
        return self.cols.bit_length() - 1

    @property
    def float_bits(self) -> int:
        """Bits of one float lane: sign, 8-bit exponent, ``significand_bits - 1`` of fraction."""
        return 8 + self.significand_bits


SHAPES = {
    "4x4": TileConfig(4, 4, wmem_words=512, vmem_words=256, smem_words=256, act_blocks=32, accumulators=32, bundles=512,
                      timings=512, mailbox_words=64),
    "8x16": TileConfig(),
    "16x16": TileConfig(16, 16, wmem_words=2048, act_blocks=128),
    "16x16-cnn": TileConfig(16, 16, wmem_words=512, vmem_words=8192, act_blocks=256, accumulators=256, summed=256,
                            bundles=4096, timings=512, significand_bits=24),
}  # fmt: skip
"""The named shapes: ``4x4`` for tests, ``8x16`` for the ECP5-85F board (the default), ``16x16``, and ``16x16-cnn`` for
convolutional networks: images in vector SRAM, rows of them in the activation buffer, programs without loops, and
binary32, in which sums and products of int8 networks round as they do elsewhere."""
