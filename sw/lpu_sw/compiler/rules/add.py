"""A sum of a stored vector and one that is just being made: a residual."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.vxm import Add as Operand
from lpu_sw.graph.elementwise import Add
from lpu_sw.graph.graph import Graph, Node

from ..memory import Demand, Memory, Sizes
from ..step import ALL, Part, Request, Step, label
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["AddRule"]


class AddRule(Rule):
    """The adder of the pass that ends the matmul. The sum replaces the stored vector, which is of its kind."""

    operators: ClassVar = (Add,)
    streams: ClassVar = frozenset({"b"})

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        yield Demand(Memory.VECTORS, node.output.kind, sizes.vectors(node.output.shape))

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        stored, made = node.inputs
        for part in lowering.parts(made):
            if isinstance(part, Part):
                assert not part.factor, f"{node.name}: a factor cannot come behind the adder"
                stored_at = lowering.read_vectors(stored, part.first, part.count)
                fields = {**part.fields, "add": Operand.B, "b": stored_at}
                yield Part(label(made), "residual", part.first, part.count, fields)
            else:
                yield part
