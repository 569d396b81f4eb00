"""Rewrite an int8 TFLite network as ONNX with QuantizeLinear and DequantizeLinear around float operators.

    pip install onnx tflite
    python models/tflite_to_onnx.py pretrainedResnet_quant.tflite resnet8.onnx

For the image classification and keyword spotting networks of MLPerf Tiny: convolutions (depthwise too), additions,
average pools, fully connected layers and softmax. TFLite's images have their channels last: the input keeps that order,
and a Transpose stands behind it. Activations that TFLite fuses into an operator need no node where the output's zero
point is the smallest integer, since rounding clamps there.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

_DTYPES = {tflite.TensorType.INT8: np.int8, tflite.TensorType.INT32: np.int32}
_ACTIVATIONS = (tflite.ActivationFunctionType.NONE, tflite.ActivationFunctionType.RELU)


class Converter:
    """Walks through the operators of a network and collects the nodes of the other one."""

    def __init__(self, raw: bytes) -> None:
        self.model = tflite.Model.GetRootAsModel(raw, 0)
        self.graph = self.model.Subgraphs(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def convert(self) -> onnx.ModelProto:
        """The whole network. Raises ValueError naming an operator that this script does not know."""
        given, made = self.graph.Inputs(0), self.graph.Outputs(0)
        shape = self.shape(given)
        value = helper.make_tensor_value_info("input", TensorProto.INT8, shape)
        self.node("Transpose", ["input"], self.name(given), perm=[0, 3, 1, 2])
        self.dequantise(given)
        for index in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(index)
            code = self.model.OperatorCodes(operator.OpcodeIndex())
            kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            if kind not in OPERATORS:
                raise ValueError(f"operator {index}: found TFLite's operator {kind}, expected one of {list(OPERATORS)}")
            OPERATORS[kind](self, operator)
        result = helper.make_tensor_value_info(self.name(made), TensorProto.INT8, self.shape(made))
        graph = helper.make_graph(self.nodes, "network", [value], [result], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model

    # Tensors.

    def name(self, tensor: int) -> str:
        """Of the integers of a tensor."""
        return f"tensor{tensor}"

    def shape(self, tensor: int) -> list[int]:
        """Sizes along the axes."""
        return self.graph.Tensors(tensor).ShapeAsNumpy().tolist()

    def data(self, tensor: int) -> np.ndarray:
        """The numbers of a constant."""
        found = self.graph.Tensors(tensor)
        raw = self.model.Buffers(found.Buffer()).DataAsNumpy()
        return raw.view(_DTYPES[found.Type()]).reshape(found.ShapeAsNumpy())

    def scale(self, tensor: int) -> np.ndarray:
        """One float32, or one a channel."""
        return self.graph.Tensors(tensor).Quantization().ScaleAsNumpy().astype(np.float32)

    def zero_point(self, tensor: int) -> int:
        """Of an activation."""
        return int(self.graph.Tensors(tensor).Quantization().ZeroPointAsNumpy()[0])

    def constant(self, name: str, data: np.ndarray) -> str:
        """A constant of the new network."""
        self.constants.append(numpy_helper.from_array(np.asarray(data, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        """A node of the new network; returns its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def quantisation(self, tensor: int) -> list[str]:
        """Names of an activation's scale and zero point."""
        names = [f"{self.name(tensor)}.scale", f"{self.name(tensor)}.zero_point"]
        if not any(constant.name == names[0] for constant in self.constants):
            self.constant(names[0], self.scale(tensor)[0])
            self.constant(names[1], np.array(self.zero_point(tensor), np.int8))
        return names

    def dequantise(self, tensor: int) -> str:
        """The floats that an activation stands for, made once."""
        name = f"{self.name(tensor)}.float"
        if not any(node.output[0] == name for node in self.nodes):
            self.node("DequantizeLinear", [self.name(tensor), *self.quantisation(tensor)], name)
        return name

    def quantise(self, value: str, tensor: int) -> None:
        """Floats back to the integers of an activation."""
        self.node("QuantizeLinear", [value, *self.quantisation(tensor)], self.name(tensor))

    def weights(self, tensor: int, data: np.ndarray, scale: np.ndarray) -> str:
        """A constant of integers, dequantised along its first axis."""
        name = f"weights{tensor}"
        zeros = self.constant(f"{name}.zero_point", np.zeros(scale.shape, data.dtype))
        names = [self.constant(f"{name}.integers", data), self.constant(f"{name}.scale", scale), zeros]
        return self.node("DequantizeLinear", names, name, axis=0)

    # Operators.

    def finish(self, operator: tflite.Operator, options: object, value: str) -> None:
        """Quantise the output, having checked that its activation is part of that."""
        (output,) = operator.OutputsAsNumpy().tolist()
        activation = options.FusedActivationFunction()  # type: ignore[attr-defined]
        if activation not in _ACTIVATIONS or (activation and self.zero_point(output) != -128):
            raise ValueError(f"{value}: found activation {activation}, expected none or a clamp at the zero point -128")
        self.quantise(value, output)

    def weighted(self, operator: tflite.Operator, kind: str, options: object, layout: tuple[int, ...], **attributes):
        """A convolution or a fully connected layer; ``layout``: the axes of the weights in ONNX's order."""
        x, weights, bias = operator.InputsAsNumpy().tolist()
        scale = np.broadcast_to(self.scale(weights), self.data(bias).shape).astype(np.float32)
        data = self.data(weights).transpose(layout)
        inputs = [
            self.dequantise(x),
            self.weights(weights, data, scale),
            self.weights(bias, self.data(bias), (self.scale(x)[0] * scale).astype(np.float32)),
        ]
        if "group" in attributes:
            attributes["group"] = data.shape[0]
        value = f"{self.name(operator.Outputs(0))}.{kind.lower()}"
        self.finish(operator, options, self.node(kind, inputs, value, **attributes))


