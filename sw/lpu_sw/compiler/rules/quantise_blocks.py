"""Activation blocks: the quantiser at the end of the pass that makes the vector."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.vxm import Quantise
from lpu_sw.graph.folded import QuantiseBlocks
from lpu_sw.graph.graph import Graph, Node

from ..memory import Demand, Memory, Sizes, ceil_div
from ..step import Part
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["QuantiseBlocksRule"]


class QuantiseBlocksRule(Rule):
    """Blocks of one kind lie in one place: those that are made later replace those that were made before."""

    operators: ClassVar = (QuantiseBlocks,)

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        assert isinstance(node.operator, QuantiseBlocks)
        yield Demand(Memory.BLOCKS, node.output.kind, sizes.blocks(node.output.shape, node.operator.by_head))

    def receives(self, lowering: "Lowering", node: Node, part: Part) -> dict[str, int]:
        assert isinstance(node.operator, QuantiseBlocks)
        block = lowering.tile.words_per_block
        if node.operator.by_head:
            block = min(block, lowering.sizes.head_vectors(node.output.shape[-1]))
        first = lowering.write_blocks(node.output, part.first // block, ceil_div(part.count, block))
        return {"quantise": Quantise.ACT, "q": first, "block": block}
