"""What the text form adds to the ISA: the order of the sequencer's operands, and the words that are not ISA names."""

from collections.abc import Mapping

from lpu_isa.bundle import SLOTS, BundleFormat
from lpu_isa.config import TileConfig, address_bits
from lpu_isa.fields import Field, Slot
from lpu_isa.icu import BRANCHES, IcuOp
from lpu_isa.vxm import TO_BLOCKS, Quantise, Source, Write

__all__ = [
    "DONE",
    "FORMS",
    "SEQUENCER",
    "SPACES",
    "TIMED",
    "addressed_space",
    "mnemonics",
    "register_twin",
    "shape_constants",
]

SEQUENCER = "icu"
"""The slot whose operations are written without the slot's name, with operands in order."""

TIMED = "timed"
DONE = "done"

SPACES = ("wmem", "vmem", "smem", "act", "acc")
"""Memories in which a region can be named; the first three can be given data."""

_THREE = ("rd", "rs", "rt")
_IMMEDIATE = ("rd", "rs", "imm")
_LANE = ("rd", "imm+rs", "rt")
_COMPARE = ("rs", "rt", "imm")

FORMS: dict[IcuOp, tuple[str, ...]] = {
    IcuOp.LI: ("rd", "imm"),
    IcuOp.ADDI: _IMMEDIATE,
    IcuOp.ADD: _THREE,
    IcuOp.SUB: _THREE,
    IcuOp.ANDI: _IMMEDIATE,
    IcuOp.SHL: _IMMEDIATE,
    IcuOp.SHR: _IMMEDIATE,
    IcuOp.FUNCTION: ("rd", "function", "rs"),
    IcuOp.VLANE: _LANE,
    IcuOp.SLANE: _LANE,
    IcuOp.LOOP: ("imm+rs",),
    IcuOp.END: (),
    IcuOp.JUMP: ("imm",),
    **dict.fromkeys(set(BRANCHES) - {IcuOp.JUMP}, _COMPARE),
    IcuOp.TIMING: ("imm+rs",),
    IcuOp.RECV: ("rd",),
    IcuOp.SEND: ("rs",),
    IcuOp.HALT: (),
}
"""Operands of a sequencer operation in the order in which they are written; ``imm+rs`` is a number plus a register."""


def mnemonics(layout: BundleFormat) -> Mapping[str, tuple[str, int]]:
    """Written name of every operation but NOP -> its slot and code: ``li``, ``mxm.matmul``, ``vxm.pass`` ..."""
    return {
        member.name.lower() if name == SEQUENCER else f"{name}.{member.name.lower()}": (name, int(member))
        for name in SLOTS
        for member in layout.slots[name].by_name["op"].enum or ()
        if member
    }


def shape_constants(config: TileConfig) -> Mapping[str, int]:
    """Constants that every program has, so that one text can serve tiles of any shape."""
    return {
        "ROWS": config.rows,
        "COLS": config.cols,
        "LOG2_ROWS": address_bits(config.rows),
        "LOG2_COLS": address_bits(config.cols),
    }


_SPACE_OF = {
    ("mxm", "weights"): "wmem",
    ("mxm", "act"): "act",
    ("mxm", "acc"): "acc",
    ("vxm", "b"): "vmem",
    ("vxm", "c"): "smem",
}
_CHOSEN_SPACE_OF = {
    ("icu", "imm"): ("op", {IcuOp.VLANE: "vmem", IcuOp.SLANE: "smem"}),
    ("vxm", "x"): ("source", {Source.VMEM: "vmem", Source.ACC: "acc", Source.WMEM: "wmem", Source.SXM: "vmem"}),
    ("vxm", "d"): ("write", {Write.VMEM: "vmem", Write.SMEM: "smem"}),
    ("vxm", "q"): ("quantise", {q: "act" if q in TO_BLOCKS else "wmem" for q in Quantise if q}),
}


def addressed_space(slot: str, field: str, values: Mapping[str, int]) -> str | None:
    """The memory that a field of an operation is an address of, if it is one; ``values`` are all of its fields."""
    if (slot, field) in _CHOSEN_SPACE_OF:
        choice, spaces = _CHOSEN_SPACE_OF[slot, field]
        return spaces.get(values[choice])
    return _SPACE_OF.get((slot, field))


def register_twin(slot: Slot, field: Field) -> Field | None:
    """The register field that is added to a numeric ``field``, if it has one."""
    return None if field.enum is not None else slot.by_name.get(f"{field.name}_reg")
