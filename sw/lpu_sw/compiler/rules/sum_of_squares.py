"""A sum of squares: the reduction of the pass that makes the vector."""

from typing import TYPE_CHECKING, ClassVar

from lpu_isa.vxm import Reduce
from lpu_sw.graph.folded import SumOfSquares
from lpu_sw.graph.graph import Node

from ..registers import Register
from ..step import Part
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["SumOfSquaresRule"]


class SumOfSquaresRule(Rule):
    """Of a vector that several passes make, each goes on from the sum of the one before."""

    operators: ClassVar = (SumOfSquares,)
    makes_scalar: ClassVar = True

    def receives(self, lowering: "Lowering", node: Node, part: Part) -> dict[str, int]:
        register = lowering.register(node.output)
        start = register if part.first else Register.EPSILON
        return {"reduce": Reduce.SUM_SQUARES, "reduce_reg": register, "start_reg": start}
