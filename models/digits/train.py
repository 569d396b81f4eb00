"""Train a small convolutional network on scikit-learn's digits, quantise it and write it as ONNX.

    pip install onnx scikit-learn
    python models/digits/train.py

Writes ``digits.onnx`` and ``heldout.npz`` beside itself. The network is small enough for NumPy: convolutions are matrix
products over patches, and each layer brings its own gradient. It has each operator that a network of convolutions is
made of: a residual sum, a depthwise and a pointwise convolution, pools, and a fully connected layer.

Quantised after training: weights by output channel with their largest magnitude, activations by the range that they
have on the training images; rectified ones have the zero point -128, where rounding to integers clamps.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

FOLDER = Path(__file__).parent
HELD_OUT = 540
SHAPES = {
    "conv1": (16, 1, 3, 3), "conv2": (16, 16, 3, 3), "depthwise": (16, 1, 3, 3), "pointwise": (32, 16, 1, 1),
    "classifier": (10, 128),
}  # fmt: skip
"""Weights of the layers: outputs, inputs, height, width."""

Parameters = dict[str, tuple[np.ndarray, np.ndarray]]
"""Weights and biases by layer."""


class Convolution:
    """A convolution with as much padding as keeps the size; ``depthwise``: an output for each input channel."""

    def __init__(self, weights: np.ndarray, bias: np.ndarray) -> None:
        self.weights, self.bias = weights, bias
        self.is_depthwise = weights.shape[1] == 1 and weights.shape[0] > 1

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x: (images, channels, height, width)."""
        border = self.weights.shape[2] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
        self.patches = sliding_window_view(padded, self.weights.shape[2:], (2, 3))
        if self.is_depthwise and x.shape[1] > 1:
            out = np.einsum("nchwyx,cyx->nchw", self.patches, self.weights[:, 0], optimize=True)
        else:
            out = np.einsum("nchwyx,ocyx->nohw", self.patches, self.weights, optimize=True)
        return out + self.bias[:, None, None]

    def backward(self, gradient: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The gradient of the input, and those of weights and bias."""
        border = self.weights.shape[2] // 2
        padded = np.pad(gradient, ((0, 0), (0, 0), (border, border), (border, border)))
        windows = sliding_window_view(padded, self.weights.shape[2:], (2, 3))
        flipped = self.weights[:, :, ::-1, ::-1]
        if self.is_depthwise and self.patches.shape[1] > 1:
            weights = np.einsum("nchwyx,nchw->cyx", self.patches, gradient, optimize=True)[:, None]
            x = np.einsum("nchwyx,cyx->nchw", windows, flipped[:, 0], optimize=True)
        else:
            weights = np.einsum("nchwyx,nohw->ocyx", self.patches, gradient, optimize=True)
            x = np.einsum("nohwyx,ocyx->nchw", windows, flipped, optimize=True)
        return x, (weights, gradient.sum(axis=(0, 2, 3)))


class MaxPool:
    """The largest of each 2 x 2 pixels."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x: (images, channels, height, width)."""
        n, c, h, w = x.shape
        self.blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
        self.out = self.blocks.max(axis=(3, 5))
        return self.out

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        """The gradient of the input."""
        largest = self.blocks == self.out[:, :, :, None, :, None]
        spread = largest * gradient[:, :, :, None, :, None] / largest.sum(axis=(3, 5), keepdims=True)
        n, c, h, _, w, _ = self.blocks.shape
        return spread.reshape(n, c, 2 * h, 2 * w)


class Network:
    """The network; activations of the last images are kept by name."""

    def __init__(self, parameters: Parameters) -> None:
        self.layers = {name: Convolution(*parameters[name]) for name in list(SHAPES)[:-1]}
        self.classifier = parameters["classifier"]
        self.pools = MaxPool(), MaxPool()

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Logits (images, 10) of images (images, 1, 8, 8)."""
        layer, seen = self.layers, {"input": x}
        seen["conv1"] = np.maximum(layer["conv1"].forward(x), 0)
        seen["conv2"] = layer["conv2"].forward(seen["conv1"])
        seen["sum"] = np.maximum(seen["conv1"] + seen["conv2"], 0)
        seen["depthwise"] = np.maximum(layer["depthwise"].forward(self.pools[0].forward(seen["sum"])), 0)
        seen["pointwise"] = np.maximum(layer["pointwise"].forward(seen["depthwise"]), 0)
        self.features = self.pools[1].forward(seen["pointwise"]).reshape(len(x), -1)
        seen["classifier"] = self.features @ self.classifier[0].T + self.classifier[1]
        self.seen = seen
        return seen["classifier"]

    def backward(self, gradient: np.ndarray) -> Parameters:
        """Gradients of all parameters, given that of the logits."""
        seen, made = self.seen, {"classifier": (gradient.T @ self.features, gradient.sum(axis=0))}
        gradient = (gradient @ self.classifier[0]).reshape(self.pools[1].out.shape)
        gradient = self.pools[1].backward(gradient) * (seen["pointwise"] > 0)
        gradient, made["pointwise"] = self.layers["pointwise"].backward(gradient)
        gradient, made["depthwise"] = self.layers["depthwise"].backward(gradient * (seen["depthwise"] > 0))
        residual = self.pools[0].backward(gradient) * (seen["sum"] > 0)
        gradient, made["conv2"] = self.layers["conv2"].backward(residual)
        _, made["conv1"] = self.layers["conv1"].backward((gradient + residual) * (seen["conv1"] > 0))
        return made


def train(x: np.ndarray, y: np.ndarray, epochs: int, random: np.random.Generator) -> Parameters:
    """Adam on batches of 64, with a learning rate that falls as a cosine."""
    parameters = {
        name: (random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:])), np.zeros(shape[0]))
        for name, shape in SHAPES.items()
    }
    moments = {name: [np.zeros_like(array) for array in both for _ in range(2)] for name, both in parameters.items()}
    steps, step = epochs * (len(x) // 64), 0
    for _ in range(epochs):
        order = random.permutation(len(x))
        for batch in np.split(order[: len(x) // 64 * 64], len(x) // 64):
            step += 1
            network = Network(parameters)
            logits = network.forward(x[batch])
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            shares[np.arange(len(batch)), y[batch]] -= 1
            rate = 0.003 * (1 + np.cos(np.pi * step / steps)) / 2
            for name, gradients in network.backward(shares / len(batch)).items():
                for index, gradient in enumerate(gradients):
                    mean, square = moments[name][2 * index : 2 * index + 2]
                    mean += 0.1 * (gradient - mean)
                    square += 0.001 * (gradient**2 - square)
                    corrected = mean / (1 - 0.9**step), square / (1 - 0.999**step)
                    parameters[name][index][...] -= rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    return parameters


class Writer:
    """Nodes and constants of the quantised network."""

    def __init__(self, parameters: Parameters, seen: dict[str, np.ndarray]) -> None:
        self.parameters = parameters
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.scales = {name: self.range(values) for name, values in seen.items()}

    @staticmethod
    def range(values: np.ndarray) -> tuple[np.float32, np.int8]:
        """Scale and zero point that hold all of an activation, and 0."""
        low, high = min(0.0, values.min()), max(0.0, values.max())
        scale = np.float32((high - low) / 255)
        return scale, np.int8(np.rint(-128 - low / scale))

    def constant(self, name: str, data: np.ndarray) -> str:
        """Keep a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Keep a node; returns its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def quantised(self, value: str, name: str, like: str | None = None) -> str:
        """A value rounded to the integers of activation ``name``, or with the scale of ``like``, and back."""
        if like is None:
            for part, number in zip(("scale", "zero_point"), self.scales[name], strict=True):
                self.constant(f"{name}.{part}", number)
        scale = [f"{like or name}.scale", f"{like or name}.zero_point"]
        integers = self.node("QuantizeLinear", [value, *scale], f"{name}.integers")
        return self.node("DequantizeLinear", [integers, *scale], f"{name}.float")

    def layer(self, kind: str, name: str, x: str, x_scale: str, is_relu: bool, **attributes: object) -> str:
        """A layer with weights, rounded to integers."""
        weights, bias = self.parameters[name]
        scale = (np.abs(weights).reshape(len(weights), -1).max(axis=1) / 127).astype(np.float32)
        integers = np.rint(weights / scale.reshape(-1, *[1] * (weights.ndim - 1))).astype(np.int8)
        bias_scale = (self.scales[x_scale][0] * scale).astype(np.float32)
        inputs = [x]
        for part, data, factors in (
            ("weights", integers, scale),
            ("bias", np.rint(bias / bias_scale).astype(np.int32), bias_scale),
        ):
            names = [
                self.constant(f"{name}.{part}.integers", data),
                self.constant(f"{name}.{part}.scale", factors),
                self.constant(f"{name}.{part}.zero_point", np.zeros(factors.shape, data.dtype)),
            ]
            inputs.append(self.node("DequantizeLinear", names, f"{name}.{part}", axis=0))
        value = self.node(kind, inputs, name, **attributes)
        value = self.node("Relu", [value], f"{name}.relu") if is_relu else value
        return self.quantised(value, name)

    def model(self) -> onnx.ModelProto:
        """The whole network, from images (1, 1, 8, 8) to logits (1, 10)."""
        same = {"pads": [1, 1, 1, 1]}
        halve = {"kernel_shape": [2, 2], "strides": [2, 2]}
        first = self.layer("Conv", "conv1", self.quantised("image", "input"), "input", True, **same)
        second = self.layer("Conv", "conv2", first, "conv1", False, **same)
        added = self.node("Relu", [self.node("Add", [first, second], "sum")], "sum.relu")
        pooled = self.node("MaxPool", [self.quantised(added, "sum")], "pool1", **halve)
        pooled = self.quantised(pooled, "pool1", like="sum")
        deep = self.layer("Conv", "depthwise", pooled, "sum", True, group=16, **same)
        deep = self.layer("Conv", "pointwise", deep, "depthwise", True)
        pooled = self.node("MaxPool", [deep], "pool2", **halve)
        pooled = self.quantised(pooled, "pool2", like="pointwise")
        flat = self.quantised(self.node("Flatten", [pooled], "flat"), "flat", like="pointwise")
        logits = self.layer("Gemm", "classifier", flat, "pointwise", False, transB=1)
        given = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])
        made = helper.make_tensor_value_info(logits, TensorProto.FLOAT, [1, 10])
        graph = helper.make_graph(self.nodes, "digits", [given], [made], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def main() -> None:
    """Train, quantise, write."""
    parser = argparse.ArgumentParser(description="Train a small network on scikit-learn's digits.")
    parser.add_argument("--epochs", type=int, default=40, help="how often each image is seen")
    parser.add_argument("--seed", type=int, default=1, help="of weights and order")
    arguments = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype(np.float32)
    x, held_x, y, held_y = train_test_split(images, labels, test_size=HELD_OUT, random_state=0, stratify=labels)
    parameters = train(x, y, arguments.epochs, np.random.default_rng(arguments.seed))
    network = Network(parameters)
    for name, these, right in (("training", x, y), ("held-out", held_x, held_y)):
        share = (network.forward(these).argmax(axis=1) == right).mean()
        print(f"{name}: {len(these)} images, {share:.2%} right in float")
    network.forward(x)
    (FOLDER / "digits.onnx").write_bytes(Writer(parameters, network.seen).model().SerializeToString())
    np.savez_compressed(FOLDER / "heldout.npz", x=held_x.astype(np.uint8), y=held_y.astype(np.uint8))


if __name__ == "__main__":
    main()
