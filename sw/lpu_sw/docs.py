"""The generated pages and parts: reference, block RAM budget, picture, passes; from lpu_isa and its own comments."""

import ast
import inspect
import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

from lpu_isa import budget, bundle, faults, formats, host, icu, tables, vxm
from lpu_isa.bundle import SLOTS, Bundle, BundleFormat
from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.fields import REGISTERS, Field, Operation, Slot
from lpu_isa.host import Register, Window

from .asm.disassembler import format_bundle
from .asm.syntax import FORMS, SEQUENCER, mnemonics
from .page_parts import write_part
from .picture import picture
from .vxm_passes import passes

__all__ = ["pages", "parts", "write_pages", "write_parts"]

_TILE = TileConfig()
_LAYOUT = BundleFormat(_TILE)
_GENERATED = "<!-- Written by `lpu docs` from {}. Do not edit. -->"

_PASSES: tuple[tuple[str, dict[str, int]], ...] = (
    ("copy a vector", {"source": vxm.Source.VMEM, "write": vxm.Write.VMEM}),
    ("copy, lanes moved", {"source": vxm.Source.SXM, "write": vxm.Write.VMEM}),
    ("add two vectors", {"source": vxm.Source.VMEM, "add": vxm.Add.B, "write": vxm.Write.VMEM}),
    ("sums times row scales", {"source": vxm.Source.ACC, "multiply": vxm.Multiply.C, "write": vxm.Write.VMEM}),
    ("sums times scales, plus residual",
     {"source": vxm.Source.ACC, "multiply": vxm.Multiply.C, "add": vxm.Add.B, "write": vxm.Write.VMEM}),
    ("a weight row as floats", {"source": vxm.Source.WMEM, "multiply": vxm.Multiply.SCALAR, "write": vxm.Write.VMEM}),
    ("sum of squares", {"source": vxm.Source.VMEM, "reduce": vxm.Reduce.SUM_SQUARES}),
    ("greatest value and its index", {"source": vxm.Source.ACC, "multiply": vxm.Multiply.C,
                                      "reduce": vxm.Reduce.ARGMAX}),
    ("quantise a vector", {"source": vxm.Source.VMEM, "quantise": vxm.Quantise.ACT}),
    ("softmax numerators and their sum",
     {"source": vxm.Source.ACC, "multiply": vxm.Multiply.SCALAR, "add": vxm.Add.SCALAR,
      "function": tables.Function.EXP2, "reduce": vxm.Reduce.SUM, "quantise": vxm.Quantise.ACT}),
    ("x times sigmoid(x)",
     {"source": vxm.Source.ACC, "multiply": vxm.Multiply.C, "function": tables.Function.SIGMOID, "gain": vxm.Gain.SELF,
      "write": vxm.Write.VMEM}),
    ("every unit of the chain",
     {"source": vxm.Source.ACC, "multiply": vxm.Multiply.C, "add": vxm.Add.B, "function": tables.Function.EXP2,
      "gain": vxm.Gain.SCALAR, "quantise": vxm.Quantise.ACT, "write": vxm.Write.VMEM}),
)  # fmt: skip


def pages() -> dict[str, str]:
    """Path below the repository -> text of every generated page."""
    return {"docs/isa.md": _isa_page(), "docs/memory.md": _memory_page(), "docs/tile.svg": picture(_TILE)}


def parts() -> dict[tuple[str, str], str]:
    """(Path below the repository, name of the part) -> text of every generated part of a hand-written page."""
    return {("docs/units/vxm.md", "passes"): _passes_table()}


def write_pages(root: str | Path) -> list[Path]:
    """Write the generated pages below ``root``; returns the files."""
    written = []
    for name, text in pages().items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def write_parts(root: str | Path) -> list[Path]:
    """Write the generated parts of the pages below ``root``; returns the files. Raises OSError for a missing page."""
    for (name, part), text in parts().items():
        write_part(Path(root) / name, part, text)
    return [Path(root) / name for name, _ in parts()]


# The two pages


