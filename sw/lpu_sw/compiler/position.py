"""What follows from a position alone: counts, bases of the caches, and the row of timing memory."""

from collections.abc import Iterator, Sequence

from lpu_isa.fields import REGISTERS, Operation
from lpu_isa.icu import IcuOp

from .layout import Layout
from .memory import Memory, ceil_div
from .registers import Register
from .rules.rotary_angles import ROTARY_RADIX
from .step import Step

__all__ = ["next_position", "position_registers", "position_steps"]


def _icu(name: str, op: IcuOp, **fields: int) -> Step:
    return Step(name, {"icu": Operation("icu", {"op": op, **fields})})


def _log2(value: int) -> int:
    return value.bit_length() - 1


def next_position() -> Step:
    """The step that counts `Register.POSITION` up."""
    return _icu("next position", IcuOp.ADDI, rd=Register.POSITION, rs=Register.POSITION, imm=1)


def position_steps(layout: Layout, bucket: int, row: int, limits: Sequence[int]) -> list[Step]:
    """Steps that find them from `Register.POSITION`.

    bucket : positions that share a row of timing memory. row : words from one row to the next. limits : first positions
    of the bodies but the first one, put into the registers behind `Register.HEAD`, which itself holds the row.
    """
    return list(_steps(layout, bucket, row, limits))


def _steps(layout: Layout, bucket: int, row: int, limits: Sequence[int]) -> Iterator[Step]:
    r, tile = Register, layout.tile
    yield _icu("bucket", IcuOp.SHR, rd=r.HEAD, rs=r.POSITION, imm=_log2(bucket))
    yield _icu("row", IcuOp.SHL, rd=r.HEAD, rs=r.HEAD, imm=_log2(row))
    for k, limit in enumerate(limits):
        yield _icu("limit of a body", IcuOp.LI, rd=r.HEAD + 1 + k, imm=limit)
    yield _icu("rotary high", IcuOp.SHR, rd=r.ROTARY_HIGH, rs=r.POSITION, imm=_log2(ROTARY_RADIX))
    yield _icu("rotary low", IcuOp.ANDI, rd=r.ROTARY_LOW, rs=r.POSITION, imm=ROTARY_RADIX - 1)
    yield _icu("group of the position", IcuOp.SHR, rd=r.GROUPS, rs=r.POSITION, imm=_log2(tile.rows))
    yield _icu("key base", IcuOp.ADDI, rd=r.KEY, rs=r.GROUPS, imm=layout.base(Memory.WEIGHTS))
    yield _icu("groups", IcuOp.ADDI, rd=r.GROUPS, rs=r.GROUPS, imm=1)
    yield _icu("step of the position", IcuOp.SHR, rd=r.STEPS, rs=r.POSITION, imm=_log2(tile.cols))
    yield _icu("value base", IcuOp.ADDI, rd=r.VALUE, rs=r.STEPS, imm=layout.base(Memory.WEIGHTS))
    yield _icu("steps", IcuOp.ADDI, rd=r.STEPS, rs=r.STEPS, imm=1)
    yield _icu("lane of the position", IcuOp.ANDI, rd=r.LANES, rs=r.POSITION, imm=tile.rows - 1)
    yield _icu("lanes", IcuOp.ADDI, rd=r.LANES, rs=r.LANES, imm=1)
    yield _icu("layer base", IcuOp.LI, rd=r.LAYER, imm=layout.base(Memory.WEIGHTS))
    yield _icu("scale base", IcuOp.LI, rd=r.SCALES, imm=layout.base(Memory.SCALES))


def position_registers(layout: Layout, last_position: int) -> list[int]:
    """Registers of the first layer at the last position of a group of ``rows``."""
    registers = [0] * REGISTERS
    registers[Register.POSITION] = last_position
    registers[Register.GROUPS] = ceil_div(last_position + 1, layout.tile.rows)
    registers[Register.STEPS] = ceil_div(last_position + 1, layout.tile.cols)
    registers[Register.LANES] = layout.tile.rows
    layer = layout.base(Memory.WEIGHTS)
    registers[Register.LAYER] = registers[Register.KEY] = registers[Register.VALUE] = layer
    registers[Register.KEY] += registers[Register.GROUPS] - 1
    registers[Register.VALUE] += registers[Register.STEPS] - 1
    registers[Register.SCALES] = layout.base(Memory.SCALES)
    return registers
