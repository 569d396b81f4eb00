"""A position of a cache: the quantiser at the end of the pass that makes the keys, or the values."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.vxm import Quantise
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.language import CacheAppend

from ..memory import RING, Demand, Memory, Sizes
from ..registers import Register
from ..step import Part
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["CacheAppendRule"]


class CacheAppendRule(Rule):
    """A position is a row of a word of keys, ``rows`` to a word, and a column of a word of values, ``cols`` to a word.

    The words of a block of a key, and of a vector of a value, follow one another for all positions.
    """

    operators: ClassVar = (CacheAppend,)

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        assert isinstance(node.operator, CacheAppend)
        shape = node.inputs[0].shape
        is_row = node.operator.by == "row"
        words = sizes.blocks(shape, True) * sizes.key_groups if is_row else sizes.vectors(shape) * sizes.value_steps
        yield Demand(Memory.WEIGHTS, node.name, words)
        yield Demand(Memory.ACCUMULATORS, RING, sizes.vectors(shape))

    def receives(self, lowering: "Lowering", node: Node, part: Part) -> dict[str, int]:
        assert isinstance(node.operator, CacheAppend)
        sizes, first = lowering.sizes, lowering.place(Memory.WEIGHTS, node.output).address
        if node.operator.by == "column":
            return {"quantise": Quantise.COLUMN, "q": first + part.first * sizes.value_steps, "q_reg": Register.VALUE,
                    "q_step": sizes.value_steps, "index_reg": Register.POSITION}  # fmt: skip
        block = min(sizes.head_vectors(node.inputs[0].shape[-1]), lowering.tile.words_per_block)
        return {"quantise": Quantise.ROW, "q": first + part.first // block * sizes.key_groups, "q_reg": Register.KEY,
                "q_step": sizes.key_groups, "block": block, "index_reg": Register.POSITION}  # fmt: skip
