"""A product with a constant, such as a norm's gain."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.vxm import Multiply as Factor
from lpu_isa.vxm import Source
from lpu_sw.graph.elementwise import Multiply
from lpu_sw.graph.graph import Graph, Node

from ..memory import Demand, Memory, Sizes
from ..step import ALL, Part, Request, Step, label
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["MultiplyRule"]


class MultiplyRule(Rule):
    """One pass; the constant lies in vector SRAM."""

    operators: ClassVar = (Multiply,)

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        _, constant = node.inputs
        yield Demand(Memory.VECTORS, constant.name, sizes.vectors(constant.shape), constant,
                     contents=lambda _: sizes.float_words(constant.numbers))  # fmt: skip

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        x, constant = node.inputs
        vectors = lowering.sizes.vectors(x.shape)
        fields = {"source": Source.VMEM, "x": lowering.read_vectors(x, 0, vectors), "multiply": Factor.B,
                  "b": lowering.place(Memory.VECTORS, constant).address}  # fmt: skip
        yield Part(label(node.output), "gain", 0, vectors, fields)
