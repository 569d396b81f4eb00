"""Reader of ONNX files: feed-forward networks as graphs, operator by operator.

Source: the ONNX operator specifications (opset 13 and later). A batch is one input; a batch of unknown or larger size
is read as one. Constants keep their element types; integers of 64 bits are shapes and stay with the operators.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lpu_sw.graph import feed_forward
from lpu_sw.graph.elementwise import Add, Clip, Relu
from lpu_sw.graph.graph import Graph, Region
from lpu_sw.graph.operator import Operator
from lpu_sw.graph.tensor import ElementType, GraphError, Tensor

if TYPE_CHECKING:
    import onnx

__all__ = ["OPERATORS", "OnnxError", "read_onnx"]

_ELEMENTS = {
    np.dtype(np.float32): ElementType.FLOAT,
    np.dtype(np.int8): ElementType.INT8,
    np.dtype(np.uint8): ElementType.UINT8,
    np.dtype(np.int32): ElementType.INT32,
}


class OnnxError(ValueError):
    """A file that cannot be read as a network: the node, what was found and what was expected, in one line."""


def read_onnx(path: str | Path, dims: Mapping[str, int] | None = None) -> Graph:
    """The network in a file, with one region, ``network``.

    dims : sizes of the axes that the file leaves open, by the name that it has for them (else ``INPUT.AXIS``).

    Raises OnnxError for a file that is no valid ONNX model or has what `OPERATORS` lacks and for a size of no open
    axis, GraphError for shapes that do not fit together, and OSError.
    """
    try:
        import onnx
    except ImportError:
        raise OnnxError("reading ONNX needs the package onnx: pip install 'lpu-tile[onnx]'") from None
    from google.protobuf.message import DecodeError

    raw = Path(path).read_bytes()
    try:
        model = onnx.load_model_from_string(raw)
    except DecodeError:
        raise OnnxError(f"{path}: found no ONNX model, expected one") from None
    try:
        return _Reader(model, Path(path).stem, dims or {}).graph
    except (OnnxError, GraphError) as error:
        raise type(error)(f"{path}: {error}") from None


def _expect_valid(model: "onnx.ModelProto") -> None:
    """Raise OnnxError unless the model is what ONNX's own checker takes, shapes included."""
    from onnx import checker, shape_inference

    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError, ValueError) as error:
        raise OnnxError(f"found no valid ONNX model: {' '.join(str(error).split())}") from None


