"""Pass: a graph of QuantizeLinear and DequantizeLinear around float operators, to integer operators.

A float operator counts only from the integers that it takes to those that it is rounded to, as one step with one
rounding. What happens to the network's input before its first operator stays in a region of its own, ``host``.

Factors are made in float32 as onnxruntime makes them (``x_scale * weight_scale / scale``), so that products round
alike.
"""

from dataclasses import dataclass, replace

import numpy as np

from lpu_isa.formats import QUANTISED_MAX, QUANTISED_MIN
from lpu_sw.graph.elementwise import Add, Clip, Relu
from lpu_sw.graph.feed_forward import (
    AveragePool,
    Conv,
    DequantizeLinear,
    Flatten,
    GlobalAveragePool,
    MatMul,
    MaxPool,
    Pads,
    QuantizeLinear,
    Reshape,
    Softmax,
    Transpose,
)
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.integer import IntegerAdd, IntegerConv, IntegerSoftmax
from lpu_sw.graph.tensor import ElementType, GraphError, Shape, Tensor, format_shape

__all__ = ["IntegerNetwork", "Scaled", "integer_network"]

_UNSIGNED_SHIFT = -QUANTISED_MIN
"""uint8 is int8 and this."""


@dataclass(frozen=True)
class Scaled:
    """Integers of the new graph and what they stand for: ``(q - zero_point) * scale``.

    shape : of the tensor in the network; `tensor` is still the image that it was flattened from.
    is_unsigned : the network holds ``q + 128``.
    """

    tensor: Tensor
    scale: np.float32
    zero_point: int
    shape: Shape
    is_unsigned: bool


@dataclass(frozen=True)
class IntegerNetwork:
    """A graph of integer operators behind a region ``host``, and its result; ``is_float``: it leaves dequantised."""

    graph: Graph
    result: Scaled
    is_float: bool

    @property
    def given(self) -> Tensor:
        """What the host leaves for the tile."""
        host = self.graph.regions[0]
        return host.nodes[-1].output if host.nodes else self.graph.inputs[0]


@dataclass(frozen=True)
class _Constant:
    """Constant numbers, (data - zero point) * scale, which may be one a channel, along ``axis``."""

    data: np.ndarray
    scale: np.ndarray
    axis: int


@dataclass(frozen=True)
class _Sums:
    """Float products of weights and a window, not yet rounded. ``factor``: what one of the integer sums is worth."""

    x: Scaled
    weights: np.ndarray
    bias: np.ndarray
    factor: np.ndarray
    strides: tuple[int, int]
    pads: Pads
    groups: int
    shape: Shape | None = None


@dataclass(frozen=True)
class _Sum:
    a: Scaled
    b: Scaled


@dataclass(frozen=True)
class _Shares:
    x: Scaled


@dataclass(frozen=True)
class _Held:
    """A float value held between two bounds."""

    of: _Sums | _Sum | _Shares
    low: float
    high: float


_Value = Tensor | Scaled | _Constant | _Sums | _Sum | _Shares | _Held
"""What is known of a tensor: a float of the host, integers, or what waits for its rounding."""


def integer_network(graph: Graph) -> IntegerNetwork:
    """Rewrite the only region of a quantised network.

    Raises GraphError naming the node that is not quantised as it should be.
    """
    return _Rewriter(graph).network()


