"""The host's side of a network: inputs to vectors of the tile, its vectors to results, and the run between."""

from dataclasses import dataclass

import numpy as np

from lpu_isa.formats import QUANTISED_MAX, QUANTISED_MIN
from lpu_sw.graph.feed_forward import QuantizeLinear, Reshape, Transpose
from lpu_sw.graph.graph import Node
from lpu_sw.graph.integer import Unfold
from lpu_sw.graph.tensor import ElementType, Tensor, format_shape
from lpu_sw.host.decode import Device

from .compile import CompiledNetwork
from .places import ImageShape

__all__ = ["Inference", "infer", "input_vectors"]


@dataclass(frozen=True)
class Inference:
    """What an input made: the network's result, the index of its largest element (of one pixel), and the cycles."""

    result: np.ndarray
    largest: int
    cycles: int


def input_vectors(compiled: CompiledNetwork, x: np.ndarray) -> np.ndarray:
    """What the host writes for an input: float64 (words, rows).

    x : of the network's type and shape, with or without the batch of 1, and finite. Raises ValueError for another.
    """
    (given,) = compiled.network.graph.inputs
    is_float = given.element is ElementType.FLOAT
    is_right_type = x.dtype.kind in "fiu" if is_float else x.dtype == np.int8
    if x.shape not in (given.shape, given.shape[1:]) or not is_right_type:
        raise ValueError(f"found an input {x.dtype}{format_shape(x.shape)}, expected {given.type}")
    if not np.isfinite(x).all():
        raise ValueError(f"found {x[~np.isfinite(x)][0]} in an input, expected finite numbers")
    values: dict[Tensor, np.ndarray] = {given: x.reshape(given.shape).astype(np.float32 if is_float else np.int8)}
    for node in compiled.network.graph.regions[0].nodes:
        values[node.output] = _evaluated(node, values[node.inputs[0]])
    return _vectors(values[compiled.network.given], compiled.given.image, compiled.program.config.rows)


def _evaluated(node: Node, x: np.ndarray) -> np.ndarray:
    """An operator of the host."""
    match node.operator:
        case QuantizeLinear():
            _, scale, zero_point = (tensor.data for tensor in node.inputs)
            assert scale is not None and zero_point is not None
            rounded = np.rint(x / scale.astype(np.float32)) + float(zero_point)
            return np.clip(rounded, QUANTISED_MIN, QUANTISED_MAX).astype(np.int8)
        case Transpose(permutation):
            return x.transpose(permutation)
        case Reshape(shape):
            return x.reshape(shape)
        case Unfold() as unfold:
            beside = ((0, 0), (0, 0), (0, 0), (unfold.left, unfold.right))
            padded = np.pad(x, beside, constant_values=unfold.padding)
            windows = np.lib.stride_tricks.sliding_window_view(padded, unfold.window, 3)[..., :: unfold.stride, :]
            return windows.transpose(0, 1, 4, 2, 3).reshape(node.output.shape)
    raise TypeError(f"the host has no operator {node.operator.mnemonic()}")


def _vectors(image: np.ndarray, shape: ImageShape, rows: int) -> np.ndarray:
    lanes = np.zeros((shape.height, shape.width, shape.words * rows))
    lanes[:, :, : shape.channels] = image[0].transpose(1, 2, 0)
    return lanes.reshape(-1, rows)


async def infer(device: Device, compiled: CompiledNetwork, x: np.ndarray) -> Inference:
    """Run one input on a tile that holds the program. Raises ValueError for another input, `MachineFault`."""
    await device.write_vectors(compiled.given.first, input_vectors(compiled, x))
    await device.start([])
    post = await device.next_post()
    assert post is not None, "the program posts before it halts"
    await device.next_post()  # the halt
    image = compiled.made.image
    vectors = await device.read_vectors(compiled.made.first, image.size)
    channels = vectors.reshape(image.height, image.width, -1)[:, :, : image.channels]
    made, integers = compiled.network.result, channels.transpose(2, 0, 1)
    shift = -QUANTISED_MIN if made.is_unsigned else 0
    if compiled.network.is_float:
        result = ((integers - made.zero_point) * made.scale).astype(np.float32)
    else:
        result = (integers + shift).astype(np.uint8 if made.is_unsigned else np.int8)
    return Inference(result.reshape(made.shape), *post)
