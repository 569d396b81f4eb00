"""Operators of a language model that reads one token at a position. A vector of heads is (heads, head_dim)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from .operator import Operator, expect_shape
from .tensor import ElementType, GraphError, Tensor, TensorType, format_shape

__all__ = [
    "Argmax", "Attention", "CacheAppend", "Embedding", "ExpertLinear", "Linear", "RmsNorm", "Rotary", "RotaryAngles",
    "SiluGate", "TopExperts",
]  # fmt: skip

SCALAR = TensorType(())
INDEX = TensorType((), ElementType.INT32)


def linear_type(x: Tensor, weights: Tensor, leading: int = 0) -> TensorType:
    """What weights (*leading axes, *outputs, *inputs) make of x (*inputs). Raises GraphError when the inputs differ."""
    n_outputs = len(weights.shape) - leading - len(x.shape)
    if n_outputs < 1 or weights.shape[leading + n_outputs :] != x.shape:
        raise GraphError(f"input weights ({weights.name}) has shape {format_shape(weights.shape)}, expected "
                         f"{format_shape(x.shape)} of x ({x.name}) behind its outputs")  # fmt: skip
    return TensorType(weights.shape[leading : leading + n_outputs])


@dataclass(frozen=True)
class Embedding(Operator):
    """The token's row of a table (tokens, width)."""

    inputs: ClassVar = ("token", "table")
    elements: ClassVar = {"token": (ElementType.INT32,)}

    def _infer(self, token: Tensor, table: Tensor) -> tuple[TensorType, ...]:
        expect_shape("token", token, ())
        return (TensorType(table.shape[1:]),)


@dataclass(frozen=True)
class RmsNorm(Operator):
    """x / sqrt(mean of squares + epsilon) * gain."""

    epsilon: float

    inputs: ClassVar = ("x", "gain")

    def _infer(self, x: Tensor, gain: Tensor) -> tuple[TensorType, ...]:
        expect_shape("gain", gain, x.shape)
        return (x.type,)


@dataclass(frozen=True)
class Linear(Operator):
    """Weights (*outputs, *inputs) times x (*inputs)."""

    inputs: ClassVar = ("x", "weights")

    def _infer(self, x: Tensor, weights: Tensor) -> tuple[TensorType, ...]:
        return (linear_type(x, weights),)


@dataclass(frozen=True)
class ExpertLinear(Operator):
    """The weights of one expert, out of (experts, *outputs, *inputs), times x."""

    inputs: ClassVar = ("x", "weights", "expert")
    elements: ClassVar = {"expert": (ElementType.INT32,)}

    def _infer(self, x: Tensor, weights: Tensor, expert: Tensor) -> tuple[TensorType, ...]:
        expect_shape("expert", expert, ())
        return (linear_type(x, weights, 1),)


@dataclass(frozen=True)
class RotaryAngles(Operator):
    """Cosines and sines of the position's angles, for each component of a head whose pairs lie side by side.

    The pair 2i, 2i + 1 turns by position * theta ** (-2i / head_dim); sines are negative for the first of a pair.
    """

    theta: float
    head_dim: int
    positions: int

    inputs: ClassVar = ("position",)
    elements: ClassVar = {"position": (ElementType.INT32,)}

    def _infer(self, position: Tensor) -> tuple[TensorType, ...]:
        expect_shape("position", position, ())
        return (TensorType((self.head_dim,)),) * 2


@dataclass(frozen=True)
class Rotary(Operator):
    """Each head with its pairs of components turned: x * cos + (x with the two of each pair exchanged) * sin."""

    inputs: ClassVar = ("x", "cos", "sin")

    def _infer(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[TensorType, ...]:
        for name, table in (("cos", cos), ("sin", sin)):
            expect_shape(name, table, x.shape[-1:])
        return (x.type,)


@dataclass(frozen=True)
class CacheAppend(Operator):
    """A cache (positions, heads, head_dim) with what the position adds to it.

    by : how it lies in weight SRAM: a position is a row of keys, and a column of values.
    """

    positions: int
    by: Literal["row", "column"]

    inputs: ClassVar = ("x", "position")
    elements: ClassVar = {"position": (ElementType.INT32,)}

    def _infer(self, x: Tensor, position: Tensor) -> tuple[TensorType, ...]:
        expect_shape("position", position, ())
        return (TensorType((self.positions, *x.shape), ElementType.CACHE),)


@dataclass(frozen=True)
class Attention(Operator):
    """Attention of query heads over the caches up to the position; key and value heads are shared evenly.

    The weight of a position is 2 ** (factor * query . key), over their sum; ``scale`` multiplies each head's result.
    base : base code of the accumulators of queries times keys; 0 before anything is quantised.
    """

    factor: float
    base: int = 0

    inputs: ClassVar = ("queries", "keys", "values", "scale")
    optional: ClassVar = 1
    elements: ClassVar = {
        "queries": (ElementType.FLOAT, ElementType.BLOCKS),
        **dict.fromkeys(("keys", "values"), (ElementType.CACHE,)),
    }

    def _infer(
        self, queries: Tensor, keys: Tensor, values: Tensor, scale: Tensor | None = None
    ) -> tuple[TensorType, ...]:
        expect_shape("values", values, keys.shape)
        n_heads, head_dim = queries.shape
        if keys.shape[2] != head_dim or n_heads % keys.shape[1]:
            raise GraphError(f"input keys ({keys.name}) has shape {format_shape(keys.shape)}, expected heads of "
                             f"{head_dim} that {n_heads} queries can share evenly")  # fmt: skip
        if scale is not None:
            expect_shape("scale", scale, (n_heads,))
        return (TensorType(queries.shape),)


@dataclass(frozen=True)
class SiluGate(Operator):
    """gate / (1 + exp(-gate)) * up, times the share of the expert that it belongs to."""

    inputs: ClassVar = ("gate", "up", "share")
    optional: ClassVar = 1

    def _infer(self, gate: Tensor, up: Tensor, share: Tensor | None = None) -> tuple[TensorType, ...]:
        expect_shape("up", up, gate.shape)
        if share is not None:
            expect_shape("share", share, ())
        return (gate.type,)


@dataclass(frozen=True)
class TopExperts(Operator):
    """The ``count`` largest logits, of equals the lowest index: their indices, and then their shares.

    A share is 2 ** (factor * logit), over the sum of those of all that are chosen.
    """

    count: int
    factor: float

    inputs: ClassVar = ("logits",)

    def _infer(self, logits: Tensor) -> tuple[TensorType, ...]:
        if len(logits.shape) != 1 or not 1 <= self.count <= logits.size:
            raise GraphError(f"input logits ({logits.name}) has shape {format_shape(logits.shape)}, expected 1 axis of "
                             f"at least {self.count}")  # fmt: skip
        return (INDEX,) * self.count + (SCALAR,) * self.count


@dataclass(frozen=True)
class Argmax(Operator):
    """Index of the largest of the first ``valid`` elements, of equals the lowest."""

    valid: int

    inputs: ClassVar = ("x",)

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        if len(x.shape) != 1 or not 1 <= self.valid <= x.size:
            raise GraphError(f"input x ({x.name}) has shape {format_shape(x.shape)}, expected 1 axis of at least "
                             f"{self.valid}")  # fmt: skip
        return (INDEX,)
