"""Rule of IntegerConv: the matrix unit walks over rows of the image in the activation buffer, so nothing is copied.

Rows that a window covers lie in a ring of the activation buffer, with blocks of the zero point left and right of them.
A matrix operation is one row of the window for one row of the output and one vector of its channels: the inner loop is
the pixels, the outer one the window's columns and the blocks of a pixel. Rows of the window that lie above or below the
image are left out, and their share of the zero point with them.
"""

from dataclasses import dataclass

import numpy as np

from lpu_isa.formats import INTEGER_BASE, QUANTISED_MIN
from lpu_isa.mxm import Clear
from lpu_isa.vxm import Add, Gain, Quantise, Source, Write
from lpu_sw.graph.graph import Node
from lpu_sw.graph.integer import IntegerConv

from .lowering import Lowering, Stored
from .places import ImageShape

__all__ = ["ROW", "lower_conv"]

ROW = "row"
"""What a convolution's matrix operations are called, with the number of the output's row behind it."""


def lower_conv(lowering: Lowering, node: Node) -> None:
    """Lower a convolution, row by row of its output."""
    operator = node.operator
    assert isinstance(operator, IntegerConv)
    x = lowering.stored[node.inputs[0]]
    weights, bias, factor = (_known(tensor.data) for tensor in node.inputs[1:])
    is_low = operator.is_relu or operator.zero_point == QUANTISED_MIN
    made = lowering.store(node, operator.zero_point - lowering.rounder, is_low)
    kernel = _kernel(weights, operator, x.image, made.image, lowering)
    ring = _Ring(lowering, operator, x, weights.shape[2])
    factors = _by_vector(factor, made.image, lowering)
    for y in range(made.image.height):
        top = y * operator.strides[0] - operator.pads[0]
        present = [ky for ky in range(weights.shape[2]) if 0 <= top + ky < x.image.height]
        zero_shares = operator.x_zero * weights[:, :, present].sum(axis=(1, 2, 3), dtype=np.int64)
        biases = _by_vector(bias - zero_shares, made.image, lowering)
        most = max(1, lowering.tile.summed // made.image.width)
        for first in range(0, made.image.words, most):
            vectors = range(first, min(first + most, made.image.words))
            accumulators = lowering.accumulators(made.image.width * len(vectors))
            for ky in present:
                row = ring.row(top + ky)
                for vector in vectors:
                    run = kernel[vector, ky]
                    lowering.matmul(
                        f"{ROW} {y}", inner=made.image.width, outer=run.steps,
                        weights=run.first, weights_outer=run.step,
                        act=row + run.block, act_inner=operator.strides[1] * x.image.blocks, act_outer=run.block_step,
                        acc=accumulators + (vector - first) * made.image.width, acc_inner=1,
                        clear=Clear.OUTER if ky == present[0] else Clear.NEVER, exponent=INTEGER_BASE,
                    )  # fmt: skip
            for vector in vectors:
                lowering.pass_(
                    "scale", count=made.image.width, source=Source.ACC,
                    x=accumulators + (vector - first) * made.image.width,
                    add=Add.B, b=lowering.vector_word(biases[vector]), b_step=0,
                    gain=Gain.C, c=lowering.scale_word(factors[vector]), c_step=0, relu=int(is_low),
                    write=Write.VMEM, d=made.area.word(y, 0, vector), d_step=made.image.words,
                )  # fmt: skip
        lowering.round_(made.area.word(y), made.image.row_words)


def _known(data: np.ndarray | None) -> np.ndarray:
    assert data is not None, "weights, bias and factor are constants"
    return data


def _by_vector(values: np.ndarray, image: ImageShape, lowering: Lowering) -> np.ndarray:
    """A number a channel as vectors (words, rows)."""
    padded = np.zeros(image.words * lowering.tile.rows)
    padded[: len(values)] = values
    return padded.reshape(image.words, lowering.tile.rows)


@dataclass(frozen=True)
class _Run:
    """Weight words of one row of the window and one vector of outputs.

    steps : blocks that it multiplies, the first of them ``block`` after the row's, ``block_step`` apart.
    """

    first: int
    step: int
    steps: int
    block: int
    block_step: int


def _kernel(
    weights: np.ndarray, operator: IntegerConv, x: ImageShape, made: ImageShape, lowering: Lowering
) -> dict[tuple[int, int], _Run]:
    """Weights (outputs, channels of a group, height, width) as words, by vector of outputs and row of the window.

    A vector of a depthwise convolution takes only the block that holds its own channels.
    """
    rows, cols = lowering.tile.rows, lowering.tile.cols
    outputs, per_group, height, width = weights.shape
    per_block = x.block * rows
    words = np.zeros((made.words * rows, height, width, x.blocks, cols), np.int8)
    for output in range(outputs):
        first = output // (outputs // operator.groups) * per_group
        channels = np.arange(first, first + per_group)
        words[output, :, :, channels // per_block, channels % per_block] = weights[output]
    words = words.reshape(made.words, rows, height, width, x.blocks, cols).transpose(0, 2, 3, 4, 1, 5)
    is_depthwise = per_group == 1 and outputs == operator.groups
    runs = {}
    for vector in range(made.words):
        for ky in range(height):
            if is_depthwise:
                block = vector // x.block
                first, step = lowering.weight_run(words[vector, ky, :, block])
                runs[vector, ky] = _Run(first, step, width, block, x.blocks)
            else:
                first, step = lowering.weight_run(words[vector, ky].reshape(-1, rows, cols))
                runs[vector, ky] = _Run(first, step, width * x.blocks, 0, 1)
    return runs


class _Ring:
    """Rows of the input as blocks of integers, each gathered when it is asked for."""

    def __init__(self, lowering: Lowering, operator: IntegerConv, x: Stored, window: int) -> None:
        self._lowering, self._x = lowering, x
        _, left, _, right = operator.pads
        image = x.image
        self._left = left * image.blocks
        self._row_blocks = (left + image.width + right) * image.blocks
        least = min(window, image.height)
        self._first, slots = lowering.act_rows(self._row_blocks, min(window + operator.strides[0], image.height), least)
        self._rows: list[int | None] = [None] * slots
        zero = lowering.vector_word(float(operator.x_zero))
        for slot in range(slots):
            for at, pixels in ((0, left), (self._left + image.width * image.blocks, right)):
                if pixels:
                    lowering.pass_(
                        "pad", count=pixels * image.words, source=Source.VMEM, x=zero, x_step=0,
                        quantise=Quantise.INTEGERS, block=image.block, q=self._slot(slot) + at,
                    )  # fmt: skip

    def _slot(self, slot: int) -> int:
        return self._first + slot * self._row_blocks

    def row(self, y: int) -> int:
        """The first block of a row of the image, that of its padding."""
        slot = y % len(self._rows)
        if self._rows[slot] != y:
            self._rows[slot] = y
            image = self._x.image
            offset = self._lowering.vector_word(self._x.offset)
            self._lowering.pass_(
                "gather", count=image.row_words, source=Source.VMEM, x=self._x.area.word(y),
                add=Add.B, b=offset, b_step=0,
                quantise=Quantise.INTEGERS, block=image.block, q=self._slot(slot) + self._left,
            )  # fmt: skip
        return self._slot(slot)
