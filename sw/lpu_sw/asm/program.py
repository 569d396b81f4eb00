"""A program in memory: what the assembler and the builder make, and the simulator, checker and image file take."""

from dataclasses import dataclass, field

import numpy as np

from lpu_isa.bundle import Bundle
from lpu_isa.config import TileConfig
from lpu_isa.host import Window

from .errors import Span

__all__ = ["Program", "Region", "Section"]


@dataclass(frozen=True)
class Region:
    """A named range of a memory: ``words`` words of ``space`` from ``address`` on."""

    space: str
    address: int
    words: int


@dataclass
class Section:
    """Start contents of a memory.

    ``space`` is ``wmem`` (``data`` int8, shape (words, rows, cols)), ``vmem`` or ``smem`` (encoded floats, uint32,
    shape (words, rows)); ``address`` is the first word.
    """

    space: str
    address: int
    data: np.ndarray

    @property
    def window(self) -> Window:
        """The host's window onto the memory."""
        return Window[self.space.upper()]

    @property
    def words(self) -> np.ndarray:
        """The contents as the host writes them: uint32 (words, beats)."""
        data = np.ascontiguousarray(self.data).reshape(len(self.data), -1)
        return data.view("<u4") if data.dtype == np.int8 else data


@dataclass
class Program:
    """Bundles for one tile, with what they need beside them.

    ``timings``: contents of timing memory from address 0, uint16. ``inbox``: words that the host sends first, when a
    run is given no others. ``sources``: where each bundle was written (None when unknown), one a bundle.
    """

    config: TileConfig
    bundles: list[Bundle]
    timings: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))
    sections: list[Section] = field(default_factory=list)
    inbox: list[int] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    regions: dict[str, Region] = field(default_factory=dict)
    constants: dict[str, int | float] = field(default_factory=dict)
    registers: dict[str, int] = field(default_factory=dict)
    sources: list[Span | None] = field(default_factory=list)
