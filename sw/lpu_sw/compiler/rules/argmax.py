"""The likeliest token: logits into vector SRAM, and the largest of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.vxm import Reduce, Source, Write
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.language import Argmax

from ..memory import Demand, Memory, Sizes, ceil_div
from ..registers import Register
from ..step import ALL, Part, Request, Step
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["ArgmaxRule"]


class ArgmaxRule(Rule):
    """All in one pass where the accumulators hold them; else part by part, and the largest from vector SRAM."""

    operators: ClassVar = (Argmax,)
    streams: ClassVar = frozenset({"x"})

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        (x,) = node.inputs
        yield Demand(Memory.VECTORS, x.kind, sizes.vectors(x.shape))

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        assert isinstance(node.operator, Argmax)
        (x,) = node.inputs
        tile, valid = lowering.tile, node.operator.valid
        vectors = ceil_div(valid, tile.rows)
        lanes = valid - (vectors - 1) * tile.rows
        at = lowering.vectors(x)
        taken_in_turn = tile.accumulators - lowering.layout.end(Memory.ACCUMULATORS)
        chunk = vectors if vectors <= tile.accumulators else taken_in_turn // 2
        largest = {"reduce": Reduce.ARGMAX, "reduce_reg": Register.TOKEN}
        for part in lowering.parts(x, Request(chunk, vectors, one_by_one=True)):
            if isinstance(part, Step):
                yield part
                continue
            is_last = part.first + part.count == vectors
            yield lowering.vxm(
                part.title, part.count, **part.scaled, lanes=lanes if is_last else tile.rows,
                write=Write.VMEM, d=at + part.first, **(largest if chunk == vectors else {}),
            )  # fmt: skip
        if chunk < vectors:
            yield lowering.vxm("largest logit", vectors, lanes=lanes, source=Source.VMEM, x=at, **largest)
