"""Vector unit: one pass of up to 1,023 vectors through a chain of floating-point units, one vector a cycle.

    source -> convert -> multiply -> add -> function -> gain -> relu -> result
    result -> vector or scale SRAM
           -> reduction -> scalar register
           -> quantiser -> activation buffer or weight SRAM

A unit that a pass does not use is left out of its path, so the latency is a function of the operation. Lanes past
the count (the last vector has ``lanes`` valid ones) raise no fault, are +0 in the result and the quantiser, and the
identity of a reduction.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from .config import TileConfig, address_bits
from .fields import Access, Claim, Field, Slot, Use, register_field
from .mxm import COUNT_BITS, TRACKERS
from .tables import Function

__all__ = [
    "ADD",
    "CONVERT",
    "FUNCTION",
    "MULTIPLY",
    "OPERAND_READ",
    "QUANTISE",
    "REDUCE",
    "RESULT",
    "SCALAR_READ",
    "SOURCE_READ",
    "SOURCE_VALID",
    "TO_BLOCKS",
    "Add",
    "Multiply",
    "Gain",
    "Quantise",
    "Reduce",
    "Source",
    "Stages",
    "VxmOp",
    "Write",
    "count_and_lanes",
    "quantise_latency",
    "slot",
    "stages",
    "use",
]

CONVERT = 4
"""Cycles from a unit's input to its output, for each unit of the chain."""
MULTIPLY = 3
ADD = 6
FUNCTION = 8
RESULT = 1
"""Cycles from the end of the chain to the result."""
QUANTISE = 4
"""Cycles from result to activation buffer or weight SRAM, when a block is one vector; see `quantise_latency`."""
REDUCE = 11
"""Cycles from the last result to the write of the scalar register (argmax: index, its value a cycle later)."""
OPERAND_READ = 2
"""A vector operand is addressed that many cycles before the unit that takes it starts."""
SCALAR_READ = 2
"""A scalar operand is read that many cycles before the unit that takes it starts."""


class VxmOp(IntEnum):
    """Operations of the vector slot."""

    NOP = 0
    PASS = 1


class Source(IntEnum):
    """What enters the chain."""

    VMEM = 0  # vector SRAM through port A, word `x`
    ACC = 1  # accumulator entry `x`, converted to floating point
    WMEM = 2  # row of weight word `x`, `rows` int8 of it a step, converted to floating point
    SXM = 3  # vector SRAM through port A, word `x`, lanes moved by the switch operation of the same bundle


SOURCE_READ = {Source.VMEM: 1, Source.ACC: 2, Source.WMEM: 1, Source.SXM: 1}
"""Cycle of the first source address, counted from issue."""
SOURCE_VALID = {Source.VMEM: 4, Source.ACC: 3, Source.WMEM: 7, Source.SXM: 4}
"""Cycle in which the first source vector enters the chain, at the converter for `ACC` and `WMEM`."""


class Multiply(IntEnum):
    """Second factor of the first multiplier."""

    NONE = 0
    B = 1
    C = 2
    SCALAR = 3


class Add(IntEnum):
    """Second operand of the adder."""

    NONE = 0
    B = 1
    SCALAR = 2
    MINUS_B = 3
    MINUS_SCALAR = 4


class Gain(IntEnum):
    """Second factor of the second multiplier."""

    NONE = 0
    B = 1
    C = 2
    SCALAR = 3
    SELF = 4  # what went into the function: x * sigmoid(x); without a function, the square


class Reduce(IntEnum):
    """Reduction over all valid lanes of all vectors of the operation."""

    NONE = 0
    SUM = 1
    SUM_SQUARES = 2  # squares are made by the second multiplier, beside the result
    MAX = 3
    ARGMAX = 4  # lowest index of the largest value; register + 1 receives the value


class Write(IntEnum):
    """Memory that the result goes to."""

    NONE = 0
    VMEM = 1
    SMEM = 2


class Quantise(IntEnum):
    """Where the quantised result goes, and its scale. A quantising pass has interval 1 (else fault COUNT)."""

    NONE = 0
    ACT = 1  # activation buffer, shared exponent a block
    ROW = 2  # a row of weight words, scale 1: columns (step mod block) * R onwards, the others are kept; K cache
    COLUMN = 3  # a column of weight words, scale 1, one word a step; V cache
    INTEGERS = 4  # activation buffer, scale 1, clamped to -128 and 127: static scales and zero points


TO_BLOCKS = (Quantise.ACT, Quantise.INTEGERS)
"""Those that write blocks of the activation buffer."""


