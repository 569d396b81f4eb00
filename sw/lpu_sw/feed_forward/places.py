"""Images in vector SRAM."""

from dataclasses import dataclass

from lpu_isa.config import TileConfig
from lpu_sw.compiler.memory import ceil_div
from lpu_sw.graph.tensor import Shape

__all__ = ["Area", "ImageShape"]


@dataclass(frozen=True)
class ImageShape:
    """An image (channels, height, width) as vectors: pixel after pixel, ``words`` vectors of ``rows`` channels each.

    block : vectors of a pixel that share an activation block; blocks : activation blocks of a pixel.
    """

    channels: int
    height: int
    width: int
    words: int
    block: int

    @classmethod
    def of(cls, tile: TileConfig, shape: Shape) -> "ImageShape":
        """The image of a tensor (1, channels, height, width): whole blocks, but for one that one vector holds."""
        _, channels, height, width = shape
        words = ceil_div(channels, tile.rows)
        block = 1 if words == 1 else tile.words_per_block
        return cls(channels, height, width, ceil_div(words, block) * block, block)

    @property
    def blocks(self) -> int:
        """Activation blocks of a pixel."""
        return self.words // self.block

    @property
    def row_words(self) -> int:
        """Vectors of a row of the image."""
        return self.width * self.words

    @property
    def size(self) -> int:
        """Vectors of the image."""
        return self.height * self.row_words


@dataclass(frozen=True)
class Area:
    """An image in vector SRAM, from word ``first`` on."""

    first: int
    image: ImageShape

    def word(self, y: int, x: int = 0, vector: int = 0) -> int:
        """The word of a pixel's vector."""
        return self.first + (y * self.image.width + x) * self.image.words + vector
