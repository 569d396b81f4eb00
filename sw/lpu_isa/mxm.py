"""Matrix unit: a walk over weight words and activation blocks into the accumulator bank.

Each step reads one weight word and one activation block, multiplies and sums each row, shifts the sum by the block's
exponent against the accumulator's base and adds it to (or puts it into) one accumulator entry, one step a cycle.

Steps of an operation that follow each other add to any one entry. To what was there before, a step adds in the first
`TileConfig.summed` entries only; elsewhere that is the fault `ADDRESS`.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np

from .config import TileConfig, address_bits
from .fields import Access, Claim, Field, Slot, Use, register_field

__all__ = ["ACCUMULATE_OFFSET", "ACT_READ", "COUNT_BITS", "TRACKERS", "WMEM_READ", "Base", "Clear", "MxmOp",
           "accumulate_cycle", "adds", "slot", "steps", "unsummed", "use"]  # fmt: skip

COUNT_BITS = 10
TRACKERS = 4
"""Registers that each remember the largest block code that one quantising operation made."""

WMEM_READ = 2
"""Cycle of the first weight address, counted from issue."""
ACT_READ = 2
"""Cycle of the first activation block read; the tracker is read in the same cycle."""
ACCUMULATE_OFFSET = 8
"""The first accumulator is read and written so many cycles after issue, and one more for each two levels of the adder
tree: weight data at 5, products at 7, a register for two levels, and one for the shift."""


class MxmOp(IntEnum):
    """Operations of the matrix slot."""

    NOP = 0
    MATMUL = 1


class Clear(IntEnum):
    """In which steps the accumulator is replaced rather than added to."""

    NEVER = 0
    INNER = 1  # the inner index is 0: outputs walked one after the other
    OUTER = 2  # the outer index is 0: inputs walked block by block


class Base(IntEnum):
    """Where the base code of the accumulators comes from."""

    IMMEDIATE = 0
    TRACKER = 1


def accumulate_cycle(config: TileConfig) -> int:
    """Cycle, after issue, in which the first accumulator is read and written."""
    return ACCUMULATE_OFFSET + -(-config.tree_levels // 2)


def slot(config: TileConfig) -> Slot:
    """Fields of the matrix slot."""
    wmem, act, acc = (address_bits(n) for n in (config.wmem_words, config.act_blocks, config.accumulators))
    return Slot("mxm", (
        Field("op", 2, "operation", enum=MxmOp),
        Field("inner", COUNT_BITS, "steps of the inner loop", default=1),
        register_field("inner_reg", "added to `inner`"),
        Field("outer", COUNT_BITS, "steps of the outer loop", default=1),
        register_field("outer_reg", "added to `outer`"),
        Field("weights", wmem, "first weight word"),
        register_field("weights_reg", "added to `weights`"),
        Field("weights_inner", wmem + 1, "weight words a step of the inner loop", signed=True),
        Field("weights_outer", wmem + 1, "weight words a step of the outer loop", signed=True),
        Field("act", act, "first activation block"),
        Field("act_inner", act + 1, "blocks a step of the inner loop", signed=True),
        Field("act_outer", act + 1, "blocks a step of the outer loop", signed=True),
        Field("acc", acc, "first accumulator"),
        Field("acc_inner", acc + 1, "accumulators a step of the inner loop", signed=True),
        Field("acc_outer", acc + 1, "accumulators a step of the outer loop", signed=True),
        Field("clear", 2, "when the accumulator is replaced", enum=Clear),
        Field("base", 1, "source of the base code", enum=Base),
        Field("exponent", 8, "base code when `base` is immediate", default=127),
        Field("tracker", 2, "tracker when `base` is tracker"),
    ))  # fmt: skip


def steps(op: Mapping[str, int], inner: int, outer: int, operand: str, first: int) -> np.ndarray:
    """Addresses of ``operand`` (``weights``, ``act`` or ``acc``) in step order, shape (outer * inner,)."""
    grid = np.arange(outer)[:, None] * op[f"{operand}_outer"] + np.arange(inner) * op[f"{operand}_inner"]
    return (first + grid).ravel()


def adds(op: Mapping[str, int], inner: int, outer: int) -> np.ndarray:
    """Which steps add to the accumulator rather than replace it: bool (outer * inner,)."""
    step = np.arange(inner * outer)
    return {Clear.NEVER: step >= 0, Clear.INNER: step % inner > 0, Clear.OUTER: step >= inner}[Clear(op["clear"])]


def unsummed(config: TileConfig, op: Mapping[str, int], inner: int, outer: int) -> np.ndarray:
    """Which steps add to an entry that cannot be added to: bool (outer * inner,)."""
    acc = steps(op, inner, outer, "acc", op["acc"])
    follows = np.append(False, acc[1:] == acc[:-1])
    return adds(op, inner, outer) & ~follows & (acc >= config.summed)


def use(config: TileConfig, op: Mapping[str, int], registers: Sequence[int]) -> Use:
    """What a matmul touches. ``op`` holds every field; ``registers`` are the scalar registers at issue."""
    if op["op"] != MxmOp.MATMUL:
        return Use((), ())
    inner = op["inner"] + registers[op["inner_reg"]]
    outer = op["outer"] + registers[op["outer_reg"]]
    cycle = np.arange(inner * outer)
    weights = steps(op, inner, outer, "weights", op["weights"] + registers[op["weights_reg"]])
    act = steps(op, inner, outer, "act", op["act"])
    acc = steps(op, inner, outer, "acc", op["acc"])
    accumulate = accumulate_cycle(config) + cycle
    named = np.array([op["weights_reg"], op["inner_reg"], op["outer_reg"]])
    accesses = [
        Access("register", named, np.zeros(3, int), write=False),
        Access("wmem", weights, WMEM_READ + cycle, write=False),
        Access("act", act, ACT_READ + cycle, write=False),
        Access("acc", acc, accumulate, write=True),
    ]
    if op["clear"] == Clear.NEVER:
        accesses.append(Access("acc", acc, accumulate, write=False))
    if op["base"] == Base.TRACKER:
        accesses.append(Access("tracker", np.array([op["tracker"]]), np.array([ACT_READ]), write=False))
    return Use(tuple(accesses), (Claim("mxm", cycle), Claim("wmem.read", WMEM_READ + cycle)))
