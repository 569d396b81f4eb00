"""The values of a graph: constants with their numbers, and what operators make."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

__all__ = ["ElementType", "GraphError", "Shape", "Tensor", "TensorType", "format_shape"]

Shape = tuple[int, ...]


class GraphError(ValueError):
    """A graph that cannot be: the node, the input, what was found and what was expected, in one line."""


class ElementType(Enum):
    """What the elements of a tensor are.

    BLOCKS : int8 with one power-of-two exponent for each activation block of the tile.
    CACHE : int8 with a static scale, kept from position to position.
    """

    FLOAT = "float32"
    INT8 = "int8"
    UINT8 = "uint8"
    INT32 = "int32"
    BLOCKS = "int8 blocks"
    CACHE = "int8 cache"


@dataclass(frozen=True)
class TensorType:
    """Shape and elements of a tensor."""

    shape: Shape
    element: ElementType = ElementType.FLOAT

    def __str__(self) -> str:
        return f"{self.element.value}{format_shape(self.shape)}"


@dataclass(frozen=True, eq=False)
class Tensor:
    """One value, made once.

    name : unique in its graph. Its kind is what stands before the first dot.
    data : the numbers of a constant, of the tensor's shape; None for what is computed.
    rounds : of a constant that a repeated region uses: its ``data`` has one more axis in front, an entry a round;
        0 for a constant that is the same in all rounds.
    """

    name: str
    type: TensorType
    data: np.ndarray | None = None
    rounds: int = 0

    def __post_init__(self) -> None:
        expected = (self.rounds, *self.shape) if self.rounds else self.shape
        if self.data is not None and self.data.shape != expected:
            raise GraphError(f"constant {self.name}: found numbers of shape {format_shape(self.data.shape)}, expected "
                             f"{format_shape(expected)}")  # fmt: skip

    @property
    def shape(self) -> Shape:
        """Sizes along the axes; of one round, where the constant differs from round to round."""
        return self.type.shape

    @property
    def element(self) -> ElementType:
        """What the elements are."""
        return self.type.element

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    @property
    def numbers(self) -> np.ndarray:
        """The numbers of a constant. Raises GraphError for any other tensor."""
        if self.data is None:
            raise GraphError(f"tensor {self.name} is computed, expected a constant")
        return self.data

    @property
    def kind(self) -> str:
        """The name up to its first dot: ``hidden`` of ``hidden.attended``."""
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        rounds = f"{self.rounds} x " if self.rounds else ""
        return f"{self.name}: {rounds}{self.type}"


def format_shape(shape: Shape) -> str:
    """A shape as text: ``[8, 16]``."""
    return f"[{', '.join(map(str, shape))}]"