def _isa_page() -> str:
    parts = [
        "# The instruction set",
        _GENERATED.format("`sw/lpu_isa`"),
        f"Numbers of bits and addresses are those of the default tile, {_TILE.name}; the other shapes differ only in "
        "them. Cycles are counted from the cycle in which the bundle issues (0). A read in cycle c sees what was "
        "written in cycles before c.",
        "## Shapes",
        _shapes(),
        "## Bundle",
        _prose(bundle),
        _slots_table(),
        "### Header",
        _field_table(_LAYOUT.header, 0),
    ]
    for name, module in SLOTS.items():
        parts += [f"## Slot `{name}`", _prose(module), *_slot(name, module)]
    parts += [
        "## What each operation touches, and when",
        "Cycle of the first access. An operation of n steps makes n accesses, one a cycle or one every `interval` "
        "cycles.",
        _touches_table(_single_operations()),
        "The latency of a pass depends on the units that it uses:",
        _touches_table(_passes()),
        "## Scalar registers",
        f"{REGISTERS} registers, r0 to r{REGISTERS - 1}, of 32 bits. r0 reads as zero and ignores writes. Floats sit "
        "in the low bits. A field and the register field named after it (`x`, `x_reg`) are added; the register is read "
        "in the cycle of issue. Scalar operands of the vector unit's multipliers and adder are read a cycle before "
        "they are used.",
        "## Number formats",
        _prose(formats),
        _constants(formats),
        "## Functions",
        _prose(tables),
        _constants(tables),
        "## Faults",
        _prose(faults),
        _table(("code", "name", "meaning"), [(int(f), f"`{f.name}`", f.text) for f in faults.Fault]),
        "## Host port",
        _prose(host),
        *_host(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _memory_page() -> str:
    uses = budget.budget(_TILE)
    total = sum(use.ebr for use in uses)
    rows: list[Sequence[Any]] = [(use.memory, use.words, use.bits, use.ebr, use.how) for use in uses]
    rows.append(("**all**", "", "", f"**{total}**", f"of {budget.BOARD_EBR} on the LFE5U-85F"))
    parts = [
        "# Block RAM of the board's tile",
        _GENERATED.format("`sw/lpu_isa/budget.py`"),
        _prose(budget),
        f"Tile {_TILE.name}, {_TILE.significand_bits}-bit significands:",
        _table(("memory", "words", "bits", "EBR", "how"), rows),
    ]
    return "\n\n".join(parts) + "\n"


# Parts


def _shapes() -> str:
    names = list(inspect.signature(TileConfig).parameters)
    rows = [(f"`{name}`", *(getattr(shape, name) for shape in SHAPES.values())) for name in names]
    layouts = [BundleFormat(shape) for shape in SHAPES.values()]
    rows.append(("bits of a bundle", *(layout.bits for layout in layouts)))
    rows.append(("32-bit beats of a bundle", *(layout.beats for layout in layouts)))
    return _table(("parameter", *SHAPES), rows)


def _slots_table() -> str:
    rows = [("header", _LAYOUT.header.bits, f"{_LAYOUT.header.bits - 1}..0")]
    for name, slot in _LAYOUT.slots.items():
        low = _LAYOUT.offsets[name]
        rows.append((f"`{name}`", slot.bits, f"{low + slot.bits - 1}..{low}"))
    return _table(("part", "bits", "position"), rows)


def _slot(name: str, module: ModuleType) -> list[str]:
    slot = _LAYOUT.slots[name]
    op = slot.by_name["op"].enum
    assert op is not None  # every slot's first field is an enumeration
    parts = ["### Operations", _operations(name, op), "### Fields", _field_table(slot, _LAYOUT.offsets[name])]
    for f in slot.fields[1:]:
        if f.enum is not None and f.enum.__module__ == module.__name__:
            parts += [f"### `{f.name}`", inspect.getdoc(f.enum) or "", _members(f.enum)]
    constants = _constants(module)
    return parts + (["### Constants", constants] if constants else [])


def _operations(name: str, op: type[IntEnum]) -> str:
    comments = _comments(op)
    rows = []
    for member in op:
        written = f"{name}.{member.name.lower()}" if name != SEQUENCER else member.name.lower()
        if name == SEQUENCER and member:
            written = f"{written} {', '.join(FORMS[icu.IcuOp(member)])}".strip()
        rows.append((int(member), f"`{written}`" if member else "`nop`", comments.get(member.name, "")))
    return _table(("code", "written", "does"), rows)


def _members(enum: type[IntEnum]) -> str:
    comments = _comments(enum)
    rows = [(int(m), f"`{m.name.lower()}`", comments.get(m.name, "")) for m in enum]
    return _table(("code", "name", "meaning"), rows)


def _field_table(slot: Slot, offset: int) -> str:
    rows = []
    for f in slot.fields:
        low = offset + slot.offsets[f.name]
        position = f"{low + f.bits - 1}..{low}" if f.bits > 1 else str(low)
        rows.append((f"`{f.name}`", f.bits, position, _range(f), _default(f), f.doc))
    return _table(("field", "bits", "position", "values", "default", "meaning"), rows)


def _range(f: Field) -> str:
    if f.enum is not None:
        return "named"
    return f"r0..r{f.high}" if f.register else f"{f.low}..{f.high}"


def _default(f: Field) -> str:
    if f.enum is not None:
        return f"`{f.enum(f.default).name.lower()}`"
    return f"r{f.default}" if f.register else str(f.default)


def _single_operations() -> Iterable[tuple[str, Operation]]:
    for name, (slot, code) in mnemonics(_LAYOUT).items():
        if slot != "vxm":
            yield f"`{name}`", Operation(slot, {"op": code})


def _passes() -> Iterable[tuple[str, Operation]]:
    for title, values in _PASSES:
        operation = Operation("vxm", {"op": vxm.VxmOp.PASS, **values})
        text = format_bundle(_LAYOUT, Bundle(operations={"vxm": operation})).split(" ", 1)[1].rsplit(" @", 1)[0]
        yield f"{title}: `{text}`", operation


def _passes_table() -> str:
    head = ("pass", "a layer", "chain", "vector operands", "scalars", "goes to", "landed after")
    return _table(head, ((kind.name, *kind[1:]) for kind in passes(_TILE)))


def _touches_table(operations: Iterable[tuple[str, Operation]]) -> str:
    rows = []
    for title, operation in operations:
        use = _LAYOUT.use(operation, [0] * REGISTERS)
        cells = []
        for is_write in (False, True):
            firsts = sorted({(int(a.cycle.min()), a.space) for a in use.accesses if a.write == is_write})
            cells.append(", ".join(f"{space} {cycle}" for cycle, space in firsts) or "-")
        holds = ", ".join(f"{c.resource} {int(c.cycle.min())}" for c in use.claims)
        rows.append((title, *cells, holds or "-"))
    return _table(("operation", "reads", "writes", "holds"), rows)


def _host() -> list[str]:
    registers = [(f"0x{int(r):02x}", f"`{r.name}`", text) for r, text in _commented(Register)]
    windows = []
    for window, text in _commented(Window):
        size = (host.depth(_TILE, window), host.beats(_TILE, window), host.stride(_TILE, window))
        start = int(window) << host.REGION_SHIFT
        windows.append((f"0x{start:06x}", f"`{window.name}`", *size, text.replace("word: ", "")))
    return [
        "### Registers",
        _table(("address", "name", "use"), registers),
        "### Bits of CONTROL",
        _bits(host.Control),
        "### Bits of STATUS",
        _bits(host.Status),
        "### Windows",
        _table(("address", "name", "words", "beats", "stride in bytes", "a word"), windows),
    ]


def _bits(enum: type[IntEnum]) -> str:
    rows = [(f"0x{int(member):x}", f"`{member.name}`", text) for member, text in _commented(enum)]
    return _table(("bit", "name", "meaning"), rows)


# Text out of the source


def _prose(module: ModuleType) -> str:
    """A module's docstring as Markdown: one backtick for two, and ``::`` before an indented block as a colon."""
    text = inspect.getdoc(module) or ""
    return re.sub(r"::$", ":", text.replace("``", "`"), flags=re.MULTILINE)


def _comments(enum: type[IntEnum]) -> dict[str, str]:
    """The comment behind each member."""
    return dict(re.findall(r"^\s+([A-Z]\w*) = \S+  # (.*)$", inspect.getsource(enum), flags=re.MULTILINE))


def _commented(enum: type[IntEnum]) -> list[tuple[Any, str]]:
    comments = _comments(enum)
    return [(member, comments.get(member.name, "")) for member in enum]


def _constants(module: ModuleType) -> str:
    """A module's numeric constants with the string that follows each; one string may serve those before it too."""
    body = ast.parse(inspect.getsource(module)).body
    rows = []
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name = statement.targets[0].id
        value = getattr(module, name)
        if not name.isupper() or name.startswith("_") or not isinstance(value, int | float | dict):
            continue
        text = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = " ".join(str(following.value.value).split()).replace("``", "`")
        if isinstance(value, dict):
            value = ", ".join(f"{key.name.lower()} {number}" for key, number in value.items())
        rows.append((f"`{name}`", value, text))
    return _table(("constant", "value", "meaning"), rows) if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [list(head), ["---"] * len(head)]
    lines += [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