class _Rewriter:
    def __init__(self, graph: Graph) -> None:
        if len(graph.inputs) != 1 or len(graph.results) != 1:
            raise GraphError(f"graph {graph.name} has {len(graph.inputs)} inputs and {len(graph.results)} results, "
                             "supported is one of each")  # fmt: skip
        self._old = graph
        self._new = Graph(graph.name)
        self._host, self._network = self._new.region("host"), self._new.region("network")
        (given,) = graph.inputs
        if given.element not in (ElementType.FLOAT, ElementType.INT8):
            raise GraphError(f"input {given} is not supported, expected float32 or int8")
        self._values: dict[Tensor, _Value] = {given: self._new.input(given.name, given.shape, given.element)}

    def network(self) -> IntegerNetwork:
        for node in self._old.nodes():
            try:
                self._values[node.output] = self._rewrite(node)
            except GraphError as error:
                raise GraphError(f"node {node.name} ({node.operator.mnemonic()}): {error}") from None
        (result,) = self._old.results
        value = self._values[result]
        if not isinstance(value, Scaled):
            raise GraphError(f"result {result.name} is not quantised, expected a QuantizeLinear before it")
        self._new.result(value.tensor)
        return IntegerNetwork(self._new, value, result.element is ElementType.FLOAT)

    def _rewrite(self, node: Node) -> _Value:
        match node.operator:
            case QuantizeLinear():
                return self._quantised(node)
            case DequantizeLinear():
                return self._dequantised(node)
            case Conv() as conv:
                return self._conv(node, conv)
            case MatMul():
                return self._matmul(node)
            case AveragePool() as pool:
                if pool.counts_padding or not any(pool.pads):
                    return self._average(node, pool.window, pool.strides, pool.pads)
                raise GraphError("found padding that does not count, supported is none or such as counts")
            case GlobalAveragePool():
                _, _, height, width = node.inputs[0].shape
                return self._average(node, (height, width), (1, 1), (0, 0, 0, 0))
            case Add():
                a, b = (self._scaled(tensor) for tensor in node.inputs)
                return _Sum(a, b)
            case Softmax():
                return _Shares(self._scaled(node.inputs[0]))
            case Relu():
                return self._held(node, 0.0, np.inf)
            case Clip(low, high):
                return self._held(node, low, high)
            case MaxPool():
                x = self._scaled(node.inputs[0])
                tensor = self._network.add(node.name, node.operator, x.tensor)
                return replace(x, tensor=tensor, shape=tensor.shape)
            case Flatten() | Reshape() | Transpose():
                return self._moved(node)
        raise GraphError("is not an operator of feed-forward networks")

    def _scaled(self, tensor: Tensor) -> Scaled:
        value = self._values.get(tensor)
        if isinstance(value, Tensor) and value.element is ElementType.INT8:
            return Scaled(value, np.float32(1), 0, value.shape, False)
        if not isinstance(value, Scaled):
            raise GraphError(f"input {tensor.name} is not quantised, expected a DequantizeLinear before it")
        return value

    def _image(self, tensor: Tensor) -> Scaled:
        """Integers that are an image. Raises GraphError for one that has been flattened."""
        value = self._scaled(tensor)
        if value.shape != value.tensor.shape:
            raise GraphError(f"input {tensor.name} is an image {format_shape(value.tensor.shape)} in another order, "
                             "supported are MatMul and Gemm on it")  # fmt: skip
        return value

    def _constant(self, tensor: Tensor) -> _Constant:
        value = self._values.get(tensor)
        if isinstance(value, _Constant):
            return value
        raise GraphError(f"input {tensor.name} is no quantised constant, expected int8 behind a DequantizeLinear")

    # Scales.

    def _number(self, tensor: Tensor) -> np.ndarray:
        if tensor.data is None:
            raise GraphError(f"input {tensor.name} is computed, supported is a constant")
        return tensor.data

    def _dequantised(self, node: Node) -> _Value:
        x, scale, zero_point = node.inputs
        zeros = self._number(zero_point).astype(np.int64)
        if x.data is not None:
            shift = _UNSIGNED_SHIFT if x.element is ElementType.UINT8 else 0
            if np.any(zeros != shift):
                raise GraphError(f"constant {x.name} has zero points {np.unique(zeros).tolist()}, supported is "
                                 f"{shift} for {x.element.value}")  # fmt: skip
            operator = node.operator
            assert isinstance(operator, DequantizeLinear)
            return _Constant(x.data.astype(np.int64) - shift, self._number(scale), operator.axis)
        value = self._scaled(x)
        one = self._one_scale(scale, zero_point)
        if value.tensor in (*self._new.inputs,) or value.tensor in self._made_by_host():
            return replace(value, scale=one[0], zero_point=one[1])
        if (value.scale, value.zero_point) != one:
            raise GraphError(f"input {x.name} was quantised with scale {value.scale} and zero point "
                             f"{value.zero_point}, found {one[0]} and {one[1]}")  # fmt: skip
        return value

    def _made_by_host(self) -> list[Tensor]:
        return [node.output for node in self._host.nodes]

    def _one_scale(self, scale: Tensor, zero_point: Tensor) -> tuple[np.float32, int]:
        """One scale and zero point, that of int8."""
        if scale.size != 1:
            raise GraphError(f"input {scale.name} has {scale.size} scales, supported is one for an activation")
        shift = _UNSIGNED_SHIFT if zero_point.element is ElementType.UINT8 else 0
        return np.float32(self._number(scale).item()), int(self._number(zero_point).item()) - shift

    def _quantised(self, node: Node) -> _Value:
        x, scale, zero_point = node.inputs
        one, zero = self._one_scale(scale, zero_point)
        is_unsigned = zero_point.element is ElementType.UINT8
        value = self._values.get(x)
        if isinstance(value, Tensor):
            constants = (
                self._new.constant(f"{node.name}.scale", np.array(one)),
                self._new.constant(f"{node.name}.zero_point", np.array(zero, np.int8), ElementType.INT8),
            )
            tensor = self._host.add(node.name, QuantizeLinear(), value, *constants)
            return Scaled(tensor, one, zero, tensor.shape, is_unsigned)
        if isinstance(value, Scaled):
            if (value.scale, value.zero_point) == (one, zero):
                return value
            value = self._identity(value)
        low, high = -np.inf, np.inf
        if isinstance(value, _Held):
            value, low, high = value.of, value.low, value.high
        is_relu = self._check_bounds(low, high, one, zero)
        made = Scaled(self._rounded(node, value, one, zero, is_relu), one, zero, x.shape, is_unsigned)
        return made

    def _check_bounds(self, low: float, high: float, scale: np.float32, zero: int) -> bool:
        """Whether a value that is held from ``low`` to ``high`` must be raised to 0 before it is rounded."""
        if np.rint(high / scale) + zero < QUANTISED_MAX:
            raise GraphError(f"values above {high} are cut off below the largest int8 value, supported is a scale that "
                             "ends there")  # fmt: skip
        if np.rint(low / scale) + zero <= QUANTISED_MIN:
            return False
        if low != 0:
            raise GraphError(f"values below {low} are cut off above the smallest int8 value, supported are 0 and a "
                             "scale that ends there")  # fmt: skip
        return True

    def _rounded(self, node: Node, value: _Value | None, scale: np.float32, zero: int, is_relu: bool) -> Tensor:
        match value:
            case _Sums(x):
                operator = IntegerConv(value.strides, value.pads, value.groups, x.zero_point, zero, is_relu)
                constants = (
                    self._new.constant(f"{node.name}.weights", value.weights.astype(np.int8), ElementType.INT8),
                    self._new.constant(f"{node.name}.bias", value.bias.astype(np.int32), ElementType.INT32),
                    self._new.constant(f"{node.name}.factor", (value.factor / scale).astype(np.float32)),
                )
                return self._network.add(node.name, operator, x.tensor, *constants)
            case _Sum(a, b) if not is_relu:
                factors = [float(np.float32(term.scale / scale)) for term in (a, b)]
                operator = IntegerAdd(a.zero_point, factors[0], b.zero_point, factors[1], zero)
                return self._network.add(node.name, operator, a.tensor, b.tensor)
            case _Shares(x) if not is_relu:
                operator = IntegerSoftmax(float(x.scale), float(scale), zero)
                return self._network.add(node.name, operator, x.tensor)
        raise GraphError("found nothing that can be rounded to integers before it")

    # Operators.

    def _conv(self, node: Node, conv: Conv) -> _Sums:
        x, weights = self._image(node.inputs[0]), self._constant(node.inputs[1])
        scale = self._per_output(weights, 0)
        factor = np.float32(x.scale) * scale
        bias = self._bias(node, factor)
        return _Sums(x, weights.data, bias, factor, conv.strides, conv.pads, conv.groups)

    def _matmul(self, node: Node) -> _Sums:
        """A product with all of the image: a convolution whose window is the image."""
        x, weights = self._scaled(node.inputs[0]), self._constant(node.inputs[1])
        if len(x.shape) != 2:
            raise GraphError(f"input {node.inputs[0].name} has {len(x.shape)} axes, supported are 2 (use Flatten)")
        image = x.tensor.shape if len(x.tensor.shape) == 4 else (1, x.shape[1], 1, 1)
        if len(x.tensor.shape) == 2:
            x = replace(x, tensor=self._host.add(f"{node.name}.image", Reshape(image), x.tensor))
        factor = np.float32(x.scale) * self._per_output(weights, 1)
        kernel = weights.data.T.reshape(-1, *image[1:])
        return _Sums(x, kernel, self._bias(node, factor), factor, (1, 1), (0, 0, 0, 0), 1)

    def _per_output(self, weights: _Constant, axis: int) -> np.ndarray:
        n_outputs = weights.data.shape[axis]
        if weights.scale.size > 1 and weights.axis != axis:
            raise GraphError(f"found weight scales along axis {weights.axis}, supported are those of outputs ({axis})")
        return np.broadcast_to(weights.scale.ravel(), (n_outputs,)).astype(np.float32)

    def _bias(self, node: Node, factor: np.ndarray) -> np.ndarray:
        if len(node.inputs) < 3:
            return np.zeros(factor.shape, np.int64)
        tensor = node.inputs[2]
        if tensor.data is not None:  # float
            return np.rint(tensor.data / factor).astype(np.int64)
        bias = self._constant(tensor)
        if not np.allclose(bias.scale, factor, rtol=1e-5, atol=0):
            raise GraphError(f"input {tensor.name} has scale {bias.scale.ravel()[0]}, expected those of input and "
                             f"weights together, {factor[0]}")  # fmt: skip
        return bias.data

    def _average(self, node: Node, window: tuple[int, int], strides: tuple[int, int], pads: Pads) -> _Sums:
        """A sum over a window, a group for each channel."""
        x = self._image(node.inputs[0])
        channels = x.shape[1]
        factor = np.full(channels, x.scale / np.float32(window[0] * window[1]), np.float32)
        weights = np.ones((channels, 1, *window), np.int64)
        return _Sums(x, weights, np.zeros(channels, np.int64), factor, strides, pads, channels)

    def _identity(self, x: Scaled) -> _Sums:
        channels = x.tensor.shape[1]
        weights = np.ones((channels, 1, 1, 1), np.int64)
        factor = np.full(channels, x.scale, np.float32)
        return _Sums(x, weights, np.zeros(channels, np.int64), factor, (1, 1), (0, 0, 0, 0), channels)

    def _held(self, node: Node, low: float, high: float) -> _Held:
        value = self._values.get(node.inputs[0])
        if isinstance(value, Scaled):
            value = self._identity(value)
        if isinstance(value, _Held):
            return _Held(value.of, max(low, value.low), min(high, value.high))
        if not isinstance(value, _Sums | _Sum | _Shares):
            raise GraphError(f"input {node.inputs[0].name} is not quantised, expected a DequantizeLinear before it")
        return _Held(value, low, high)

    def _moved(self, node: Node) -> _Value:
        """Other axes: the host's work for the input, none for constants and for an image that is flattened."""
        value = self._values.get(node.inputs[0])
        operator = node.operator
        if isinstance(value, _Constant) and isinstance(operator, Transpose):
            axis = operator.permutation.index(value.axis) if value.scale.size > 1 else value.axis
            return _Constant(value.data.transpose(operator.permutation), value.scale, axis)
        if isinstance(value, Tensor):
            return self._host.add(node.name, _reshaping(node), value)
        x = self._scaled(node.inputs[0])
        if x.tensor in self._new.inputs or x.tensor in self._made_by_host():
            tensor = self._host.add(node.name, _reshaping(node), x.tensor)
            return replace(x, tensor=tensor, shape=tensor.shape)
        shape = node.output.shape
        if isinstance(operator, Transpose) and _lasting_axes(x.shape) != _lasting_axes(x.shape, operator.permutation):
            raise GraphError("moves elements on the tile, supported is a transposed input of the network")
        if shape == x.tensor.shape or max(shape) == x.tensor.size:
            return replace(x, shape=shape)
        raise GraphError(
            f"found the shape {format_shape(shape)}, supported is one axis of all {x.tensor.size} elements"
        )


def _reshaping(node: Node) -> Reshape | Transpose:
    return node.operator if isinstance(node.operator, Transpose) else Reshape(node.output.shape)


def _lasting_axes(shape: Shape, permutation: Shape | None = None) -> list[int]:
    """The axes that have more than one element, in their order."""
    return [axis for axis in permutation or range(len(shape)) if shape[axis] > 1]
