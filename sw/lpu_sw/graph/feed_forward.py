"""Operators of feed-forward networks, with ONNX's meaning and its order of axes (batch, channels, height, width)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .operator import Operator, expect_shape
from .tensor import ElementType, GraphError, Shape, Tensor, TensorType, format_shape

__all__ = [
    "AveragePool", "Conv", "DequantizeLinear", "Flatten", "GlobalAveragePool", "MatMul", "MaxPool",
    "QuantizeLinear", "Reshape", "Softmax", "Transpose",
]  # fmt: skip

Pads = tuple[int, int, int, int]
"""Padding above, left, below, right: ONNX's order for two axes."""


def _expect_image(name: str, tensor: Tensor) -> Shape:
    """A tensor's shape. Raises GraphError unless it has batch, channels, height and width."""
    if len(tensor.shape) != 4:
        raise GraphError(f"input {name} ({tensor.name}) has shape {format_shape(tensor.shape)}, expected 4 axes: "
                         "batch, channels, height, width")  # fmt: skip
    return tensor.shape


def _slid(tensor: Tensor, window: tuple[int, int], strides: tuple[int, int], pads: Pads) -> tuple[int, int]:
    """Height and width of what a sliding window makes. Raises GraphError when the padded image is smaller than it."""
    height = tensor.shape[2] + pads[0] + pads[2]
    width = tensor.shape[3] + pads[1] + pads[3]
    if height < window[0] or width < window[1]:
        raise GraphError(f"input ({tensor.name}) is {height} x {width} with padding, expected at least "
                         f"{window[0]} x {window[1]}")  # fmt: skip
    return (height - window[0]) // strides[0] + 1, (width - window[1]) // strides[1] + 1


@dataclass(frozen=True)
class Conv(Operator):
    """Convolution: weights (outputs, channels / groups, height, width), bias (outputs). Depthwise: a group each."""

    strides: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    groups: int = 1

    inputs: ClassVar = ("x", "weights", "bias")
    optional: ClassVar = 1

    def _infer(self, x: Tensor, weights: Tensor, bias: Tensor | None = None) -> tuple[TensorType, ...]:
        batch, channels, *_ = _expect_image("x", x)
        n_outputs, per_group, *window = _expect_image("weights", weights)
        if channels != per_group * self.groups or n_outputs % self.groups:
            raise GraphError(f"input weights ({weights.name}) has shape {format_shape(weights.shape)} in {self.groups} "
                             f"groups, expected {channels} channels of x ({x.name}) shared evenly")  # fmt: skip
        if bias is not None:
            expect_shape("bias", bias, (n_outputs,))
        return (TensorType((batch, n_outputs, *_slid(x, (window[0], window[1]), self.strides, self.pads))),)


@dataclass(frozen=True)
class MatMul(Operator):
    """x (..., in) times weights (in, out), plus bias (out): ONNX's MatMul, and its Gemm once transposed and scaled."""

    inputs: ClassVar = ("x", "weights", "bias")
    optional: ClassVar = 1

    def _infer(self, x: Tensor, weights: Tensor, bias: Tensor | None = None) -> tuple[TensorType, ...]:
        if not x.shape or len(weights.shape) != 2:
            raise GraphError(f"input weights ({weights.name}) has shape {format_shape(weights.shape)}, expected 2 axes")
        expect_shape("weights", weights, (x.shape[-1], weights.shape[1]))
        if bias is not None:
            expect_shape("bias", bias, (weights.shape[1],))
        return (TensorType((*x.shape[:-1], weights.shape[1])),)


@dataclass(frozen=True)
class MaxPool(Operator):
    """The largest value of a window; padding never wins."""

    window: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)

    inputs: ClassVar = ("x",)
    elements: ClassVar = {"x": tuple(ElementType)}

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        batch, channels, *_ = _expect_image("x", x)
        return (TensorType((batch, channels, *_slid(x, self.window, self.strides, self.pads)), x.element),)