def slot(config: TileConfig) -> Slot:
    """Fields of the vector slot."""
    v, s = address_bits(config.vmem_words), address_bits(config.smem_words)
    wide = max(v, address_bits(config.wmem_words), address_bits(config.accumulators), address_bits(config.act_blocks))
    return Slot("vxm", (
        Field("op", 2, "operation", enum=VxmOp),
        Field("count", COUNT_BITS, "vectors", default=1),
        register_field("count_reg", "added to `count`"),
        Field("interval", 4, "cycles from one vector to the next", default=1),
        Field("lanes", address_bits(config.rows) + 1, "valid lanes of the last vector", default=config.rows),
        register_field("lanes_reg", "added to `lanes`"),
        Field("source", 2, "what enters the chain", enum=Source),
        Field("x", wide, "first source address"),
        register_field("x_reg", "added to `x`"),
        Field("x_step", 8, "added to `x` a step (source WMEM: every C/R steps)", signed=True, default=1),
        register_field("row_reg", "source WMEM: row, modulo rows"),
        Field("multiply", 2, "second factor of the first multiplier", enum=Multiply),
        register_field("multiply_reg", "its scalar"),
        Field("add", 3, "second operand of the adder", enum=Add),
        register_field("add_reg", "its scalar"),
        Field("function", 3, "function", enum=Function),
        Field("gain", 3, "second factor of the second multiplier", enum=Gain),
        register_field("gain_reg", "its scalar"),
        Field("gain_step", 1, "1: `gain_reg` names the next register every step"),
        Field("b", v, "first vector SRAM word of operand B"),
        register_field("b_reg", "added to `b`"),
        Field("b_step", 8, "added to `b` a step", signed=True, default=1),
        Field("c", s, "first scale SRAM word of operand C"),
        register_field("c_reg", "added to `c`"),
        Field("c_step", 8, "added to `c` a step", signed=True, default=1),
        Field("relu", 1, "1: negative results become +0"),
        Field("reduce", 3, "reduction", enum=Reduce),
        register_field("reduce_reg", "receives it"),
        register_field("start_reg", "SUM, SUM_SQUARES: start value (a float)"),
        Field("write", 2, "memory that the result goes to", enum=Write),
        Field("d", max(v, s), "first word written"),
        register_field("d_reg", "added to `d`"),
        Field("d_step", 8, "added to `d` a step", signed=True, default=1),
        Field("quantise", 3, "where the quantised result goes", enum=Quantise),
        Field("q", wide, "first activation block, or weight word"),
        register_field("q_reg", "added to `q`"),
        Field("block", address_bits(config.words_per_block) + 1 if config.words_per_block > 1 else 1,
              "ACT, INTEGERS, ROW: vectors after which a block is closed, 1..C/R; the rest of an act block is zero",
              default=config.words_per_block),
        Field("q_step", 8, "added to `q` a block (ACT, INTEGERS, ROW) or a step (COLUMN)", signed=True, default=1),
        register_field("index_reg", "ROW: row, modulo rows; COLUMN: column, modulo cols"),
        Field("tracker", 2, "ACT, INTEGERS: tracker that remembers the largest block code of this operation"),
    ))  # fmt: skip


class Stages(NamedTuple):
    """Cycle, after issue, in which the first vector enters each unit; -1 for a unit that is left out."""

    convert: int
    source: int  # all sources come out at one place, converted ones after the converter
    multiply: int
    add: int
    function: int
    gain: int
    result: int
    reduce: int


def stages(op: Mapping[str, int]) -> Stages:
    """When the first vector of a pass is where."""
    at = SOURCE_VALID[Source(op["source"])]
    convert = multiply = add = function = gain = reduce = -1
    if op["source"] in (Source.ACC, Source.WMEM):
        convert, at = at, at + CONVERT
    source = at
    if op["multiply"] != Multiply.NONE:
        multiply, at = at, at + MULTIPLY
    if op["add"] != Add.NONE:
        add, at = at, at + ADD
    if op["function"] != Function.NONE:
        function, at = at, at + FUNCTION
    if op["gain"] != Gain.NONE:
        gain, at = at, at + MULTIPLY
    result = at + RESULT
    if op["reduce"] == Reduce.SUM_SQUARES:  # the square is made beside the result
        gain, reduce = at, result + MULTIPLY
    elif op["reduce"] != Reduce.NONE:
        reduce = result
    return Stages(convert, source, multiply, add, function, gain, result, reduce)


def quantise_latency(config: TileConfig) -> int:
    """Cycles from a result to its write by the quantiser: a block's exponent is known with its last vector."""
    return QUANTISE + config.words_per_block - 1