class _Node:
    """A node of the file: its attributes as Python values."""

    def __init__(self, proto: "onnx.NodeProto") -> None:
        from onnx import helper

        self.kind = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        self.name = proto.name or "".join(self.outputs[:1])
        self._attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in proto.attribute}

    def __str__(self) -> str:
        return f"node {self.name} ({self.kind})"

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        return tuple(self._attributes.get(name, default))

    def number(self, name: str, default: Any) -> Any:
        """An attribute that is a number."""
        return self._attributes.get(name, default)

    def text(self, name: str, default: str) -> str:
        """An attribute that is text."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def expect(self, name: str, expected: Any, default: Any) -> None:
        """Raise OnnxError unless an attribute has the one value that is supported."""
        found = self._attributes.get(name, default)
        if (list(found) if isinstance(expected, list) else found) != expected:
            raise OnnxError(f"{self}: found {name} {found}, supported is {expected}")


class _Reader:
    """Makes the graph while it walks through the file's nodes."""

    def __init__(self, model: "onnx.ModelProto", name: str, dims: Mapping[str, int]) -> None:
        from onnx import helper, numpy_helper

        nodes = [_Node(proto) for proto in model.graph.node]
        unknown = [str(node) for node in nodes if node.kind not in OPERATORS]
        if unknown:
            raise OnnxError(f"{', '.join(unknown)}: not supported, expected operators are {', '.join(OPERATORS)}")
        _expect_valid(model)
        self.graph = Graph(name)
        self.region: Region = self.graph.region("network")
        self._data = {proto.name: numpy_helper.to_array(proto) for proto in model.graph.initializer}
        self._tensors: dict[str, Tensor] = {}
        open_axes: set[str] = set()
        for value in model.graph.input:
            if value.name in self._data:
                continue
            tensor_type = value.type.tensor_type
            dtype = helper.tensor_dtype_to_np_dtype(tensor_type.elem_type)
            if dtype not in _ELEMENTS:
                raise OnnxError(f"input {value.name}: found {dtype}, expected {_elements()}")
            sizes = [1]
            for axis, dimension in enumerate(tensor_type.shape.dim[1:], 1):
                called = dimension.dim_param or f"{value.name}.{axis}"
                sizes.append(dimension.dim_value or dims.get(called, 0))
                open_axes |= set() if dimension.dim_value else {called}
                if sizes[-1] < 1:
                    raise OnnxError(f"input {value.name}: axis {axis} has no known size, say which, as in "
                                    f"--dim {called}=32")  # fmt: skip
            self._tensors[value.name] = self.graph.input(value.name, tuple(sizes), _ELEMENTS[dtype])
        if needless := sorted(dims.keys() - open_axes):
            raise OnnxError(f"found sizes for {', '.join(needless)}, open axes are {', '.join(open_axes) or 'none'}")
        for node in nodes:
            OPERATORS[node.kind](self, node)
        for value in model.graph.output:
            self.graph.result(self._tensors[value.name])

    def constant(self, node: _Node, index: int) -> np.ndarray:
        """The numbers of an input that must be a constant."""
        name = node.inputs[index]
        if name not in self._data:
            raise OnnxError(f"{node}: input {index} ({name}) is computed, supported is a constant")
        return self._data[name]

    def keep(self, node: _Node, data: np.ndarray) -> None:
        """Remember what a node of constants makes."""
        self._data[node.outputs[0]] = data

    def tensor(self, node: _Node, index: int) -> Tensor:
        """An input as a tensor of the graph. Raises OnnxError when nothing made it."""
        name = node.inputs[index]
        if name not in self._tensors:
            if name not in self._data:
                raise OnnxError(f"{node}: nothing before it makes its input {name}")
            data = self._data[name]
            if data.dtype not in _ELEMENTS:
                raise OnnxError(f"{node}: input {name} holds {data.dtype}, expected {_elements()}")
            self._tensors[name] = self.graph.constant(name, data, _ELEMENTS[data.dtype])
        return self._tensors[name]

    def has(self, node: _Node, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(node.inputs) and node.inputs[index] != ""

    def add(self, node: _Node, operator: Operator, *inputs: Tensor) -> None:
        """The node as one of the graph, under the name of its output."""
        self._tensors[node.outputs[0]] = self.region.add(node.outputs[0], operator, *inputs)


def _elements() -> str:
    return ", ".join(str(dtype) for dtype in _ELEMENTS)


def _plain(operator: Operator) -> "Callable[[_Reader, _Node], None]":
    """Of an operator without attributes, all of whose inputs are tensors."""
    return lambda reader, node: reader.add(
        node, operator, *(reader.tensor(node, index) for index in range(len(node.inputs)))
    )


def _padding(node: _Node, x: Tensor, window: tuple[int, int], strides: tuple[int, int]) -> feed_forward.Pads:
    """Pads above, left, below and right, as given or as ``auto_pad`` computes them."""
    mode = node.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        above, left, below, right = node.integers("pads", (0, 0, 0, 0))
        return above, left, below, right
    if mode == "VALID":
        return 0, 0, 0, 0
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise OnnxError(f"{node}: found auto_pad {mode}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    totals = [
        max(0, (-(-size // stride) - 1) * stride + length - size)
        for size, length, stride in zip(x.shape[2:], window, strides, strict=True)
    ]
    first = [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals]
    return first[0], first[1], totals[0] - first[0], totals[1] - first[1]


def _window(node: _Node, x: Tensor, window: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int], Any]:
    """Window, strides and padding of a node that slides one over an image."""
    if len(x.shape) != 4 or len(window) != 2:
        raise OnnxError(f"{node}: found {len(x.shape)} axes and the window {list(window)}, supported are images of 4 "
                        "axes and a window of 2")  # fmt: skip
    node.expect("dilations", [1, 1], (1, 1))
    height, width = window
    down, across = node.integers("strides", (1, 1))
    return (height, width), (down, across), _padding(node, x, (height, width), (down, across))


def _conv(reader: _Reader, node: _Node) -> None:
    x, weights = reader.tensor(node, 0), reader.tensor(node, 1)
    _, strides, pads = _window(node, x, weights.shape[2:])
    operator = feed_forward.Conv(strides, pads, node.number("group", 1))
    reader.add(node, operator, *(reader.tensor(node, index) for index in range(len(node.inputs))))


def _gemm(reader: _Reader, node: _Node) -> None:
    for name, expected in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
        node.expect(name, expected, expected)
    weights = reader.tensor(node, 1)
    if node.number("transB", 0):
        weights = reader.region.add(f"{node.outputs[0]}, transposed weights", feed_forward.Transpose((1, 0)), weights)
    bias = (reader.tensor(node, 2),) if reader.has(node, 2) else ()
    reader.add(node, feed_forward.MatMul(), reader.tensor(node, 0), weights, *bias)


def _max_pool(reader: _Reader, node: _Node) -> None:
    node.expect("ceil_mode", 0, 0)
    x = reader.tensor(node, 0)
    reader.add(node, feed_forward.MaxPool(*_window(node, x, node.integers("kernel_shape", ()))), x)


def _average_pool(reader: _Reader, node: _Node) -> None:
    node.expect("ceil_mode", 0, 0)
    x = reader.tensor(node, 0)
    window = _window(node, x, node.integers("kernel_shape", ()))
    reader.add(node, feed_forward.AveragePool(*window, bool(node.number("count_include_pad", 0))), x)


def _clip(reader: _Reader, node: _Node) -> None:
    bounds = [
        float(reader.constant(node, index).item()) if reader.has(node, index) else default
        for index, default in ((1, -np.inf), (2, np.inf))
    ]
    reader.add(node, Clip(*bounds), reader.tensor(node, 0))


def _softmax(reader: _Reader, node: _Node) -> None:
    x = reader.tensor(node, 0)
    axis = node.number("axis", -1)
    if axis not in (-1, len(x.shape) - 1):
        raise OnnxError(f"{node}: found axis {axis}, supported is the last one")
    reader.add(node, feed_forward.Softmax(), x)


def _flatten(reader: _Reader, node: _Node) -> None:
    x = reader.tensor(node, 0)
    reader.add(node, feed_forward.Flatten(node.number("axis", 1) % (len(x.shape) + 1)), x)


def _reshape(reader: _Reader, node: _Node) -> None:
    x, sizes = reader.tensor(node, 0), reader.constant(node, 1).tolist()
    shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    if -1 in shape:
        shape[shape.index(-1)] = x.size // int(np.prod([size for size in shape if size != -1]))
    reader.add(node, feed_forward.Reshape(tuple(shape)), x)


def _transpose(reader: _Reader, node: _Node) -> None:
    x = reader.tensor(node, 0)
    permutation = node.integers("perm", tuple(reversed(range(len(x.shape)))))
    reader.add(node, feed_forward.Transpose(permutation), x)


def _linear_quantisation(
    operator: type[feed_forward.QuantizeLinear] | type[feed_forward.DequantizeLinear], unsigned: bool
) -> "Callable[[_Reader, _Node], None]":
    """QuantizeLinear and DequantizeLinear: a zero point that is left out is 0, of the type that the input has."""

    def read(reader: _Reader, node: _Node) -> None:
        x, scale = reader.tensor(node, 0), reader.tensor(node, 1)
        if reader.has(node, 2):
            zero_point = reader.tensor(node, 2)
        else:
            element = ElementType.UINT8 if unsigned else x.element
            dtype = next(dtype for dtype, known in _ELEMENTS.items() if known is element)
            zeros = np.zeros(scale.shape, dtype)
            zero_point = reader.graph.constant(f"{node.outputs[0]}.zero_point", zeros, element)
        axis = node.number("axis", 1)
        axis += len(x.shape) if axis < 0 else 0
        reader.add(node, operator(axis), x, scale, zero_point)

    return read


def _constant(reader: _Reader, node: _Node) -> None:
    from onnx import numpy_helper

    value = node.number("value", None)
    if value is None:
        raise OnnxError(f"{node}: found no tensor as its value, supported is one")
    reader.keep(node, numpy_helper.to_array(value))


OPERATORS: Mapping[str, Callable[[_Reader, _Node], None]] = {
    "Add": _plain(Add()),
    "AveragePool": _average_pool,
    "Clip": _clip,
    "Constant": _constant,
    "Conv": _conv,
    "DequantizeLinear": _linear_quantisation(feed_forward.DequantizeLinear, unsigned=False),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _plain(feed_forward.GlobalAveragePool()),
    "MatMul": _plain(feed_forward.MatMul()),
    "MaxPool": _max_pool,
    "QuantizeLinear": _linear_quantisation(feed_forward.QuantizeLinear, unsigned=True),
    "Relu": _plain(Relu()),
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Transpose": _transpose,
}
"""What a file may hold, by the operator's name in ONNX."""
