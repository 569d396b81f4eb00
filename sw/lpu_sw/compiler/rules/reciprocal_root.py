"""1 / sqrt of a scalar: an operation of the sequencer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.icu import IcuOp
from lpu_isa.tables import Function
from lpu_sw.graph.folded import ReciprocalRoot
from lpu_sw.graph.graph import Node

from ..step import ALL, Part, Request, Step, label
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["ReciprocalRootRule"]


class ReciprocalRootRule(Rule):
    """Register to register."""

    operators: ClassVar = (ReciprocalRoot,)
    makes_scalar: ClassVar = True

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        yield lowering.icu(label(node.output), IcuOp.FUNCTION, rd=lowering.register(node.output),
                           rs=lowering.register(node.inputs[0]), function=Function.RSQRT)  # fmt: skip
