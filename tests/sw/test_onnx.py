"""ONNX networks on the simulated tile, held against onnxruntime: every element of every result.

onnxruntime multiplies int8 with instructions that saturate sums of two products, unless it is told to be exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lpu_isa.config import SHAPES, TileConfig
from lpu_sw.check import check
from lpu_sw.compiler.memory import DoesNotFit
from lpu_sw.engines import SimDevice, awaited, load_sections
from lpu_sw.feed_forward.compile import CompiledNetwork, compile_network
from lpu_sw.feed_forward.host import infer
from lpu_sw.frontends.onnx import OPERATORS, OnnxError, read_onnx
from lpu_sw.graph.tensor import GraphError
from lpu_sw.sim.state import TileState

REPOSITORY = Path(__file__).resolve().parents[2]
DIGITS = REPOSITORY / "models" / "digits"
BINARY32 = {
    "4x4": SHAPES["4x4"].replace(
        vmem_words=1024, act_blocks=256, accumulators=64, summed=64, bundles=1024, significand_bits=24
    ),
    "8x16": SHAPES["8x16"].replace(summed=64, significand_bits=24),
    "16x16-cnn": SHAPES["16x16-cnn"],
}


class Network:
    """Builds a quantised network node by node; random weights, one scale an output channel."""

    def __init__(self, shape: tuple[int, ...], dtype: type = np.int8, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.shape, self.dtype = shape, dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.scales: dict[str, np.float32] = {}

    def constant(self, name: str, data: np.ndarray | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def quantised(self, value: str, scale: float, zero_point: int) -> str:
        """A value rounded to integers and back."""
        zero = self.dtype(zero_point + (128 if self.dtype is np.uint8 else 0))
        names = [
            self.constant(f"{value}.scale", np.float32(scale)),
            self.constant(f"{value}.zero_point", zero),
        ]
        made = self.node("DequantizeLinear", [self.node("QuantizeLinear", [value, *names], f"{value}.q"), *names],
                         f"{value}.d")  # fmt: skip
        self.scales[made] = np.float32(scale)
        return made

    def dequantised(self, name: str, data: np.ndarray, scale: np.ndarray | np.float32) -> str:
        """Constant integers, one scale for all or one for each index of the first axis."""
        constants = [
            self.constant(f"{name}.q", data),
            self.constant(f"{name}.scale", scale),
            self.constant(f"{name}.zero_point", np.zeros(np.shape(scale), data.dtype)),
        ]
        return self.node("DequantizeLinear", constants, name, axis=0)

    def layer(self, kind: str, name: str, x: str, shape: tuple[int, ...], relu: bool = False, **attributes) -> str:
        """A convolution or Gemm with weights of this shape."""
        scale = self.random.uniform(0.005, 0.015, shape[0]).astype(np.float32)
        names = []
        for part, data, factors in (
            ("w", self.random.integers(-127, 128, shape).astype(np.int8), scale),
            ("b", self.random.integers(-3000, 3000, shape[0]).astype(np.int32), self.scales[x] * scale),
        ):
            names.append(self.dequantised(f"{name}.{part}", data, factors))
        value = self.node(kind, [x, *names], name, **attributes)
        return self.node("Relu", [value], f"{name}.relu") if relu else value

    def save(self, result: str, path: Path) -> Path:
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        made = helper.make_empty_tensor_value_info(result)
        graph = helper.make_graph(self.nodes, "network", [given], [made], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model, data_prop=True), path)
        return path


def gemm() -> tuple[Network, str]:
    net = Network((1, 20))
    return net, net.quantised(net.layer("Gemm", "fc", net.quantised("x", 0.05, -3), (10, 20), transB=1), 1.3, 5)


def two_layers_of_gemm() -> tuple[Network, str]:
    net = Network((1, 20))
    first = net.layer("Gemm", "fc1", net.quantised("x", 0.05, -3), (17, 20), relu=True, transB=1)
    return net, net.quantised(net.layer("Gemm", "fc2", net.quantised(first, 0.7, -128), (5, 17), transB=1), 3.3, 1)


def conv() -> tuple[Network, str]:
    net = Network((1, 3, 7, 6))
    y = net.layer("Conv", "c1", net.quantised("x", 0.05, -3), (9, 3, 3, 3), relu=True, pads=[1, 1, 1, 1])
    y = net.layer("Conv", "c2", net.quantised(y, 1.7, -128), (5, 9, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    return net, net.quantised(y, 2.9, 11)


def conv_of_one_sided_padding() -> tuple[Network, str]:
    net = Network((1, 5, 6, 8))
    y = net.layer("Conv", "c1", net.quantised("x", 0.05, 7), (20, 5, 2, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    return net, net.quantised(y, 1.1, -20)


def conv_rectified_above_the_smallest_integer() -> tuple[Network, str]:
    net = Network((1, 3, 4, 4))
    y = net.layer("Conv", "c1", net.quantised("x", 0.05, 7), (6, 3, 3, 3), relu=True)
    return net, net.quantised(y, 1.1, -20)


def grouped() -> tuple[Network, str]:
    net = Network((1, 8, 5, 5))
    y = net.layer("Conv", "c1", net.quantised("x", 0.05, 7), (12, 4, 3, 3), group=2)
    return net, net.quantised(y, 1.1, -20)


def depthwise_pooled() -> tuple[Network, str]:
    net = Network((1, 8, 6, 6))
    y = net.layer("Conv", "dw", net.quantised("x", 0.05, -3), (8, 1, 3, 3), relu=True, pads=[1, 1, 1, 1], group=8)
    y = net.quantised(net.layer("Conv", "pw", net.quantised(y, 0.7, -128), (12, 8, 1, 1)), 1.9, -7)
    y = net.quantised(net.node("MaxPool", [y], "mp", kernel_shape=[2, 2], strides=[2, 2]), 1.9, -7)
    y = net.quantised(net.node("Flatten", [y], "flat"), 1.9, -7)
    return net, net.quantised(net.layer("Gemm", "fc", y, (10, 108), transB=1), 9.3, 5)


def added() -> tuple[Network, str]:
    net = Network((1, 8, 6, 6))
    first = net.layer("Conv", "c1", net.quantised("x", 0.05, -3), (8, 8, 3, 3), relu=True, pads=[1, 1, 1, 1])
    first = net.quantised(first, 1.7, -128)
    second = net.quantised(net.layer("Conv", "c2", first, (8, 8, 3, 3), pads=[1, 1, 1, 1]), 2.3, 9)
    return net, net.quantised(net.node("Add", [first, second], "sum"), 2.7, -4)


def global_average() -> tuple[Network, str]:
    net = Network((1, 8, 6, 6))
    return net, net.quantised(net.node("GlobalAveragePool", [net.quantised("x", 0.05, -3)], "mean"), 0.03, -7)


def softmax() -> tuple[Network, str]:
    net = Network((1, 20))
    y = net.quantised(net.layer("Gemm", "fc", net.quantised("x", 0.05, -3), (10, 20), transB=1), 0.1, 5)
    return net, net.quantised(net.node("Softmax", [y], "shares", axis=1), 1 / 256, -128)


def channels_last() -> tuple[Network, str]:
    net = Network((1, 60))
    net.constant("shape", np.array([0, 4, 5, 3]))
    x = net.node("Reshape", ["x", "shape"], "image")
    x = net.quantised(net.node("Transpose", [x], "first", perm=[0, 3, 1, 2]), 0.05, 3)
    return net, net.quantised(net.layer("Conv", "c1", x, (6, 3, 3, 3), pads=[1, 1, 1, 1]), 1.3, 5)


def unsigned() -> tuple[Network, str]:
    net = Network((1, 3, 4, 4), np.uint8)
    y = net.layer("Conv", "c1", net.quantised("x", 0.05, 7), (6, 3, 3, 3), relu=True)
    return net, net.quantised(y, 1.1, -128)


NETWORKS: list[Callable[[], tuple[Network, str]]] = [
    gemm, two_layers_of_gemm, conv, conv_of_one_sided_padding, conv_rectified_above_the_smallest_integer, grouped,
    depthwise_pooled, added, global_average, softmax, channels_last, unsigned,
]  # fmt: skip


def exact_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def integers(values: np.ndarray, compiled: CompiledNetwork) -> np.ndarray:
    """A result as integers, its zero point taken away."""
    if not compiled.network.is_float:
        return values.astype(int)
    return np.rint(values / compiled.network.result.scale).astype(int)


def differences(path: Path, compiled: CompiledNetwork, inputs: np.ndarray) -> np.ndarray:
    """By how much the tile's integers differ from onnxruntime's: (inputs, elements). Cycles are as predicted."""
    session, device = exact_session(path), SimDevice(compiled.program)
    (name,) = [given.name for given in session.get_inputs()]
    found = []
    for x in inputs:
        result = awaited(infer(device, compiled, x))
        assert result.cycles == compiled.cycles
        (expected,) = session.run(None, {name: x[None]})
        assert result.result.shape == expected.shape and result.result.dtype == expected.dtype
        assert result.largest == (result.result.argmax() if expected.size == expected.shape[1] else 0)
        found.append((integers(result.result, compiled) - integers(expected, compiled)).ravel())
    return np.array(found)


@pytest.mark.parametrize("tile", BINARY32)
@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_every_element_is_that_of_onnxruntime(
    build: Callable[[], tuple[Network, str]], tile: str, tmp_path: Path
) -> None:
    network, result = build()
    path = network.save(result, tmp_path / "network.onnx")
    compiled = compile_network(read_onnx(path), BINARY32[tile])
    inputs = np.random.default_rng(1).normal(size=(10, *network.shape[1:])).astype(np.float32) * 2
    found = differences(path, compiled, inputs)
    assert not found.any()


def rescaled(scale: float, by_convolution: bool) -> tuple[Network, str]:
    """The input rounded to integers, and these to a scale twice as large, which makes a tie of each odd one."""
    net = Network((1, 16, 32, 32))
    value = net.quantised("x", scale, 3)
    if by_convolution:
        weights = net.dequantised("w", np.ones((16, 1, 1, 1), np.int8), np.float32(1))
        value = net.node("Conv", [value, weights], "c", group=16)
    return net, net.quantised(value, float(2 * np.float32(scale)), -5)


def on_ties_and_beside(scale: float) -> np.ndarray:
    """65,536 inputs: every tie of `rescaled`'s first rounding, and the numbers next to it."""
    ties = (np.arange(-132, 124, dtype=np.float32) + np.float32(0.5)) * np.float32(scale)
    beside = np.nextafter(ties[:, None], np.array([-np.inf, np.inf], np.float32)).ravel()
    return np.resize(np.concatenate([ties, beside]), (4, 16, 32, 32))


