"""Operators that work element by element, in language models and in feed-forward networks alike."""

from dataclasses import dataclass
from typing import ClassVar

from .operator import Operator, expect_shape
from .tensor import Tensor, TensorType

__all__ = ["Add", "Clip", "Multiply", "Relu"]


@dataclass(frozen=True)
class Add(Operator):
    """Sum of two tensors, element by element."""

    inputs: ClassVar = ("a", "b")

    def _infer(self, a: Tensor, b: Tensor) -> tuple[TensorType, ...]:
        expect_shape("b", b, a.shape)
        return (TensorType(a.shape),)


@dataclass(frozen=True)
class Multiply(Operator):
    """Product of two tensors, element by element."""

    inputs: ClassVar = ("a", "b")

    def _infer(self, a: Tensor, b: Tensor) -> tuple[TensorType, ...]:
        expect_shape("b", b, a.shape)
        return (TensorType(a.shape),)


@dataclass(frozen=True)
class Relu(Operator):
    """max(x, 0)."""

    inputs: ClassVar = ("x",)

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        return (x.type,)


@dataclass(frozen=True)
class Clip(Operator):
    """x, but not below ``low`` and not above ``high``."""

    low: float
    high: float

    inputs: ClassVar = ("x",)

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        return (x.type,)
