"""Softmax attention in one pass a head, over as many positions as there are."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lpu_isa.icu import IcuOp
from lpu_isa.mxm import TRACKERS, Base, Clear
from lpu_isa.tables import Function
from lpu_isa.vxm import Gain, Multiply, Quantise, Reduce, Source
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.language import Attention

from ..memory import RING, Demand, Memory, Sizes, ceil_div
from ..registers import HEAD_REGISTERS, Register
from ..step import ALL, Part, Request, Step
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["AttentionRule"]


ATTENDED = "attended"
"""Accumulators of results: two sets, which heads that share a block take in turn."""


class AttentionRule(Rule):
    """Scores are exponents of two, with no maximum taken off; results are divided by the sum of the exponentials.

    Heads that share an activation block of the result form a part. Their results lie side by side, so that one pass
    takes them.
    """

    operators: ClassVar = (Attention,)
    makes_parts: ClassVar = True

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        queries, _, _, scale = node.inputs
        n_heads, head_dim = queries.shape
        yield Demand(Memory.SCALES, scale.name, n_heads, scale, contents=lambda index: sizes.float_words(
            np.repeat(scale.numbers[index], sizes.tile.rows)))  # fmt: skip
        yield Demand(Memory.ACCUMULATORS, ATTENDED, 2 * _heads_of_part(sizes, head_dim) * sizes.head_vectors(head_dim))
        yield Demand(Memory.ACCUMULATORS, RING, sizes.key_groups)
        yield Demand(Memory.BLOCKS, RING, sizes.value_steps)

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        n_heads, head_dim = node.output.shape
        scale, scale_register = lowering.place(Memory.SCALES, node.inputs[3])
        n_part, vectors = _heads_of_part(lowering.sizes, head_dim), lowering.sizes.head_vectors(head_dim)
        for turn, first in enumerate(range(0, n_heads, n_part)):
            attended = lowering.layout.place(Memory.ACCUMULATORS, ATTENDED).address + turn % 2 * n_part * vectors
            heads = range(first, min(first + n_part, n_heads))
            for head in heads:
                yield from self._head(lowering, node, head, attended + (head - first) * vectors)
            several = vectors == 1
            yield Part(f"head {first}", "attended", first * vectors, len(heads) * vectors, {
                "source": Source.ACC, "x": attended, "multiply": Multiply.C, "c": scale + first,
                "c_reg": scale_register, "c_step": int(several), "gain": Gain.SCALAR, "gain_reg": _sum_register(first),
                "gain_step": int(several),
            })  # fmt: skip

    def _head(self, lowering: "Lowering", node: Node, head: int, attended: int) -> Iterator[Step]:
        """One head: scores, their exponentials and sum, and the values that they weigh."""
        sizes, operator = lowering.sizes, node.operator
        assert isinstance(operator, Attention)
        queries, keys, values = node.inputs[:3]
        kv_head = head // (queries.shape[0] // keys.shape[1])
        vectors = sizes.head_vectors(queries.shape[1])
        blocks = ceil_div(vectors, lowering.tile.words_per_block)
        tracker = 1 + head % (TRACKERS - 1)  # tracker 0 is everybody else's
        scores, sum_register = lowering.accumulators(ceil_div(lowering.limit, lowering.tile.rows)), _sum_register(head)
        keys_at, keys_register = lowering.place(Memory.WEIGHTS, keys)
        yield lowering.mxm(
            f"head {head} scores", inner=blocks, outer=0, outer_reg=Register.GROUPS,
            weights=keys_at + kv_head * blocks * sizes.key_groups, weights_reg=keys_register,
            weights_inner=sizes.key_groups, weights_outer=1, act=lowering.read_blocks(queries, head * blocks, blocks),
            act_inner=1, acc=scores, acc_outer=1, clear=Clear.INNER, exponent=operator.base,
        )  # fmt: skip
        numerators = lowering.numerators()
        yield lowering.vxm(
            f"head {head} exponentials", 0, count_reg=Register.GROUPS, lanes=0, lanes_reg=Register.LANES,
            source=Source.ACC, x=scores, function=Function.EXP2, reduce=Reduce.SUM, reduce_reg=sum_register,
            quantise=Quantise.ACT, q=numerators, tracker=tracker,
        )  # fmt: skip
        yield lowering.icu(f"head {head} norm", IcuOp.FUNCTION, rd=sum_register, rs=sum_register,
                           function=Function.RECIPROCAL)  # fmt: skip
        values_at, values_register = lowering.place(Memory.WEIGHTS, values)
        yield lowering.mxm(
            f"head {head} values", inner=0, inner_reg=Register.STEPS, outer=vectors,
            weights=values_at + kv_head * vectors * sizes.value_steps, weights_reg=values_register, weights_inner=1,
            weights_outer=sizes.value_steps, act=numerators, act_inner=1, acc=attended, acc_outer=1,
            clear=Clear.INNER, base=Base.TRACKER, tracker=tracker,
        )  # fmt: skip


def _heads_of_part(sizes: Sizes, head_dim: int) -> int:
    """Heads whose results share a block; 1 where a head fills blocks."""
    return sizes.tile.words_per_block if sizes.head_vectors(head_dim) == 1 else 1


def _sum_register(head: int) -> int:
    return Register.HEAD + head % HEAD_REGISTERS
