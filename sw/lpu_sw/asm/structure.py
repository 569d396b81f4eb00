"""Rules that hold for a program's text whatever it computes: balanced loops, targets inside it."""

from collections.abc import Iterator, Sequence

from lpu_isa.bundle import Bundle
from lpu_isa.icu import BRANCHES, LOOP_DEPTH, IcuOp

__all__ = ["structural_mistakes"]


def structural_mistakes(bundles: Sequence[Bundle]) -> Iterator[tuple[int, str]]:
    """Bundle number and message of each mistake."""
    loops: list[int] = []
    for pc, bundle in enumerate(bundles):
        operation = bundle.operations.get("icu")
        op = IcuOp(operation["op"]) if operation else IcuOp.NOP
        if op is IcuOp.LOOP:
            loops.append(pc)
            if len(loops) > LOOP_DEPTH:
                yield pc, f"found loop {len(loops)} inside others, expected at most {LOOP_DEPTH} nested loops"
        elif op is IcuOp.END:
            if not loops:
                yield pc, "found an end without a loop, expected a loop before it"
            else:
                loops.pop()
        elif op in BRANCHES and operation is not None:
            target = operation.values.get("imm", 0)
            if not 0 <= target < len(bundles):
                yield pc, f"found a branch to bundle {target}, expected one from 0 to {len(bundles) - 1}"
    for pc in loops:
        yield pc, f"found a loop without an end, expected an end before the end of the program (bundle {len(bundles)})"