def _options(operator: tflite.Operator, kind: type) -> object:
    options = kind()
    options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
    return options


def _sliding(options: object) -> dict[str, object]:
    padding = "SAME_UPPER" if options.Padding() == tflite.Padding.SAME else "VALID"  # type: ignore[attr-defined]
    return {"auto_pad": padding, "strides": [options.StrideH(), options.StrideW()]}  # type: ignore[attr-defined]


def _conv(converter: Converter, operator: tflite.Operator) -> None:
    options = _options(operator, tflite.Conv2DOptions)
    converter.weighted(operator, "Conv", options, (0, 3, 1, 2), **_sliding(options))


def _depthwise(converter: Converter, operator: tflite.Operator) -> None:
    options = _options(operator, tflite.DepthwiseConv2DOptions)
    converter.weighted(operator, "Conv", options, (3, 0, 1, 2), group=0, **_sliding(options))


def _fully_connected(converter: Converter, operator: tflite.Operator) -> None:
    options = _options(operator, tflite.FullyConnectedOptions)
    converter.weighted(operator, "Gemm", options, (0, 1), transB=1)


def _add(converter: Converter, operator: tflite.Operator) -> None:
    inputs = [converter.dequantise(tensor) for tensor in operator.InputsAsNumpy().tolist()]
    value = converter.node("Add", inputs, f"{converter.name(operator.Outputs(0))}.add")
    converter.finish(operator, _options(operator, tflite.AddOptions), value)


def _average_pool(converter: Converter, operator: tflite.Operator) -> None:
    options = _options(operator, tflite.Pool2DOptions)
    (x,), value = operator.InputsAsNumpy().tolist(), f"{converter.name(operator.Outputs(0))}.pool"
    window = [options.FilterHeight(), options.FilterWidth()]  # type: ignore[attr-defined]
    if window == converter.shape(x)[1:3]:
        converter.node("GlobalAveragePool", [converter.dequantise(x)], value)
    else:
        converter.node("AveragePool", [converter.dequantise(x)], value, kernel_shape=window, **_sliding(options))
    converter.finish(operator, options, value)


def _reshape(converter: Converter, operator: tflite.Operator) -> None:
    x, output = operator.Inputs(0), operator.Outputs(0)
    if max(converter.shape(x)) != np.prod(converter.shape(x)):
        raise ValueError(f"found a reshape of {converter.shape(x)}, expected one of a single pixel")
    value = converter.node("Flatten", [converter.dequantise(x)], f"{converter.name(output)}.flat")
    converter.quantise(value, output)


def _softmax(converter: Converter, operator: tflite.Operator) -> None:
    value = f"{converter.name(operator.Outputs(0))}.softmax"
    converter.node("Softmax", [converter.dequantise(operator.Inputs(0))], value, axis=-1)
    converter.quantise(value, operator.Outputs(0))


OPERATORS: dict[int, Callable[[Converter, tflite.Operator], None]] = {
    tflite.BuiltinOperator.ADD: _add,
    tflite.BuiltinOperator.AVERAGE_POOL_2D: _average_pool,
    tflite.BuiltinOperator.CONV_2D: _conv,
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: _depthwise,
    tflite.BuiltinOperator.FULLY_CONNECTED: _fully_connected,
    tflite.BuiltinOperator.RESHAPE: _reshape,
    tflite.BuiltinOperator.SOFTMAX: _softmax,
}


def main() -> None:
    """Convert the file that is named."""
    parser = argparse.ArgumentParser(description="Rewrite an int8 TFLite network as ONNX.")
    parser.add_argument("tflite", type=Path, help="network to read")
    parser.add_argument("onnx", type=Path, help="file to write")
    arguments = parser.parse_args()
    arguments.onnx.write_bytes(Converter(arguments.tflite.read_bytes()).convert().SerializeToString())


if __name__ == "__main__":
    main()
