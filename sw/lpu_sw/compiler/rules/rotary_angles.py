"""Cosines and sines of the position, by the sum of two angles from tables."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lpu_isa.vxm import Add, Multiply, Source, Write
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.language import RotaryAngles

from ..memory import Demand, Memory, Sizes, ceil_div
from ..registers import Register
from ..step import ALL, Part, Request, Step, label
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["RotaryAnglesRule"]


ROTARY_RADIX = 16
"""A position's angle is the sum of two table entries: position // 16 and position mod 16."""


class RotaryAnglesRule(Rule):
    """cos(a + b) = cos a cos b - sin a sin b, and sin(a + b) = sin a cos b + cos a sin b.

    Tables lie vector of the head by vector of the head. Their sines carry the sign of their lane, minus on the first of
    a pair, which cancels in the product of two and stays in the others.
    """

    operators: ClassVar = (RotaryAngles,)

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        operator = node.operator
        assert isinstance(operator, RotaryAngles)
        head = sizes.head_vectors(operator.head_dim)
        entries = {"high": (ceil_div(sizes.context, ROTARY_RADIX), ROTARY_RADIX), "low": (ROTARY_RADIX, 1)}
        for part, (count, step) in entries.items():
            for function in ("cos", "sin"):

                def table(
                    _: tuple[int, ...], count: int = count, step: int = step, function: str = function
                ) -> np.ndarray:
                    values = _table(operator, np.arange(count) * step, function)
                    words = sizes.float_words(values).reshape(count, head, -1)
                    return words.swapaxes(0, 1).reshape(count * head, -1)

                yield Demand(Memory.VECTORS, f"{part} {function}", head * count, contents=table)
        yield Demand(Memory.VECTORS, "products of angles", 4 * head)
        for output in node.outputs:
            yield Demand(Memory.SCALES, output.name, head)

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        operator = node.operator
        assert isinstance(operator, RotaryAngles)
        head = lowering.sizes.head_vectors(operator.head_dim)

        def place(name: str) -> int:
            return lowering.layout.place(Memory.VECTORS, name).address

        products = place("products of angles")
        for number, (high, low) in enumerate((("sin", "sin"), ("cos", "cos"), ("sin", "cos"), ("cos", "sin"))):
            yield lowering.vxm(
                f"high {high} * low {low}", head, source=Source.VMEM, x=place(f"high {high}"),
                x_reg=Register.ROTARY_HIGH, x_step=ceil_div(lowering.sizes.context, ROTARY_RADIX),
                multiply=Multiply.B, b=place(f"low {low}"), b_reg=Register.ROTARY_LOW, b_step=ROTARY_RADIX,
                write=Write.VMEM, d=products + number * head,
            )  # fmt: skip
        cos, sin = node.outputs
        for output, first, second, add in ((cos, 1, 0, Add.MINUS_B), (sin, 2, 3, Add.B)):
            yield lowering.vxm(
                label(output), head, source=Source.VMEM, x=products + first * head, add=add,
                b=products + second * head, write=Write.SMEM, d=lowering.place(Memory.SCALES, output).address,
            )  # fmt: skip


def _table(operator: RotaryAngles, positions: np.ndarray, function: str) -> np.ndarray:
    """cos, or sin with the sign of its component, of so many positions: float64 (positions, head_dim)."""
    component = np.arange(operator.head_dim)
    angles = positions[:, None] * operator.theta ** (-(component // 2 * 2) / operator.head_dim)
    return np.cos(angles) if function == "cos" else np.sin(angles) * np.where(component % 2, 1.0, -1.0)
