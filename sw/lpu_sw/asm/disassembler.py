"""A program to text that assembles to the same bits."""

import dataclasses
import re
import textwrap
from collections.abc import Iterator, Mapping

import numpy as np

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.fields import REGISTERS, Field, Operation
from lpu_isa.formats import FloatFormat
from lpu_isa.icu import BRANCHES, IcuOp

from .program import Program, Section
from .syntax import FORMS, SEQUENCER, TIMED, register_twin, shape_constants

__all__ = ["disassemble", "format_bundle", "format_operation"]

_WIDTH = 112
_TIMINGS_A_LINE = 16


def disassemble(program: Program, data: bool = True) -> str:
    """The text of a program; ``data``: with the start contents of the memories, timing memory and the inbox.

    The program's labels are kept, with ``_`` for what no name can hold; other branch targets are called ``L`` and their
    number.
    """
    layout = BundleFormat(program.config)
    labels = _labels(program)
    lines = [_tile(program.config), ""]
    for pc, bundle in enumerate(program.bundles):
        if pc in labels:
            lines.append(f"{labels[pc]}:")
        lines += textwrap.indent(format_bundle(layout, bundle, labels), "    ").splitlines()
    if data:
        for section in program.sections:
            lines += ["", *_section(program.config, section)]
        if len(program.timings):
            lines += ["", *_timings(program.timings)]
        if program.inbox:
            lines += ["", ".inbox " + ", ".join(map(str, program.inbox))]
    return "\n".join(lines) + "\n"


def format_bundle(layout: BundleFormat, bundle: Bundle, labels: Mapping[int, str] | None = None) -> str:
    """One bundle as text, an operation a line; fields that hold their default are left out."""
    operations = [
        format_operation(layout, bundle.operations[n], labels) for n in layout.slots if n in bundle.operations
    ]
    distance = f" @{TIMED}" if bundle.timed else ""
    if bundle.wait != 1 or not bundle.timed:
        distance = f" @{bundle.wait}{distance}"
    text = [textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False) for text in operations]
    parts = [("\n    ").join(lines) for lines in text] or ["nop"]
    return "\n  | ".join(parts) + distance


def _tile(config: TileConfig) -> str:
    base = SHAPES.get(config.name, TileConfig()).replace(rows=config.rows, cols=config.cols)
    changes = [f.name for f in dataclasses.fields(config) if getattr(config, f.name) != getattr(base, f.name)]
    return f".tile {config.name}" + "".join(f" {name}={getattr(config, name)}" for name in changes)


def _labels(program: Program) -> dict[int, str]:
    """Bundle number -> label, for the program's own labels and every branch target inside the program."""
    targets = {pc: name for name, pc in program.labels.items() if pc < len(program.bundles)}
    for bundle in program.bundles:
        operation = bundle.operations.get(SEQUENCER)
        if operation is not None and operation["op"] in BRANCHES:
            target = operation.values.get("imm", 0)
            if 0 <= target < len(program.bundles):
                targets.setdefault(target, f"L{target}")
    labels: dict[int, str] = {}
    taken = {*shape_constants(program.config), *(f"r{number}" for number in range(REGISTERS))}
    for pc, name in sorted(targets.items()):
        # Labels made elsewhere than in assembly may be any text.
        name = re.sub(r"\W|^(?=\d)", "_", name, flags=re.ASCII)
        while name in taken:
            name += "_"
        taken.add(name)
        labels[pc] = name
    return labels


def format_operation(layout: BundleFormat, operation: Operation, labels: Mapping[int, str] | None = None) -> str:
    """One operation as text; fields that hold their default are left out."""
    labels = labels or {}
    slot = layout.slots[operation.slot]
    values = layout.complete(operation)
    op = slot.by_name["op"].enum
    assert op is not None  # every slot's first field is an enumeration
    word = op(values["op"]).name.lower()
    written = {"op"}
    words = [word if operation.slot == SEQUENCER else f"{operation.slot}.{word}"]
    if operation.slot == SEQUENCER:
        code = IcuOp(values["op"])
        operands = []
        for part in FORMS[code]:
            names = part.split("+")
            written.update(names)
            number, register = slot.by_name[names[0]], slot.by_name[names[1]] if len(names) > 1 else None
            if code in BRANCHES and part == "imm" and values["imm"] in labels:
                operands.append(labels[values["imm"]])
            else:
                operands.append(_value(values, number, register))
        words += [", ".join(operands)] if operands else []
    for f in slot.fields:
        twin = register_twin(slot, f)
        if f.name in written or values[f.name] == f.default and not (twin and values[twin.name]):
            continue
        written |= {f.name} | ({twin.name} if twin else set())
        words.append(f"{f.name}={_value(values, f, twin)}")
    return " ".join(words)


def _value(values: Mapping[str, int], f: Field, twin: Field | None) -> str:
    value = values[f.name]
    if f.enum is not None:
        return f.enum(value).name.lower()
    if f.register:
        return f"r{value}"
    if twin is None or values[twin.name] == 0:
        return str(value)
    return f"r{values[twin.name]}" if value == 0 else f"{value}+r{values[twin.name]}"


def _section(config: TileConfig, section: Section) -> Iterator[str]:
    """One line a memory word, so that a difference of two texts shows which."""
    floats = FloatFormat(config.significand_bits)
    for word, values in enumerate(section.data.reshape(len(section.data), -1)):
        directive = "data"
        if section.space != "wmem":
            decoded = floats.decode(values)
            if np.all(np.abs(decoded) < 2.0**128) and np.array_equal(floats.encode(decoded), values):
                values = decoded
            else:  # a pattern that no operation produces, such as a subnormal: only the bits say it
                directive = "words"
        text = ", ".join(map(repr, values.tolist()))
        yield f".{directive} {section.space} {section.address + word}: {text}"


def _timings(timings: np.ndarray) -> Iterator[str]:
    for start in range(0, len(timings), _TIMINGS_A_LINE):
        part = timings[start : start + _TIMINGS_A_LINE].tolist()
        yield f".timing {start}: {', '.join(map(str, part))}"