def count_and_lanes(op: Mapping[str, int], registers: Sequence[int]) -> tuple[int, int]:
    """Vectors of the pass, and valid lanes of the last one."""
    return op["count"] + registers[op["count_reg"]], op["lanes"] + registers[op["lanes_reg"]]


def use(config: TileConfig, op: Mapping[str, int], registers: Sequence[int]) -> Use:
    """What a pass touches. ``op`` holds every field; ``registers`` are the scalar registers at issue."""
    if op["op"] != VxmOp.PASS:
        return Use((), ())
    count, _ = count_and_lanes(op, registers)
    step = np.arange(count)
    cycle = step * op["interval"]
    stage = stages(op)
    accesses: list[Access] = []
    claims = [Claim("vxm", np.arange(cycle[-1] + 1)), Claim("vxm.result", stage.result + cycle)]

    def address(name: str, index: np.ndarray) -> np.ndarray:
        return op[name] + registers[op[f"{name}_reg"]] + index * op[f"{name}_step"]

    def read(space: str, port: str, index: np.ndarray, first: int) -> None:
        accesses.append(Access(space, index, first + cycle, write=False))
        claims.append(Claim(port, first + cycle))

    source = Source(op["source"])
    first = SOURCE_READ[source]
    if source is Source.ACC:
        read("acc", "acc.read", address("x", step), first)
    elif source is Source.WMEM:
        read("wmem", "wmem.read", address("x", step // config.words_per_block), first)
    else:
        read("vmem", "vmem.a", address("x", step), first)

    scalars = ["count_reg", "lanes_reg", "x_reg", "row_reg", "start_reg"]
    named = [np.array([op[name] for name in scalars])]
    when = [np.zeros(len(scalars), int)]
    for name, at, choice, choices in (
        ("multiply", stage.multiply, op["multiply"], Multiply),
        ("add", stage.add, op["add"], Add),
        ("gain", stage.gain, op["gain"], Gain),
    ):
        if at < 0:
            continue
        claims.append(Claim(f"vxm.{name}", at + cycle))
        kind = choices(choice).name
        if kind.endswith("SCALAR"):
            moves = name == "gain" and op["gain_step"]
            named.append((op[f"{name}_reg"] + step * moves) % 32)
            when.append(at - SCALAR_READ + cycle)
        elif kind.endswith("B"):
            read("vmem", "vmem.b", address("b", step), at - OPERAND_READ)
        elif kind == "C":
            read("smem", "smem.c", address("c", step), at - OPERAND_READ)
    for name in ("convert", "source", "function"):
        if (at := getattr(stage, name)) >= 0:
            claims.append(Claim(f"vxm.{name}", at + cycle))

    if op["write"] != Write.NONE:
        space = Write(op["write"]).name.lower()
        accesses.append(Access(space, address("d", step), stage.result + cycle, write=True))
        claims.append(Claim(f"{space}.write", stage.result + cycle))
    if op["reduce"] != Reduce.NONE:
        claims.append(Claim("vxm.reduce", stage.reduce + np.arange(cycle[-1] + 1)))
        last = stage.reduce + cycle[-1] + REDUCE
        n = 2 if op["reduce"] == Reduce.ARGMAX else 1
        accesses.append(Access("register", (op["reduce_reg"] + np.arange(n)) % 32, last + np.arange(n), write=True))
        claims.append(Claim("register.write", last + np.arange(n)))
    if op["quantise"] != Quantise.NONE:
        claims.append(Claim("vxm.quantise", stage.result + np.arange(cycle[-1] + config.words_per_block)))
        landed = stage.result + quantise_latency(config) + cycle
        block = step // op["block"]
        if op["quantise"] in TO_BLOCKS:
            accesses.append(Access("act", address("q", block), landed, write=True))
            tracker = np.full(count, op["tracker"] % TRACKERS)
            accesses.append(Access("tracker", tracker, landed, write=True))
        else:
            by_row = op["quantise"] == Quantise.ROW
            accesses.append(Access("wmem", address("q", block if by_row else step), landed, write=True))
            claims.append(Claim("wmem.write", landed))
            named.append(np.array([op["index_reg"]]))
            when.append(np.zeros(1, int))
    for name in ("b_reg", "c_reg", "d_reg", "q_reg"):
        named.append(np.array([op[name]]))
        when.append(np.zeros(1, int))
    accesses.append(Access("register", np.concatenate(named), np.concatenate(when), write=False))
    return Use(tuple(accesses), tuple(claims))
