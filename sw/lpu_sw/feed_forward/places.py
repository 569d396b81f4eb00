"""Where images and constants lie in the memories of a tile."""

from dataclasses import dataclass

import numpy as np

from lpu_isa.config import TileConfig
from lpu_sw.compiler.memory import ceil_div
from lpu_sw.graph.tensor import Shape

__all__ = ["Area", "ImageShape", "PlacesError", "Space"]


class PlacesError(ValueError):
    """A network that does not fit the tile: which memory, for what, how much there is and how much it needs."""


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


class Space:
    """Words of a memory: images from the first word on, given back when they are not needed any more, and constants
    from the last word down, which lie where no image has ever been, since they are there from the start.
    """

    def __init__(self, name: str, words: int) -> None:
        self.name, self.words = name, words
        self._free: list[tuple[int, int]] = []
        self._images, self._constants = 0, words

    def take(self, words: int, purpose: str) -> int:
        """The first of so many words side by side, for an image. Raises PlacesError when there are not as many."""
        for index, (first, length) in enumerate(self._free):
            if length >= words:
                self._free[index : index + 1] = [(first + words, length - words)] if length > words else []
                return first
        first = self._images
        if self._free and sum(self._free[-1]) == first:
            first = self._free.pop()[0]
        if first + words > self._constants:
            raise self._error(words, self._constants - first, purpose)
        self._images = first + words
        return first

    def give_back(self, first: int, words: int) -> None:
        """Free what `take` gave."""
        whole = sorted([*self._free, (first, words)])
        self._free = []
        for start, length in whole:
            if self._free and sum(self._free[-1]) == start:
                self._free[-1] = (self._free[-1][0], self._free[-1][1] + length)
            else:
                self._free.append((start, length))

    def keep(self, words: int, purpose: str) -> int:
        """The first of so many words side by side, for constants. Raises PlacesError when there are not as many."""
        if self._constants - words < self._images:
            raise self._error(words, self._constants - self._images, purpose)
        self._constants -= words
        return self._constants

    @property
    def constants(self) -> slice:
        """The words of the constants."""
        return slice(self._constants, self.words)

    def _error(self, words: int, left: int, purpose: str) -> PlacesError:
        return PlacesError(
            f"{purpose} needs {words} words of {self.name} side by side, {left} of {self.words} are free"
        )

    def array(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """Zeros for every word."""
        return np.zeros((self.words, *shape), dtype)
