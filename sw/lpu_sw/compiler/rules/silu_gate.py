"""SwiGLU: silu of the gate, times up."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.tables import Function
from lpu_isa.vxm import Gain, Multiply, Source, Write
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.language import SiluGate

from ..memory import Demand, Memory, Sizes
from ..step import ALL, Part, Request, Step
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["SiluGateRule"]


class SiluGateRule(Rule):
    """The gate first, so that its silu hides behind the matmul of up, whose parts are then complete in one pass.

    That pass has no multiplier left for up's own factor (of the norm before it), so the gate gets it.
    """

    operators: ClassVar = (SiluGate,)
    streams: ClassVar = frozenset({"gate", "up"})
    makes_parts: ClassVar = True

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        for use in ("gate", "silu"):
            yield Demand(Memory.VECTORS, f"{node.output.kind} {use}", sizes.vectors(node.output.shape))

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        gate, up = node.inputs[:2]
        gate_at, silu_at = (lowering.vectors(node.output, use) for use in ("gate", "silu"))
        share = node.input("share")
        weighted = {"gain": Gain.SCALAR, "gain_reg": lowering.expert(share).share} if share is not None else {}
        maker = lowering.graph.maker(up)
        assert maker is not None
        factor = lowering.factor(maker)
        for part in lowering.parts(gate, Request(lowering.chunk)):
            if isinstance(part, Step):
                yield part
                continue
            n, at, name = part.count, part.first, part.name
            yield lowering.vxm(part.title, n, **part.scaled, write=Write.VMEM, d=gate_at + at)
            yield lowering.vxm(f"{name} silu", n, source=Source.VMEM, x=gate_at + at, function=Function.SIGMOID,
                               gain=Gain.SELF, write=Write.VMEM, d=silu_at + at)  # fmt: skip
            yield lowering.vxm(f"{name} normed", n, source=Source.VMEM, x=silu_at + at, multiply=Multiply.SCALAR,
                               multiply_reg=factor, **weighted, write=Write.VMEM, d=gate_at + at)  # fmt: skip
        for part in lowering.parts(up, Request(lowering.chunk)):
            if isinstance(part, Step):
                yield part
                continue
            fields = {**part.fields, "gain": Gain.B, "b": gate_at + part.first}
            yield Part(part.name, "gated", part.first, part.count, fields)
