"""What an operator needs of the tile's memories, and how tensors fill vectors and blocks."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from lpu_isa.config import TileConfig
from lpu_isa.formats import FloatFormat
from lpu_sw.asm.matrix import weight_words
from lpu_sw.graph.tensor import Shape, Tensor

__all__ = [
    "KEPT", "RING", "Contents", "Demand", "DoesNotFit", "Memory", "Sizes", "Stretch", "ceil_div", "check_bundles",
    "check_room", "check_summed",
]  # fmt: skip


class DoesNotFit(ValueError):
    """A model that a tile cannot hold: which memory is short, by how much, and of what."""


class Memory(Enum):
    """Memories that hold tensors, by the names that users read."""

    WEIGHTS = "weight SRAM"
    SCALES = "scale SRAM"
    VECTORS = "vector SRAM"
    BLOCKS = "activation buffer"
    ACCUMULATORS = "accumulators"

    def depth(self, tile: TileConfig) -> int:
        """Words that a tile has of it."""
        return {
            Memory.WEIGHTS: tile.wmem_words,
            Memory.SCALES: tile.smem_words,
            Memory.VECTORS: tile.vmem_words,
            Memory.BLOCKS: tile.act_blocks,
            Memory.ACCUMULATORS: tile.accumulators,
        }[self]


class Stretch(NamedTuple):
    """Words ``first .. first + words`` of a memory, for a memory map."""

    memory: Memory
    name: str
    first: int
    words: int


def check_room(memory: Memory, tile: TileConfig, need: int, purpose: str) -> None:
    """Raise `DoesNotFit` unless a memory has as many words as ``purpose`` needs."""
    words = memory.depth(tile)
    if need > words:
        raise DoesNotFit(f"the {memory.value} of the {tile.name} tile is short by {need - words} words: {purpose} "
                         f"needs {need}, the tile has {words}")  # fmt: skip


def check_summed(tile: TileConfig, need: int, purpose: str) -> None:
    """Raise `DoesNotFit` unless a tile can add to as many accumulators as ``purpose`` needs."""
    if need > tile.summed:
        raise DoesNotFit(f"the accumulators of the {tile.name} tile that can be added to are short by "
                         f"{need - tile.summed}: {purpose} needs {need}, the tile has {tile.summed}")  # fmt: skip


def check_bundles(tile: TileConfig, need: int) -> None:
    """Raise `DoesNotFit` unless a tile takes a program of so many bundles."""
    if need > tile.bundles:
        raise DoesNotFit(f"the program takes {need} bundles, the {tile.name} tile has {tile.bundles}")


RING = "ring"
"""Name of the words of a memory that lie before or behind all others and are taken in turn."""

KEPT = "kept"
"""Name of the accumulators that a matmul walked over many steps keeps."""

Contents = Callable[[tuple[int, ...]], np.ndarray]
"""Words of one round of the region (and one expert): its indices -> words."""


@dataclass(frozen=True)
class Demand:
    """Words of a memory; the same name stands for the same words.

    Of the words called `RING`, it asks for the least number.
    constant : the tensor that lies there, None for what is made as the program runs. experts : sets of words that a
    chosen expert has one of. contents : what the words hold at first; zeros when None.
    """

    memory: Memory
    name: str
    words: int
    constant: Tensor | None = None
    experts: int = 0
    contents: Contents | None = None


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class Sizes:
    """How tensors fill the words of a tile, with caches of ``context`` positions.

    A tensor with heads, (heads, head_dim), has each head padded to whole vectors: one where a head fits a vector, else
    whole activation blocks.
    """

    tile: TileConfig
    context: int

    def head_vectors(self, head_dim: int) -> int:
        """Vectors of one head."""
        if head_dim <= self.tile.rows:
            return 1
        return ceil_div(head_dim, self.tile.cols) * self.tile.words_per_block

    def vectors(self, shape: Shape) -> int:
        """Vectors of a tensor."""
        if len(shape) < 2:
            return ceil_div(int(np.prod(shape)), self.tile.rows)
        return int(np.prod(shape[:-1])) * self.head_vectors(shape[-1])

    def blocks(self, shape: Shape, by_head: bool = False) -> int:
        """Activation blocks of a tensor; ``by_head``: a head starts a block."""
        if by_head:
            return int(np.prod(shape[:-1])) * ceil_div(self.head_vectors(shape[-1]), self.tile.words_per_block)
        return ceil_div(self.vectors(shape), self.tile.words_per_block)

    @property
    def key_groups(self) -> int:
        """Weight words of one block of one head's keys: ``rows`` positions each."""
        return ceil_div(self.context, self.tile.rows)

    @property
    def value_steps(self) -> int:
        """Weight words of one vector of one head's values: ``cols`` positions each."""
        return ceil_div(self.context, self.tile.cols)

    def missing(self, shape: Shape) -> int:
        """Lanes that a head of a tensor lacks to whole vectors; 0 for a tensor without heads."""
        return self.head_vectors(shape[-1]) * self.tile.rows - shape[-1] if len(shape) > 1 else 0

    def matrix_words(self, values: np.ndarray, n_outputs: int) -> np.ndarray:
        """Weight words of int8 (*outputs, *inputs), the first ``n_outputs`` axes being outputs."""
        outputs, inputs = values.shape[:n_outputs], values.shape[n_outputs:]
        padding = [(0, 0)] * values.ndim
        padding[n_outputs - 1], padding[-1] = (0, self.missing(outputs)), (0, self.missing(inputs))
        padded = np.pad(values, padding)
        return weight_words(self.tile, padded.reshape(int(np.prod(padded.shape[:n_outputs])), -1))

    def float_words(self, values: np.ndarray) -> np.ndarray:
        """Vector words of a tensor, rounded to the tile's format: float64 (words, rows)."""
        padding = [(0, 0)] * (values.ndim - 1) + [(0, self.missing(values.shape))]
        lanes = FloatFormat(self.tile.significand_bits).round(np.pad(values.astype(np.float64), padding).ravel())
        return np.pad(lanes, (0, -len(lanes) % self.tile.rows)).reshape(-1, self.tile.rows)
