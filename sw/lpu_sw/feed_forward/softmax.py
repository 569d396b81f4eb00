"""Rule of IntegerSoftmax: exponentials of base 2 less the largest, over their sum."""

import numpy as np

from lpu_isa.icu import IcuOp
from lpu_isa.tables import Function
from lpu_isa.vxm import Add, Gain, Multiply, Reduce
from lpu_sw.compiler.memory import ceil_div
from lpu_sw.graph.graph import Node
from lpu_sw.graph.integer import IntegerSoftmax

from .lowering import Lowering

__all__ = ["lower_softmax"]

_LARGEST, _SUM, _RECIPROCAL = 2, 3, 4
"""Scalar registers."""


def lower_softmax(lowering: Lowering, node: Node) -> None:
    """Lower a softmax over the channels of one pixel."""
    operator = node.operator
    assert isinstance(operator, IntegerSoftmax)
    held = lowering.held(node.inputs[0])
    made = lowering.store(node, operator.zero_point - lowering.rounder)
    count, lanes = ceil_div(made.image.channels, lowering.tile.rows), lowering.last_lanes(made.image)
    at = made.area.first
    exponents = lowering.scale_word(-operator.x_scale / np.log(2))
    lowering.words("exponents", held.first, at, count, multiply=Multiply.C, c=exponents, c_step=0,
                   reduce=Reduce.MAX, reduce_reg=_LARGEST, lanes=lanes)  # fmt: skip
    lowering.words("numerators", at, at, count, add=Add.MINUS_SCALAR, add_reg=_LARGEST, function=Function.EXP2,
                   reduce=Reduce.SUM, reduce_reg=_SUM, lanes=lanes)  # fmt: skip
    lowering.scalar("divisor", IcuOp.FUNCTION, rd=_RECIPROCAL, function=Function.RECIPROCAL, rs=_SUM)
    lowering.words("shares", at, at, count, multiply=Multiply.SCALAR, multiply_reg=_RECIPROCAL,
                   gain=Gain.C, c=lowering.scale_word(1 / operator.scale), c_step=0)  # fmt: skip
    lowering.round_(at, count)
