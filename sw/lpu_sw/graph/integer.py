"""Operators on int8 images with static scales: what is left of a network once its scales are folded into factors.

A value stands for ``(q - zero_point) * scale``; the scales themselves are gone. Images are (1, channels,
height, width).
"""

from dataclasses import dataclass
from typing import ClassVar

from .feed_forward import Conv
from .operator import Operator, expect_shape
from .tensor import ElementType, GraphError, Tensor, TensorType

__all__ = ["IntegerAdd", "IntegerConv", "IntegerSoftmax", "Unfold"]

_INT8 = (ElementType.INT8,)


@dataclass(frozen=True)
class IntegerConv(Operator):
    """clamp(round((sum of weights * (x - x_zero) + bias) * factor) + zero_point); round to nearest even.

    factor : one an output channel. is_relu : the product is raised to 0 before it is rounded.
    """

    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int
    x_zero: int
    zero_point: int
    is_relu: bool = False

    inputs: ClassVar = ("x", "weights", "bias", "factor")
    elements: ClassVar = {"x": _INT8, "weights": _INT8, "bias": (ElementType.INT32,)}

    def _infer(self, x: Tensor, weights: Tensor, bias: Tensor, factor: Tensor) -> tuple[TensorType, ...]:
        expect_shape("factor", factor, bias.shape)
        (made,) = Conv(self.strides, self.pads, self.groups)._infer(x, weights, bias)
        return (TensorType(made.shape, ElementType.INT8),)


@dataclass(frozen=True)
class IntegerAdd(Operator):
    """clamp(round((a - a_zero) * a_factor + (b - b_zero) * b_factor + zero_point)); round to nearest even."""

    a_zero: int
    a_factor: float
    b_zero: int
    b_factor: float
    zero_point: int

    inputs: ClassVar = ("a", "b")
    elements: ClassVar = dict.fromkeys(inputs, _INT8)

    def _infer(self, a: Tensor, b: Tensor) -> tuple[TensorType, ...]:
        expect_shape("b", b, a.shape)
        return (a.type,)


@dataclass(frozen=True)
class IntegerSoftmax(Operator):
    """clamp(round(softmax(x * x_scale) / scale) + zero_point) over the channels of an image of one pixel."""

    x_scale: float
    scale: float
    zero_point: int

    inputs: ClassVar = ("x",)
    elements: ClassVar = {"x": _INT8}

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        expect_shape("x", x, (1, x.shape[1], 1, 1))
        return (x.type,)


@dataclass(frozen=True)
class Unfold(Operator):
    """The columns that a window of a row covers, as channels: (1, channels * window, height, positions of the window).

    Channel ``c * window + k`` of column x is channel c of column ``x * stride + k - left``. Beside the image there is
    ``padding``.
    """

    window: int
    stride: int
    left: int
    right: int
    padding: int

    inputs: ClassVar = ("x",)
    elements: ClassVar = {"x": _INT8}

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        batch, channels, height, width = x.shape
        positions = (self.left + width + self.right - self.window) // self.stride + 1
        if positions < 1:
            raise GraphError(
                f"input x ({x.name}) is {width} columns wide, expected at least {self.window} with padding"
            )
        return (TensorType((batch, channels * self.window, height, positions), ElementType.INT8),)
