"""Pass `fold`: norms and constants go where they cost nothing.

* A norm's 1 / rms is a scalar: it multiplies what the matmul behind the norm makes, so that the matmul need not wait.
  sqrt(width) of the mean goes into the scales of the outputs, width * epsilon starts the sum of squares.
* A norm's gain goes into the columns of the weights behind it, unless these are an embedding as well: then it stays, as
  a multiplication.
* Keys and values are divided by the static scale that they are kept with; queries are multiplied by the keys' and by
  the factor of the scores, attention results by the values'.
"""

import numpy as np

from lpu_sw.graph.elementwise import Multiply
from lpu_sw.graph.folded import ReciprocalRoot, ScaledExpertLinear, ScaledLinear, SumOfSquares
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.language import Attention, CacheAppend, Embedding, ExpertLinear, Linear, RmsNorm, Rotary, TopExperts
from lpu_sw.graph.tensor import Tensor

from .calibrate import Ranges, static_scales
from .rewrite import Rewriter

__all__ = ["fold"]


def fold(graph: Graph, ranges: Ranges) -> Graph:
    """The graph without norms, scores' factors and unscaled caches. ``ranges``: of the values that are kept."""
    return _Fold(graph, ranges).graph


class _Fold:
    def __init__(self, old: Graph, ranges: Ranges) -> None:
        self._old = old
        self._keys, self._values = static_scales(ranges.keys), static_scales(ranges.values)
        self._rewriter = Rewriter(old)
        self._norms: dict[Tensor, Node] = {}
        self._factors: dict[Tensor, Tensor] = {}
        self._gained: dict[Tensor, Tensor] = {}
        self.graph = self._rewriter.run(self._rewrite)

    def _rewrite(self, node: Node) -> None:
        rewriter, operator = self._rewriter, node.operator
        if isinstance(operator, RmsNorm):
            self._norms[node.output] = node
        elif isinstance(operator, (Linear, ExpertLinear)):
            self._linear(node)
        elif isinstance(operator, Attention):
            queries, keys, values = node.inputs
            per_head = np.repeat(self._values, queries.shape[0] // values.shape[1], axis=1)
            scale = rewriter.new.constant(f"{node.name}.scale", per_head, rounds=len(per_head))
            rewriter.put(node, Attention(1.0), *(rewriter[t] for t in node.inputs), scale)
        elif isinstance(operator, TopExperts):
            rewriter.put(node, TopExperts(operator.count, 1.0), rewriter[node.inputs[0]])
        else:
            rewriter.copy(node)

    def _linear(self, node: Node) -> None:
        """A linear operator with a scale an output; behind a norm, with the norm's factor."""
        rewriter = self._rewriter
        x, weights, *expert = node.inputs
        norm = self._norms.get(x)
        factor = [] if norm is None else [self._factor(norm)]
        root = 1.0
        if norm is None:
            x, weights = rewriter[x], rewriter[weights]
        elif any(isinstance(user.operator, Embedding) for user in self._old.users(weights)):
            x, weights = self._with_gain(norm), rewriter[weights]
        else:
            root = np.sqrt(x.size)
            x, weights = rewriter[norm.inputs[0]], self._weights_with_gain(weights, norm.inputs[1])
        outputs = weights.numbers.shape[: -len(x.shape)]
        factors = np.broadcast_to(root * self._output_factor(node), outputs)
        scales = rewriter.new.constant(f"{node.name}.factors", factors, rounds=weights.rounds)
        operator = ScaledExpertLinear() if expert else ScaledLinear()
        rewriter.put(node, operator, x, weights, scales, *(rewriter[t] for t in expert), *factor)

    def _weights_with_gain(self, weights: Tensor, gain: Tensor) -> Tensor:
        """Weights with their columns times a norm's gain, which has no other use."""
        if weights not in self._gained:
            gains = gain.numbers
            if gain.rounds:
                gains = gains.reshape(gain.rounds, *[1] * (len(weights.shape) - 1), -1)
            self._gained[weights] = self._rewriter.constant(weights.name, weights, data=weights.numbers * gains)
        return self._gained[weights]

    def _factor(self, norm: Node) -> Tensor:
        """1 / sqrt(sum of squares) of a norm's input, made where the norm was."""
        rewriter, source, operator = self._rewriter, norm.inputs[0], norm.operator
        assert isinstance(operator, RmsNorm)
        if norm.output not in self._factors:
            squares = rewriter.derived(rewriter[source], SumOfSquares(source.size * operator.epsilon), "squares")
            self._factors[norm.output] = rewriter.region.add(f"{norm.name}.factor", ReciprocalRoot(), squares)
        return self._factors[norm.output]

    def _with_gain(self, norm: Node) -> Tensor:
        """A norm's input times its gain, as a node of its own."""
        rewriter = self._rewriter
        source, gain = norm.inputs
        gains = rewriter.constant(gain.name, gain, data=gain.numbers.astype(np.float64) * np.sqrt(source.size))
        rewriter.put(norm, Multiply(), rewriter[source], gains)
        return rewriter[norm.output]

    def _output_factor(self, node: Node) -> np.ndarray | float:
        """What the outputs of a linear operator are multiplied by for the sake of those who take them."""
        (user, *_) = self._old.users(node.output)
        if isinstance(user.operator, Rotary):
            (user, *_) = self._old.users(user.output)
        if isinstance(user.operator, CacheAppend):
            kept = self._keys if user.operator.by == "row" else self._values
            return 1 / kept[:, :, None]
        if isinstance(user.operator, Attention):
            shared = node.output.shape[0] // self._keys.shape[1]
            return np.repeat(self._keys * user.operator.factor, shared, axis=1)[:, :, None]
        return user.operator.factor if isinstance(user.operator, TopExperts) else 1.0
