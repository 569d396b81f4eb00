"""The experts of a token, the largest logit first, with their places and their shares."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lpu_isa.icu import IcuOp
from lpu_isa.tables import Function
from lpu_isa.vxm import Add, Gain, Reduce, Source, Write
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.language import TopExperts

from ..memory import Demand, DoesNotFit, Memory, Sizes
from ..registers import EXPERT_PLACE, EXPERT_SUM, MOST_CHOSEN, Register, expert_registers
from ..step import ALL, Part, Request, Step, label
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["TopExpertsRule"]


MASKED = -(2.0**60)
"""Added to the logit of an expert that has been chosen: below any that has not."""

LOGITS, SHARES, MASKS, ZERO = "expert logits", "expert shares", "expert masks", "zero"


class TopExpertsRule(Rule):
    """A chosen expert's logit is masked before the next is chosen.

    Logits are exponents of two: a share is 2 ** (logit - largest), over the sum of those chosen.
    """

    operators: ClassVar = (TopExperts,)
    streams: ClassVar = frozenset({"logits"})

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        assert isinstance(node.operator, TopExperts)
        n_experts, rows = node.inputs[0].size, sizes.tile.rows
        if n_experts > rows:
            raise DoesNotFit(f"the model has {n_experts} experts, the {sizes.tile.name} tile takes {rows}")
        if node.operator.count > MOST_CHOSEN:
            raise DoesNotFit(f"a token goes through {node.operator.count} experts, the compiler takes {MOST_CHOSEN}")
        for name in (LOGITS, SHARES, ZERO):
            yield Demand(Memory.VECTORS, name, 1)
        yield Demand(Memory.VECTORS, MASKS, n_experts, contents=lambda _: np.eye(n_experts, rows) * MASKED)

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        (logits,) = node.inputs
        n_experts = logits.size
        chosen = [expert_registers(rank) for rank in range(len(node.outputs) // 2)]
        names = [label(output) for output in node.outputs[: len(chosen)]]

        def at(name: str) -> int:
            return lowering.layout.place(Memory.VECTORS, name).address

        for part in lowering.parts(logits):
            if isinstance(part, Step):
                yield part
                continue
            yield lowering.vxm(part.title, lanes=n_experts, **part.scaled, write=Write.VMEM, d=at(LOGITS),
                               reduce=Reduce.ARGMAX, reduce_reg=chosen[0].weights)  # fmt: skip
        yield lowering.vxm(
            "shares", source=Source.VMEM, x=at(LOGITS), lanes=n_experts, add=Add.MINUS_SCALAR,
            add_reg=chosen[0].share, function=Function.EXP2, write=Write.VMEM, d=at(SHARES),
        )  # fmt: skip
        for name, (before, expert) in zip(names[1:], pairwise(chosen), strict=True):
            yield lowering.vxm(
                name, source=Source.VMEM, x=at(LOGITS), lanes=n_experts, add=Add.B, b=at(MASKS), b_reg=before.weights,
                write=Write.VMEM, d=at(LOGITS), reduce=Reduce.ARGMAX, reduce_reg=expert.weights,
            )  # fmt: skip
        alone = {"source": Source.VMEM, "x": at(ZERO), "lanes": 1, "add": Add.SCALAR, "reduce": Reduce.SUM}
        for name, expert in zip(names, chosen, strict=True):
            yield lowering.icu(f"{name} share", IcuOp.VLANE, rd=expert.share, rs=Register.ZERO, rt=expert.weights,
                               imm=at(SHARES))  # fmt: skip
            yield lowering.vxm(f"{name} sum", **alone, add_reg=expert.share, reduce_reg=EXPERT_SUM,
                               start_reg=Register.ZERO if expert is chosen[0] else EXPERT_SUM)  # fmt: skip
        yield lowering.icu("shares' norm", IcuOp.FUNCTION, rd=EXPERT_SUM, rs=EXPERT_SUM, function=Function.RECIPROCAL)
        for name, expert in zip(names, chosen, strict=True):
            yield lowering.vxm(f"{name} weight", **alone, add_reg=expert.share, gain=Gain.SCALAR, gain_reg=EXPERT_SUM,
                               reduce_reg=expert.share)  # fmt: skip
        for name, expert in zip(names, chosen, strict=True):
            yield from _multiple(lowering, f"{name} scales", expert.scales, expert.weights,
                                 lowering.layout.expert_stride(Memory.SCALES), Register.SCALES)  # fmt: skip
            yield lowering.icu(f"{name} index", IcuOp.ADDI, rd=EXPERT_SUM, rs=expert.weights, imm=0)
            yield from _multiple(lowering, f"{name} weights", expert.weights, EXPERT_SUM,
                                 lowering.layout.expert_stride(Memory.WEIGHTS), Register.LAYER)  # fmt: skip


def _multiple(lowering: "Lowering", name: str, rd: int, index: int, factor: int, base: int) -> Iterator[Step]:
    """rd = base + index * factor, by shifts and additions."""
    for bit in range(factor.bit_length()):
        if factor >> bit & 1:
            yield lowering.icu(f"{name} times {1 << bit}", IcuOp.SHL, rd=EXPERT_PLACE, rs=index, imm=bit)
            yield lowering.icu(f"{name} place", IcuOp.ADD, rd=rd, rs=base, rt=EXPERT_PLACE)
            base = rd
