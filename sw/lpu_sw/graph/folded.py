"""Operators that the compiler's passes put in the place of a model's: what the tile can do in one go."""

from dataclasses import dataclass
from typing import ClassVar

from .language import SCALAR, linear_type
from .operator import Operator, expect_shape
from .tensor import ElementType, Tensor, TensorType

__all__ = [
    "QuantiseBlocks", "QuantisedEmbedding", "ReciprocalRoot", "ScaledExpertLinear", "ScaledLinear", "SumOfSquares",
]  # fmt: skip

_QUANTISED = {"x": (ElementType.FLOAT, ElementType.BLOCKS), "weights": (ElementType.FLOAT, ElementType.INT8)}


@dataclass(frozen=True)
class SumOfSquares(Operator):
    """``start`` plus the sum of squares of all elements."""

    start: float

    inputs: ClassVar = ("x",)

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        return (SCALAR,)


@dataclass(frozen=True)
class ReciprocalRoot(Operator):
    """1 / sqrt(x)."""

    inputs: ClassVar = ("x",)

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        expect_shape("x", x, ())
        return (SCALAR,)


@dataclass(frozen=True)
class QuantiseBlocks(Operator):
    """x in activation blocks: int8 with one power-of-two exponent each.

    by_head : whether each head starts a block.
    """

    by_head: bool = False

    inputs: ClassVar = ("x",)

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        return (TensorType(x.shape, ElementType.BLOCKS),)


@dataclass(frozen=True)
class QuantisedEmbedding(Operator):
    """The token's row of an int8 table (tokens, width), times the row's scale."""

    inputs: ClassVar = ("token", "table", "scale")
    elements: ClassVar = {"token": (ElementType.INT32,), "table": (ElementType.INT8,)}

    def _infer(self, token: Tensor, table: Tensor, scale: Tensor) -> tuple[TensorType, ...]:
        expect_shape("token", token, ())
        expect_shape("scale", scale, table.shape[:1])
        return (TensorType(table.shape[1:]),)


@dataclass(frozen=True)
class ScaledLinear(Operator):
    """Weights (*outputs, *inputs) times x, times a scale an output, times a factor that is known only as it runs.

    base : base code of the accumulators; 0 before anything is quantised.
    """

    base: int = 0

    inputs: ClassVar = ("x", "weights", "scale", "factor")
    optional: ClassVar = 1
    elements: ClassVar = _QUANTISED

    def _infer(self, x: Tensor, weights: Tensor, scale: Tensor, factor: Tensor | None = None) -> tuple[TensorType, ...]:
        made = linear_type(x, weights)
        expect_shape("scale", scale, made.shape)
        if factor is not None:
            expect_shape("factor", factor, ())
        return (made,)


@dataclass(frozen=True)
class ScaledExpertLinear(Operator):
    """The same with one expert's weights and scale, out of (experts, ...)."""

    base: int = 0

    inputs: ClassVar = ("x", "weights", "scale", "expert", "factor")
    optional: ClassVar = 1
    elements: ClassVar = {**_QUANTISED, "expert": (ElementType.INT32,)}

    def _infer(
        self, x: Tensor, weights: Tensor, scale: Tensor, expert: Tensor, factor: Tensor | None = None
    ) -> tuple[TensorType, ...]:
        made = linear_type(x, weights, 1)
        expect_shape("scale", scale, (weights.shape[0], *made.shape))
        for name, scalar in (("expert", expert), ("factor", factor)):
            if scalar is not None:
                expect_shape(name, scalar, ())
        return (made,)
