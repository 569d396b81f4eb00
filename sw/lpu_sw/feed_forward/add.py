"""Rule of IntegerAdd: two clamped images, each times its factor."""

from lpu_isa.formats import QUANTISED_MAX
from lpu_isa.vxm import Add, Multiply
from lpu_sw.graph.graph import Node
from lpu_sw.graph.integer import IntegerAdd

from .lowering import Lowering

__all__ = ["lower_add"]


def lower_add(lowering: Lowering, node: Node) -> None:
    """Lower a sum, row by row. What is stored of a clamped image is 127 - q (`Lowering.held`)."""
    operator = node.operator
    assert isinstance(operator, IntegerAdd)
    a, b = (lowering.held(tensor) for tensor in node.inputs)
    made = lowering.store(node, -lowering.rounder)
    constant = operator.zero_point
    constant += operator.a_factor * (QUANTISED_MAX - operator.a_zero)
    constant += operator.b_factor * (QUANTISED_MAX - operator.b_zero)
    for y in range(made.image.height):
        words, count = made.area.word(y), made.image.row_words
        lowering.words(
            "first", a.word(y), words, count, multiply=Multiply.C, c=lowering.scale_word(-operator.a_factor), c_step=0,
            add=Add.B, b=lowering.vector_word(constant), b_step=0,
        )  # fmt: skip
        lowering.words(
            "second", b.word(y), words, count, multiply=Multiply.C, c=lowering.scale_word(-operator.b_factor), c_step=0,
            add=Add.B, b=words,
        )  # fmt: skip
        lowering.round_(words, count)