@pytest.mark.parametrize("scale", [0.05, 2**-7, 0.3])
def test_ties_are_rounded_as_by_onnxruntime(scale: float, tmp_path: Path) -> None:
    network, result = rescaled(scale, by_convolution=True)
    path = network.save(result, tmp_path / "network.onnx")
    assert not differences(path, compile_network(read_onnx(path), SHAPES["16x16-cnn"]), on_ties_and_beside(scale)).any()


def test_what_is_only_rescaled_may_leave_a_tie_to_the_other_side(tmp_path: Path) -> None:
    """onnxruntime multiplies by one scale and divides by the other there, with a rounding each."""
    network, result = rescaled(0.05, by_convolution=False)
    path = network.save(result, tmp_path / "network.onnx")
    compiled = compile_network(read_onnx(path), SHAPES["16x16-cnn"])
    inputs = on_ties_and_beside(0.05)[:1]
    found = differences(path, compiled, inputs)
    integers_before = np.rint(inputs.ravel() / np.float32(0.05))
    assert set(np.unique(found)) == {-1, 0, 1}
    assert np.all(integers_before[found.ravel() != 0] % 2 == 1)


@pytest.mark.parametrize(
    ("padding", "sums"),
    [
        ({"pads": [1, 1, 1, 1]}, [[12, 27, 24], [63, 108, 81], [123, 198, 141], [112, 177, 124]]),
        ({"pads": [1, 0, 1, 0]}, [[21, 33], [99, 117], [189, 207], [171, 183]]),
        ({"auto_pad": "SAME_UPPER"}, [[12, 27, 24], [63, 108, 81], [123, 198, 141], [112, 177, 124]]),
    ],
    ids=["all sides", "above and below", "SAME_UPPER"],
)
def test_padding_and_stride_cover_the_pixels_that_they_should(
    padding: dict[str, object], sums: list[list[int]], tmp_path: Path
) -> None:
    """Sums over windows of 3 x 3 of the pixels 0, 1, 2 ..., known from the definition of the operator."""
    net = Network((1, 1, 7, 5))
    given = net.quantised("x", 1.0, -128)
    weights = net.dequantised("w", np.ones((1, 1, 3, 3), np.int8), np.float32(1))
    made = net.quantised(net.node("Conv", [given, weights], "c", strides=[2, 2], **padding), 1.0, -128)
    path = net.save(made, tmp_path / "network.onnx")
    compiled = compile_network(read_onnx(path), BINARY32["8x16"])
    result = awaited(infer(SimDevice(compiled.program), compiled, np.arange(35, dtype=np.float32).reshape(1, 7, 5)))
    assert result.result[0, 0].tolist() == sums


