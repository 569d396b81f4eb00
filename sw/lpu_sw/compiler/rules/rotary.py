"""Rotary embedding: the pairs of a head turned by the angles of the position."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.vxm import Add, Multiply, Source, Write
from lpu_sw.graph.folded import QuantiseBlocks
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.language import Rotary

from ..memory import Demand, Memory, Sizes
from ..step import ALL, Part, Request, Step
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["RotaryRule"]


class RotaryRule(Rule):
    """Three passes: x as it comes, x with the two of each pair exchanged times sin, and x times cos plus that.

    Queries are asked for in parts of a few heads, so that the first can be turned beside the matmul of the others.
    """

    operators: ClassVar = (Rotary,)
    streams: ClassVar = frozenset({"x"})

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        for use in ("straight", "swapped"):
            yield Demand(Memory.VECTORS, f"{node.output.kind} {use}", sizes.vectors(node.output.shape))

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        x, cos, sin = node.inputs
        straight, swapped = (lowering.vectors(node.output, use) for use in ("straight", "swapped"))
        head = lowering.sizes.head_vectors(x.shape[-1])
        # Lanes of one vector share their angles with all heads; a head of several vectors takes a pass for itself.
        step = {"c_step": 0 if head == 1 else 1}
        heads = max(lowering.chunk // head, 1) * head
        kept = not any(isinstance(user.operator, QuantiseBlocks) for user in lowering.graph.users(node.output))
        for part in lowering.parts(x, ALL if kept else Request(heads)):
            if isinstance(part, Step):
                yield part
                continue
            yield lowering.vxm(part.title, part.count, **part.scaled, write=Write.VMEM,
                               d=straight + part.first)  # fmt: skip
            count = part.count if head == 1 else head
            for first in range(part.first, part.first + part.count, count):
                yield lowering.exchanged(
                    f"{part.name} swapped", count, x=straight + first, multiply=Multiply.C,
                    c=lowering.place(Memory.SCALES, sin).address, write=Write.VMEM, d=swapped + first, **step,
                )  # fmt: skip
                fields = {"source": Source.VMEM, "x": straight + first, "multiply": Multiply.C,
                          "c": lowering.place(Memory.SCALES, cos).address, "add": Add.B, "b": swapped + first,
                          **step}  # fmt: skip
                yield Part(part.name, "turned", first, count, fields)
