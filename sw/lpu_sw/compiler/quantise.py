"""Pass `quantise`: weights become int8 with one scale a row, activations blocks with a shared exponent."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lpu_isa.formats import BLOCK_EXPONENT_OFFSET, EXPONENT_BIAS, QUANTISED_MAX
from lpu_sw.graph.folded import QuantiseBlocks, QuantisedEmbedding, ScaledExpertLinear, ScaledLinear
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.language import Attention, Embedding
from lpu_sw.graph.tensor import ElementType, Tensor

from .rewrite import Rewriter

__all__ = ["immediate_base", "quantise", "quantise_rows"]

BASE_BELOW_RANGE = 4
"""An immediate base code lies that many binades below the largest code seen: 14 + 4 - 8 fraction bits remain exact for
blocks 14 binades smaller, and blocks up to 16 times larger than any seen still fit the headroom of 8."""


def quantise(graph: Graph, magnitudes: Mapping[str, float]) -> Graph:
    """The graph with integers in front of every matmul.

    magnitudes : largest magnitude of each kind of tensor that goes into one (`calibrate.block_magnitudes`).
    """
    return _Quantise(graph, magnitudes).graph


class _Quantise:
    def __init__(self, old: Graph, magnitudes: Mapping[str, float]) -> None:
        self._magnitudes = magnitudes
        self._rewriter = Rewriter(old)
        self._rounded: dict[Tensor, tuple[Tensor, Tensor]] = {}
        self.graph = self._rewriter.run(self._rewrite)

    def _rewrite(self, node: Node) -> None:
        rewriter, operator = self._rewriter, node.operator
        if isinstance(operator, (ScaledLinear, ScaledExpertLinear)):
            x, weights, factors, *more = node.inputs
            rounded = self._rows(weights, len(x.shape), factors.numbers)
            rewriter.put(
                node, replace(operator, base=self._base(x)), self._blocks(x), *rounded, *(rewriter[t] for t in more)
            )
        elif isinstance(operator, Embedding):
            token, table = node.inputs
            rewriter.put(node, QuantisedEmbedding(), rewriter[token], *self._rows(table, 1, np.array(1.0)))
        elif isinstance(operator, Attention):
            queries, *more = node.inputs
            based = replace(operator, base=self._base(queries))
            rewriter.put(node, based, self._blocks(queries, by_head=True), *(rewriter[t] for t in more))
        else:
            rewriter.copy(node)

    def _rows(self, weights: Tensor, n_inputs: int, factors: np.ndarray) -> tuple[Tensor, Tensor]:
        """Weights in int8, and the scale of each output: its row's, times what has been folded in.

        n_inputs : how many of the last axes of the weights are inputs. A matrix with two uses is rounded once.
        """
        if weights not in self._rounded:
            shape = weights.numbers.shape
            integers, scale = quantise_rows(weights.numbers.reshape(-1, np.prod(shape[-n_inputs:])))
            integers, scale = integers.reshape(shape), scale.reshape(shape[:-n_inputs]) * factors
            constant = self._rewriter.constant
            self._rounded[weights] = (
                constant(weights.name, weights, data=integers, element=ElementType.INT8),
                constant(f"{weights.name}.scale", weights, data=scale),
            )
        return self._rounded[weights]

    def _base(self, x: Tensor) -> int:
        return immediate_base(self._magnitudes[x.kind])

    def _blocks(self, x: Tensor, by_head: bool = False) -> Tensor:
        return self._rewriter.derived(self._rewriter[x], QuantiseBlocks(by_head), "blocks")


def immediate_base(magnitude: float) -> int:
    """Base code of accumulators for blocks whose largest magnitude is about this."""
    exponent = int(np.floor(np.log2(magnitude))) if magnitude > 0 else -EXPONENT_BIAS
    return max(1, exponent + EXPONENT_BIAS - BLOCK_EXPONENT_OFFSET - BASE_BELOW_RANGE)


def quantise_rows(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round each output row to int8 with one scale a row (symmetric, nearest even).

    weights: (out, in). Returns int8 of that shape, |q| <= 127, and float64 (out,) with
    ``weights ~ q * scale[:, None]``; a row of zeros has the scale 0.

    >>> quantise_rows(np.array([[1.0, -2.0]]))[0].tolist()
    [[64, -127]]
    """
    scale = np.abs(weights).max(axis=1).astype(np.float64) / QUANTISED_MAX
    rounded = np.rint(weights / np.where(scale == 0, 1, scale)[:, None])
    return np.clip(rounded, -QUANTISED_MAX, QUANTISED_MAX).astype(np.int8), scale