@pytest.mark.parametrize("build", [conv, depthwise_pooled, added, softmax], ids=lambda build: build.__name__)
def test_the_timing_is_proved(build: Callable[[], tuple[Network, str]], tmp_path: Path) -> None:
    network, result = build()
    program = compile_network(read_onnx(network.save(result, tmp_path / "network.onnx")), BINARY32["4x4"]).program
    state = TileState(program.config)
    load_sections(state, program.sections)
    report = check(program.config, program.bundles, [], [], state)
    assert report.is_clean, "\n".join(map(str, report.violations))


def test_eighteen_bits_round_some_products_to_the_other_side_of_a_half(tmp_path: Path) -> None:
    network, result = added()
    path = network.save(result, tmp_path / "network.onnx")
    compiled = compile_network(read_onnx(path), SHAPES["8x16"])
    inputs = np.random.default_rng(2).normal(size=(60, *network.shape[1:])).astype(np.float32) * 2
    found = differences(path, compiled, inputs)
    assert set(np.unique(found)) == {-1, 0, 1} and (found != 0).mean() < 0.01


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Held-out digits and their labels."""
    with np.load(DIGITS / "heldout.npz") as loaded:
        return loaded["x"].astype(np.float32), loaded["y"]


def test_digits_are_those_of_onnxruntime(digits: tuple[np.ndarray, np.ndarray]) -> None:
    path = DIGITS / "digits.onnx"
    assert not differences(path, compile_network(read_onnx(path), SHAPES["16x16-cnn"]), digits[0]).any()


def test_digits_are_recognised_with_eighteen_bits(digits: tuple[np.ndarray, np.ndarray]) -> None:
    compiled = compile_network(read_onnx(DIGITS / "digits.onnx"), SHAPES["8x16"].replace(vmem_words=1024))
    device = SimDevice(compiled.program)
    right = [awaited(infer(device, compiled, x)).largest == y for x, y in zip(*digits, strict=True)]
    assert np.mean(right) > 0.94


def test_networks_of_mlperf_tiny(mlperf_network: tuple[Path, np.ndarray]) -> None:
    path, inputs = mlperf_network
    assert not differences(path, compile_network(read_onnx(path), SHAPES["16x16-cnn"]), inputs[:4]).any()


# What is refused.


def refused(network: Network, result: str, tmp_path: Path, tile: TileConfig = SHAPES["8x16"]) -> str:
    path = network.save(result, tmp_path / "network.onnx")
    with pytest.raises((OnnxError, GraphError, DoesNotFit)) as refusal:
        compile_network(read_onnx(path), tile)
    return str(refusal.value)


def test_unknown_operators_are_all_named_with_their_nodes_and_those_that_are_known(tmp_path: Path) -> None:
    network = Network((1, 4))
    value = network.node("Tanh", ["x"], "squashed")
    value = network.node("Relu", [value], "kept")
    for kind, name in (("Erf", "bent"), ("Sin", "waved")):
        value = network.node(kind, [value], name)
    text = refused(network, value, tmp_path)
    assert text.endswith(
        "network.onnx: node squashed (Tanh), node bent (Erf), node waved (Sin): not supported, expected operators are "
        + ", ".join(OPERATORS)
    )


def test_a_size_that_is_left_open_is_asked_for_and_the_batch_is_one(tmp_path: Path) -> None:
    network = Network(("N", 3, "height", None))
    path = network.save(network.quantised("x", 0.05, 3), tmp_path / "network.onnx")
    with pytest.raises(OnnxError, match="input x: axis 2 has no known size, say which, as in --dim height=32$"):
        read_onnx(path)
    with pytest.raises(OnnxError, match="input x: axis 3 has no known size, say which, as in --dim x.3=32$"):
        read_onnx(path, {"height": 5})
    assert read_onnx(path, {"height": 5, "x.3": 4}).inputs[0].shape == (1, 3, 5, 4)


def test_a_float_operator_is_named(tmp_path: Path) -> None:
    network = Network((1, 4))
    network.constant("w", np.ones((4, 3), np.float32))
    text = refused(network, network.node("MatMul", ["x", "w"], "y"), tmp_path)
    assert text == "node y (mat_mul): input x is not quantised, expected a DequantizeLinear before it"


def test_a_result_that_is_not_quantised_is_named(tmp_path: Path) -> None:
    network = Network((1, 20))
    text = refused(network, network.layer("Gemm", "fc", network.quantised("x", 1, 0), (10, 20), transB=1), tmp_path)
    assert text == "result fc is not quantised, expected a QuantizeLinear before it"


def test_padded_max_pool_is_refused(tmp_path: Path) -> None:
    network = Network((1, 4, 4, 4))
    x = network.quantised("x", 1, 0)
    y = network.node("MaxPool", [x], "pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    text = refused(network, network.quantised(y, 1, 0), tmp_path)
    assert text == "node pool (max_pool): found padding [1, 1, 1, 1], supported is none"


def wide() -> tuple[Network, str]:
    net = Network((1, 3, 3, 40))
    return net, net.quantised(net.layer("Conv", "c1", net.quantised("x", 0.05, -3), (5, 3, 3, 3)), 1.7, -8)


@pytest.mark.parametrize(
    ("build", "parameter", "words", "says"),
    [
        (conv, "vmem_words", 64, "vector SRAM of the 8x16 tile is short by {} words: the network at c2.q needs {}"),
        (conv, "wmem_words", 16, "weight SRAM of the 8x16 tile is short by {} words: the network needs {}"),
        (conv, "smem_words", 2, "scale SRAM of the 8x16 tile is short by {} words: the network needs {}"),
        (wide, "act_blocks", 16, "activation buffer of the 8x16 tile is short by {} words: a row of c1.q needs {}"),
        (wide, "summed", 16, "accumulators of the 8x16 tile that can be added to are short by {}: c1.q needs {}"),
    ],
)
def test_the_memory_that_is_too_small_is_named_and_what_it_lacks_is_enough(
    build: Callable[[], tuple[Network, str]], parameter: str, words: int, says: str, tmp_path: Path
) -> None:
    tile = BINARY32["8x16"].replace(**{parameter: words})
    text = refused(*build(), tmp_path, tile)
    lacks, needed = (int(number) for number in re.findall(r"(?:short by|needs) (\d+)", text))
    assert text == f"the {says.format(lacks, needed)}, the tile has {words}"
    assert lacks == needed - words
    network, result = build()
    path = network.save(result, tmp_path / "network.onnx")
    enough = needed if parameter == "wmem_words" else 1 << (needed - 1).bit_length()
    assert compile_network(read_onnx(path), tile.replace(**{parameter: enough}))


def test_a_program_that_is_too_long_is_refused(tmp_path: Path) -> None:
    text = refused(*conv(), tmp_path, BINARY32["8x16"].replace(bundles=64))
    assert text.startswith("the program takes ") and text.endswith(" bundles, the 8x16 tile has 64")


def damaged(network: Network, result: str, damage: Callable[[onnx.ModelProto], object], path: Path) -> str:
    model = onnx.load(network.save(result, path))
    damage(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxError) as refusal:
        read_onnx(path)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda model: setattr(model.graph.output[0], "name", "gone"), "Graph output 'gone' is not an output of any"),
        (lambda model: model.graph.node[-1].ClearField("input"), "has input size 0 not in range"),
        (lambda model: model.graph.node.pop(0), "is not output of any previous nodes"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 99), "Invalid tensor data type 99"),
        (lambda model: setattr(model.graph.initializer[0], "data_type", 99), "Invalid tensor data type 99"),
        (lambda model: setattr(model.graph.initializer[0], "raw_data", b"a"), "raw_data size"),
        (lambda model: model.graph.node[6].attribute.append(onnx.helper.make_attribute("strides", [0, 0])), "strides"),
        (lambda model: setattr(model.graph.node[0], "domain", "com.me"), "(com.me.QuantizeLinear): not supported"),
    ],
)
def test_a_damaged_network_is_told_in_one_line(damage, says: str, tmp_path: Path) -> None:
    text = damaged(*conv(), damage, tmp_path / "network.onnx")
    assert text.startswith(str(tmp_path)) and says in text and "\n" not in text


def test_a_size_of_no_open_axis_is_refused(tmp_path: Path) -> None:
    network, result = conv()
    path = network.save(result, tmp_path / "network.onnx")
    with pytest.raises(OnnxError, match="found sizes for height, open axes are none"):
        read_onnx(path, {"height": 5})


@pytest.mark.parametrize("cut", [0, 2, 40, -1])
def test_a_truncated_network_is_refused(cut: int, tmp_path: Path) -> None:
    network, result = conv()
    path = network.save(result, tmp_path / "network.onnx")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(OnnxError, match="found no (valid )?ONNX model"):
        read_onnx(path)


def test_no_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"\xff\xffno model")
    with pytest.raises(OnnxError, match="found no ONNX model, expected one"):
        read_onnx(path)
