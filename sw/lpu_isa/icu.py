"""Sequencer: scalar registers, loops, branches, lane reads, and the mailbox to the host.

One operation a bundle. Integers are 32 bits, two's complement, and wrap; floats sit in the low bits of a register.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np

from .config import TileConfig
from .fields import Access, Claim, Field, Slot, Use, register_field
from .tables import Function

__all__ = ["ALU", "BRANCH", "BRANCHES", "LANE", "LOOP_DEPTH", "REFETCHES", "SCALAR_FUNCTION", "IcuOp", "slot", "use"]

ALU = 1
"""Cycle, after issue, in which an integer result is written (so it is read from the next cycle on)."""
SCALAR_FUNCTION = 10
"""The same for a function of a scalar."""
LANE = 5
"""The same for a lane of a memory; the memory is addressed in cycle 1."""
BRANCH = 4
"""Smallest distance to the next bundle after an operation of `REFETCHES`, taken or not."""
LOOP_DEPTH = 4
"""Nested hardware loops."""


class IcuOp(IntEnum):
    """Operations of the sequencer slot; ``imm`` is signed, registers are ``rd``, ``rs``, ``rt``."""

    NOP = 0
    LI = 1  # rd = imm
    ADDI = 2  # rd = rs + imm
    ADD = 3  # rd = rs + rt
    SUB = 4  # rd = rs - rt
    ANDI = 5  # rd = rs & imm
    SHL = 6  # rd = rs << imm, imm from 0 to 31
    SHR = 7  # rd = rs >> imm, logical
    FUNCTION = 8  # rd = function(rs), floats
    VLANE = 9  # rd = lane rt (modulo rows) of vector SRAM word imm + rs
    SLANE = 10  # rd = lane rt (modulo rows) of scale SRAM word imm + rs
    LOOP = 11  # the bundles up to END run imm + rs times (at least once)
    END = 12  # end of the innermost loop: the next bundle is the one after LOOP, or the one after END
    JUMP = 13  # next bundle is imm
    BEQ = 14  # next bundle is imm if rs == rt
    BNE = 15
    BLT = 16  # signed
    BGE = 17
    TIMING = 18  # timing base = rs + imm: the distance of a timed bundle at pc is timing[base + pc]
    RECV = 19  # wait until the inbox holds a word, then rd = that word; no operation may be running
    SEND = 20  # put rs and the cycle counter into the outbox
    HALT = 21  # stop; the host sees `halted`


BRANCHES = (IcuOp.JUMP, IcuOp.BEQ, IcuOp.BNE, IcuOp.BLT, IcuOp.BGE)
"""Operations whose ``imm`` is a bundle number."""
REFETCHES = (*BRANCHES, IcuOp.END, IcuOp.TIMING)
"""Operations that change which bundle comes next, or its distance: it is fetched anew."""

_READS_RS = {IcuOp.ADDI, IcuOp.ADD, IcuOp.SUB, IcuOp.ANDI, IcuOp.SHL, IcuOp.SHR, IcuOp.FUNCTION, IcuOp.VLANE,
             IcuOp.SLANE, IcuOp.LOOP, IcuOp.BEQ, IcuOp.BNE, IcuOp.BLT, IcuOp.BGE, IcuOp.TIMING, IcuOp.SEND}  # fmt: skip
_READS_RT = {IcuOp.ADD, IcuOp.SUB, IcuOp.VLANE, IcuOp.SLANE, IcuOp.BEQ, IcuOp.BNE, IcuOp.BLT, IcuOp.BGE}
_WRITE = {IcuOp.LI: ALU, IcuOp.ADDI: ALU, IcuOp.ADD: ALU, IcuOp.SUB: ALU, IcuOp.ANDI: ALU, IcuOp.SHL: ALU,
          IcuOp.SHR: ALU, IcuOp.RECV: ALU, IcuOp.FUNCTION: SCALAR_FUNCTION, IcuOp.VLANE: LANE,
          IcuOp.SLANE: LANE}  # fmt: skip


def slot(config: TileConfig) -> Slot:
    """Fields of the sequencer slot."""
    return Slot("icu", (
        Field("op", 5, "operation", enum=IcuOp),
        register_field("rd", "destination"),
        register_field("rs", "first source"),
        register_field("rt", "second source"),
        Field("function", 3, "function of FUNCTION", enum=Function),
        Field("imm", 32, "immediate, bundle number, address or shift", signed=True),
    ))  # fmt: skip


def use(config: TileConfig, op: Mapping[str, int], registers: Sequence[int]) -> Use:
    """What a sequencer operation touches. ``op`` holds every field; ``registers`` are the registers at issue."""
    accesses: list[Access] = []
    claims: list[Claim] = []
    code = IcuOp(op["op"])
    read = [op[name] for name, readers in (("rs", _READS_RS), ("rt", _READS_RT)) if code in readers]
    if read:
        accesses.append(Access("register", np.array(read), np.zeros(len(read), int), write=False))
    if code in (IcuOp.VLANE, IcuOp.SLANE):
        space, port = ("vmem", "vmem.a") if code is IcuOp.VLANE else ("smem", "smem.c")
        accesses.append(Access(space, np.array([op["imm"] + registers[op["rs"]]]), np.array([1]), write=False))
        claims.append(Claim(port, np.array([1])))
    if code in _WRITE:
        when = np.array([_WRITE[code]])
        accesses.append(Access("register", np.array([op["rd"]]), when, write=True))
        claims.append(Claim("register.write", when))
    return Use(tuple(accesses), tuple(claims))
