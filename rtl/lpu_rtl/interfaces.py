"""Signatures of the wires between units; every layout on them is derived from the ISA.

All are written from the initiator's side. "Cycle" is the clock cycle in which the signals are stable: a register that
is loaded at the end of cycle c shows its new value in c + 1.
"""

from amaranth import signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import ceil_log2

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS, Slot
from lpu_isa.formats import ACCUMULATOR_BITS
from lpu_isa.mxm import TRACKERS

__all__ = [
    "FAULT_BITS",
    "FAULT_FLAGS",
    "LATE_SCALARS",
    "AccumulatorRead",
    "BlockWrite",
    "Issue",
    "MemoryRead",
    "MemoryWrite",
    "RegisterRead",
    "RegisterWrite",
    "WEIGHT_READ_LATENCY",
    "WEIGHT_ROW_LATENCY",
    "WeightRead",
    "WeightRowRead",
    "WeightWrite",
    "accumulator_layout",
    "is_place",
    "issue_operands",
    "slot_layout",
    "vector_layout",
    "weight_layout",
]

FAULT_BITS = ceil_log2(max(Fault) + 1)
"""A unit's ``fault`` output: a `Fault` code for one cycle, else 0."""
FAULT_FLAGS = max(Fault) + 1
"""The faults of one cycle, a bit for each code; of a unit with many of them, whose lowest would come late."""

WEIGHT_READ_LATENCY = 3
"""Cycles from address to word of the weight SRAM. One more than other memories have: it is as large as the chip, and
the address needs a cycle to get there."""

WEIGHT_ROW_LATENCY = WEIGHT_READ_LATENCY + 3
"""Cycles from address to ``rows`` weights of one row: the part is chosen beside each row, then the row in two steps."""

LATE_SCALARS = ("multiply_reg", "add_reg", "gain_reg")
"""Register fields of the vector slot that are read when their unit starts, not at issue."""

_DESTINATIONS = ("rd", "reduce_reg")
_MODULAR = ("amount_reg",)


def slot_layout(slot: Slot) -> data.StructLayout:
    """Bits of a slot as a struct; enumerations are unsigned."""
    return data.StructLayout({f.name: signed(f.bits) if f.signed else unsigned(f.bits) for f in slot.fields})


def issue_operands(slot: Slot) -> list[str]:
    """Names of the register fields whose values a unit receives with its operation."""
    return [f.name for f in slot.fields if f.register and f.name not in LATE_SCALARS + _DESTINATIONS]


def is_place(slot: Slot, operand: str) -> bool:
    """Whether an operand is added to an address or a count, so that no more than its range need be known."""
    return operand.removesuffix("_reg") in slot.by_name and operand not in _MODULAR


def vector_layout(config: TileConfig) -> data.ArrayLayout:
    """``rows`` encoded floats, lane 0 lowest."""
    return data.ArrayLayout(config.float_bits, config.rows)


def weight_layout(config: TileConfig) -> data.ArrayLayout:
    """A weight word: ``[row][col]`` int8."""
    return data.ArrayLayout(data.ArrayLayout(signed(8), config.cols), config.rows)


def accumulator_layout(config: TileConfig) -> data.StructLayout:
    """``rows`` sums and the base code that they share."""
    return data.StructLayout({"sums": data.ArrayLayout(signed(ACCUMULATOR_BITS), config.rows), "base": 8})


def Issue(slot: Slot) -> Signature:
    """An operation in its cycle of issue: ``start`` is high for that cycle alone; ``operands`` hold the values of the
    registers that the operation names, read in the same cycle."""
    return Signature({
        "start": Out(1),
        "op": Out(slot_layout(slot)),
        "operands": Out(data.StructLayout(dict.fromkeys(issue_operands(slot), 32))),
    })  # fmt: skip


def MemoryRead(depth: int, shape) -> Signature:
    """Port with an output register: ``address`` in cycle c while ``enable`` is high, ``data`` in cycle c + 2.
    Data stay defined for that cycle only."""
    return Signature({"enable": Out(1), "address": Out(address_bits(depth)), "data": In(shape)})


def MemoryWrite(config: TileConfig, depth: int) -> Signature:
    """One vector, lanes enabled one by one; visible to reads whose address cycle is a later one."""
    return Signature({
        "enable": Out(config.rows),
        "address": Out(address_bits(depth)),
        "data": Out(vector_layout(config)),
    })  # fmt: skip


def WeightRead(config: TileConfig) -> Signature:
    """``address`` in cycle c while ``enable`` is high, ``data`` in c + `WEIGHT_READ_LATENCY`, for that cycle only."""
    return MemoryRead(config.wmem_words, weight_layout(config))


def WeightRowRead(config: TileConfig) -> Signature:
    """``address``, ``row`` and ``part`` in cycle c while ``enable`` is high, ``data`` in c + `WEIGHT_ROW_LATENCY`:
    columns ``part * rows`` onwards of the row."""
    return Signature({
        "enable": Out(1),
        "address": Out(address_bits(config.wmem_words)),
        "row": Out(address_bits(config.rows)),
        "part": Out(address_bits(config.words_per_block)),
        "data": In(data.ArrayLayout(signed(8), config.rows)),
    })  # fmt: skip


def WeightWrite(config: TileConfig) -> Signature:
    """Byte ``[r][c]`` takes ``data[c mod rows]``, or ``data[r]`` if it is ``by_column``, for every r in ``rows`` and c
    in ``columns``, which are masks. ``enable`` is high for every write, and ``rows`` is 0 while it is low."""
    return Signature({
        "enable": Out(1),
        "address": Out(address_bits(config.wmem_words)),
        "by_column": Out(1),
        "rows": Out(config.rows),
        "columns": Out(config.cols),
        "data": Out(data.ArrayLayout(signed(8), config.rows)),
    })  # fmt: skip


def AccumulatorRead(config: TileConfig) -> Signature:
    """``address`` in cycle c while ``enable`` is high, ``data`` in cycle c + 2; sees what was accumulated in cycles up
    to c."""
    return Signature({
        "enable": Out(1),
        "address": Out(address_bits(config.accumulators)),
        "data": In(accumulator_layout(config)),
    })  # fmt: skip


def BlockWrite(config: TileConfig) -> Signature:
    """Part ``part`` (``rows`` values) of an activation block, in rising order; part 0 also zeroes the later parts and
    writes the code of the whole block. ``code`` goes to ``tracker``: replaces it when ``first`` (first block of the
    operation), else raises it to the maximum."""
    return Signature({
        "enable": Out(1),
        "block": Out(address_bits(config.act_blocks)),
        "part": Out(address_bits(config.words_per_block)),
        "data": Out(data.ArrayLayout(signed(8), config.rows)),
        "code": Out(8),
        "first": Out(1),
        "tracker": Out(address_bits(TRACKERS)),
    })  # fmt: skip


RegisterRead = Signature({"index": Out(address_bits(REGISTERS)), "data": In(32)})
"""Scalar register, read without delay: sees writes of earlier cycles."""

RegisterWrite = Signature({"enable": Out(1), "index": Out(address_bits(REGISTERS)), "data": Out(32)})
"""Scalar register write. At most one writer a cycle in the tile; two are the fault CONFLICT."""