@dataclass(frozen=True)
class AveragePool(Operator):
    """The mean of a window; counts_padding: zeros of the padding take part in it."""

    window: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    counts_padding: bool = False

    inputs: ClassVar = ("x",)

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        batch, channels, *_ = _expect_image("x", x)
        return (TensorType((batch, channels, *_slid(x, self.window, self.strides, self.pads))),)


@dataclass(frozen=True)
class GlobalAveragePool(Operator):
    """The mean of each channel: (batch, channels, 1, 1)."""

    inputs: ClassVar = ("x",)

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        batch, channels, *_ = _expect_image("x", x)
        return (TensorType((batch, channels, 1, 1)),)


@dataclass(frozen=True)
class Softmax(Operator):
    """Exponentials over their sum, along the last axis."""

    inputs: ClassVar = ("x",)

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        return (x.type,)


@dataclass(frozen=True)
class Flatten(Operator):
    """Two axes: those before ``axis`` together, and the rest together."""

    axis: int = 1

    inputs: ClassVar = ("x",)
    elements: ClassVar = {"x": tuple(ElementType)}

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        if not 0 <= self.axis <= len(x.shape):
            raise GraphError(f"found axis {self.axis}, expected 0 to {len(x.shape)}")
        shape = int(np.prod(x.shape[: self.axis])), int(np.prod(x.shape[self.axis :]))
        return (TensorType(shape, x.element),)


@dataclass(frozen=True)
class Reshape(Operator):
    """The same elements in the same order, with other axes."""

    shape: Shape

    inputs: ClassVar = ("x",)
    elements: ClassVar = {"x": tuple(ElementType)}

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        if int(np.prod(self.shape)) != x.size:
            raise GraphError(f"input x ({x.name}) has shape {format_shape(x.shape)}, expected as many elements as "
                             f"{format_shape(self.shape)}")  # fmt: skip
        return (TensorType(self.shape, x.element),)


@dataclass(frozen=True)
class Transpose(Operator):
    """Axis i of the output is axis ``permutation[i]`` of the input."""

    permutation: tuple[int, ...]

    inputs: ClassVar = ("x",)
    elements: ClassVar = {"x": tuple(ElementType)}

    def _infer(self, x: Tensor) -> tuple[TensorType, ...]:
        if sorted(self.permutation) != list(range(len(x.shape))):
            raise GraphError(
                f"found permutation {list(self.permutation)}, expected each of the {len(x.shape)} axes once"
            )
        return (TensorType(tuple(x.shape[axis] for axis in self.permutation), x.element),)


def _check_scale(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> None:
    """Scale and zero point are numbers, or one for each index along ``axis``."""
    along = [(x.shape[axis],)] if axis < len(x.shape) else []
    expect_shape("scale", scale, (), *along)
    expect_shape("zero_point", zero_point, scale.shape)


@dataclass(frozen=True)
class QuantizeLinear(Operator):
    """round(x / scale) + zero_point to nearest even, held within the integers of the zero point's type."""

    axis: int = 1

    inputs: ClassVar = ("x", "scale", "zero_point")
    elements: ClassVar = {"zero_point": (ElementType.INT8, ElementType.UINT8)}

    def _infer(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> tuple[TensorType, ...]:
        _check_scale(x, scale, zero_point, self.axis)
        return (TensorType(x.shape, zero_point.element),)


@dataclass(frozen=True)
class DequantizeLinear(Operator):
    """(x - zero_point) * scale."""

    axis: int = 1

    inputs: ClassVar = ("x", "scale", "zero_point")
    elements: ClassVar = dict.fromkeys(("x", "zero_point"), (ElementType.INT8, ElementType.UINT8, ElementType.INT32))

    def _infer(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> tuple[TensorType, ...]:
        _check_scale(x, scale, zero_point, self.axis)
        return (TensorType(x.shape),)
