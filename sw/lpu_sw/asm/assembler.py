"""Statements to a program: names are looked up, values checked against their fields, the timing proved."""

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import numpy as np

from lpu_isa import icu
from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.fields import REGISTERS, Field, Operation, Slot
from lpu_isa.formats import FloatFormat
from lpu_isa.host import TIMING_BITS

from .distance import cycles_until_done
from .errors import Abandoned, Diagnostics, Span, suggestion
from .expression import Expression, Name, Operand, Symbol, evaluate, names
from .lexer import Token, tokens
from .matrix import weight_words
from .parser import BundleStatement, Data, Definition, Include, Label, OperationText, Statement, Tile, parse
from .program import Program, Region, Section
from .proof import prove as prove_timing
from .syntax import (
    DONE,
    FORMS,
    SEQUENCER,
    TIMED,
    addressed_space,
    mnemonics,
    register_twin,
    shape_constants,
)

__all__ = ["assemble", "assemble_file"]


def assemble_file(
    path: str | Path,
    config: TileConfig | None = None,
    prove: bool = True,
    constants: Mapping[str, int | float] | None = None,
) -> Program:
    """Assemble a file; see `assemble`.

    Raises ``OSError`` when it cannot be read, and ``ValueError`` when it holds no bundle.
    """
    program = assemble(_text(Path(path)), config, name=str(path), prove=prove, constants=constants)
    if not program.bundles:
        raise ValueError(f"{path}: found no operation, expected a program")
    return program


def _text(path: Path) -> str:
    """A file's text without the mark that some editors begin it with; the lexer tells of bytes that are not UTF-8."""
    return path.read_text(encoding="utf-8-sig", errors="surrogateescape")


def assemble(
    text: str,
    config: TileConfig | None = None,
    name: str = "<text>",
    prove: bool = True,
    constants: Mapping[str, int | float] | None = None,
) -> Program:
    """Assemble source text.

    Parameters
    ----------
    config : TileConfig, optional
        The tile to assemble for; without it the one that ``.tile`` names, else the default tile.
    name : str
        Shown in errors; ``.include`` looks beside it.
    prove : bool
        Check loops, branch targets and, in a run on the program's own data and inbox, the timing of every operation.
    constants : mapping, optional
        Values that replace those of the ``.const`` of the same name.

    Raises ``AssemblyError`` with up to 20 mistakes, and ``ValueError`` for a constant that the text does not define.
    """
    diagnostics = Diagnostics()
    statements = _read(name, text, diagnostics, ())
    given = constants or {}
    program = _Assembler(_tile(statements, config, diagnostics), diagnostics, given).program(statements)
    if prove and program.bundles and diagnostics.is_clean:
        for violation in prove_timing(program):
            diagnostics.report(_source(program, violation.pc), str(violation))
    diagnostics.finish()
    for constant in given:
        if constant not in program.constants:
            near = suggestion(constant, program.constants)
            raise ValueError(f"found constant '{constant}', expected one that {name} defines{near}")
    return program


def _source(program: Program, pc: int) -> Span:
    span = program.sources[pc]
    assert span is not None  # the assembler gives every bundle its source
    return span


def _read(file: str, text: str, diagnostics: Diagnostics, parents: tuple[Path, ...]) -> list[Statement]:
    """The statements of a file, those of its includes in their place."""
    here = Path(file).resolve()
    statements: list[Statement] = []
    for statement in parse(tokens(file, text, diagnostics), diagnostics):
        if not isinstance(statement, Include):
            statements.append(statement)
            continue
        path = Path(file).parent / statement.path.text.strip('"')
        span = statement.path.span
        if path.resolve() in (*parents, here):
            chain = " -> ".join(parent.name for parent in (*parents, here, path))
            diagnostics.report(span, f"found an include of a file in itself ({chain}), expected another file")
            continue
        try:
            included = _text(path)
        except OSError as error:
            diagnostics.report(span, f"found {statement.path.text}, expected a readable file ({error.strerror})")
            continue
        statements += _read(str(path), included, diagnostics, (*parents, here))
    return statements


_TILE_PARAMETERS = [parameter.name for parameter in dataclasses.fields(TileConfig)][2:]
"""Those that follow the shape, which says how many rows and columns there are."""


def _tile(statements: list[Statement], config: TileConfig | None, diagnostics: Diagnostics) -> TileConfig:
    """The tile that is asked for: the caller's, which every ``.tile`` must equal, or the one of the first ``.tile``."""
    for statement in statements:
        if not isinstance(statement, Tile):
            continue
        shape = statement.shape
        try:
            rows, _, cols = shape.text.partition("x")
            if not (rows.isdigit() and cols.isdigit()):
                diagnostics.fail(shape.span, "a shape such as 8x16")
            changes = {}
            for token, value in statement.changes:
                if token.text not in _TILE_PARAMETERS:
                    near = suggestion(token.text, _TILE_PARAMETERS)
                    diagnostics.fail(token.span, f"one of {', '.join(_TILE_PARAMETERS)}{near}")
                number = evaluate(value, {}, diagnostics).value
                if not isinstance(number, int):
                    diagnostics.fail(value.span, "an integer")
                changes[token.text] = number
            tile = SHAPES.get(shape.text, TileConfig()).replace(rows=int(rows), cols=int(cols), **changes)
        except Abandoned:
            continue
        except ValueError as error:
            diagnostics.report(shape.span, f"found a tile that cannot be: {error}")
            continue
        if config is not None and tile != config:
            diagnostics.report(shape.span, f"found '{shape.text}', expected the tile of this run, {config.name}")
        config = config or tile
    return config or TileConfig()


def _joined(sections: list[Section]) -> list[Section]:
    """Sections of which each begins where the one before it ends, made one."""
    runs: list[list[Section]] = []
    for section in sections:
        last = runs[-1][-1] if runs else None
        if last and last.space == section.space and last.address + len(last.data) == section.address:
            runs[-1].append(section)
        else:
            runs.append([section])
    return [Section(run[0].space, run[0].address, np.concatenate([s.data for s in run])) for run in runs]


_FORMS = {"const": ((1,), "one value"), "register": ((1, 2), "a register, or one and its largest value")}
"""Numbers of values of a definition, and how the error names them."""


class _Assembler:
    def __init__(self, config: TileConfig, diagnostics: Diagnostics, given: Mapping[str, int | float]) -> None:
        self._config = config
        self._given = given
        self._layout = BundleFormat(config)
        self._mnemonics = mnemonics(self._layout)
        self._diagnostics = diagnostics
        self._symbols: dict[str, Symbol] = {f"r{n}": Symbol("register", n) for n in range(REGISTERS)}
        self._symbols |= {name: Symbol("constant", value) for name, value in shape_constants(config).items()}
        self._depths = {"wmem": config.wmem_words, "vmem": config.vmem_words, "smem": config.smem_words,
                        "act": config.act_blocks, "acc": config.accumulators}  # fmt: skip
        self._largest: dict[int, int] = {}
        self._program = Program(config, [])

    def program(self, statements: list[Statement]) -> Program:
        bundles = [s for s in statements if isinstance(s, BundleStatement)]
        self._define(statements)
        for statement in bundles:
            self._program.bundles.append(self._bundle(statement))
            self._program.sources.append(statement.span)
        if len(bundles) > self._config.bundles:
            span = bundles[self._config.bundles].span
            limit = f"at most {self._config.bundles} bundles (tile {self._config.name})"
            self._diagnostics.report(span, f"found {len(bundles)} bundles, expected {limit}")
        for statement in statements:
            if isinstance(statement, Data):
                with suppress(Abandoned):
                    self._data(statement)
        self._program.sections = _joined(self._program.sections)
        return self._program

    # Names

    def _define(self, statements: list[Statement]) -> None:
        pc = 0
        for statement in statements:
            with suppress(Abandoned):
                if isinstance(statement, BundleStatement):
                    pc += 1
                elif isinstance(statement, Label):
                    self._symbol(statement.name, Symbol("label", pc, statement.name.span))
                    self._program.labels[statement.name.text] = pc
                elif isinstance(statement, Definition):
                    self._definition(statement)

    def _symbol(self, token: Token, symbol: Symbol) -> None:
        known = self._symbols.get(token.text)
        if known is not None:
            place = f"defined at {known.span}" if known.span else "built in"
            self._diagnostics.fail(token.span, f"a new name ('{token.text}' is a {known.kind} {place})")
        self._symbols[token.text] = symbol

    def _definition(self, statement: Definition) -> None:
        values, name = statement.values, statement.name
        wanted, form = _FORMS.get(statement.kind, ((2,), "an address and a number of words"))
        if len(values) not in wanted:
            self._diagnostics.fail(values[-1].span, form, f"{len(values)} value{'s' * (len(values) > 1)}")
        if statement.kind == "const":
            operand = self._evaluate(values[0])
            if operand.register is not None:
                self._diagnostics.fail(values[0].span, "a number (use .register to name a register)")
            value = self._given.get(name.text, operand.value)
            self._symbol(name, Symbol("constant", value, name.span))
            self._program.constants[name.text] = value
        elif statement.kind == "register":
            number = self._register(values[0])
            self._symbol(name, Symbol("register", number, name.span))
            self._program.registers[name.text] = number
            if len(values) > 1:
                self._largest[number] = self._integer(values[1], 0, 1023, "the largest value of a count")
        else:
            depth = self._depths[statement.kind]
            address = self._integer(values[0], 0, depth - 1, f"an address of {statement.kind}")
            words = self._integer(values[1], 0, depth - address, f"words up to the end of {statement.kind}")
            self._symbol(name, Symbol("region", address, name.span))
            self._program.regions[name.text] = Region(statement.kind, address, words)

    # Values

    def _evaluate(self, expression: Expression, plain_floats: bool = False) -> Operand:
        return evaluate(expression, self._symbols, self._diagnostics, plain_floats)

    def _integer(self, expression: Expression, low: int, high: int, what: str) -> int:
        operand = self._evaluate(expression)
        if operand.register is None and isinstance(operand.value, int) and low <= operand.value <= high:
            return operand.value
        self._out_of_range(expression, operand, what, low, high)

    def _out_of_range(self, expression: Expression, operand: Operand, what: str, low: int, high: int) -> NoReturn:
        value = f" = {operand.value}" if not expression.span.text.lstrip("-").isdigit() else ""
        self._diagnostics.fail(expression.span, f"{what} from {low} to {high}", f"'{expression.span.text}'{value}")

    def _register(self, expression: Expression) -> int:
        operand = self._evaluate(expression)
        if operand.register is not None and operand.value == 0:
            return operand.register
        if operand.register is None and isinstance(operand.value, int) and 0 <= operand.value < REGISTERS:
            return operand.value
        self._diagnostics.fail(expression.span, f"a register, r0 to r{REGISTERS - 1}")

    def _float(self, expression: Expression, plain_floats: bool) -> int:
        """The encoded word of a number in the tile's format."""
        operand = self._evaluate(expression, plain_floats)
        float_format = FloatFormat(self._config.significand_bits)
        if operand.register is not None:
            self._diagnostics.fail(expression.span, "a number")
        value = float_format.round(np.array(float(operand.value)))
        if np.isnan(value) or float_format.overflows(value):
            self._diagnostics.fail(expression.span, "a float of magnitude below 2**128")
        return int(float_format.encode(value))

    # Bundles

    def _bundle(self, statement: BundleStatement) -> Bundle:
        """The bundle, without the parts that were reported as mistakes."""
        bundle = Bundle()
        for text in statement.operations:
            with suppress(Abandoned):
                if text.mnemonic.text == "nop" and not text.operands and not text.named:
                    continue
                operation = self._operation(text)
                if operation.slot in bundle.operations:
                    self._diagnostics.fail(text.mnemonic.span, f"one operation of {operation.slot} a bundle")
                bundle.operations[operation.slot] = operation
        given: set[str] = set()
        for distance in statement.distances:
            with suppress(Abandoned):
                self._distance(bundle, distance, given)
        return bundle

    def _distance(self, bundle: Bundle, distance: Expression, given: set[str]) -> None:
        word = distance.token.text if isinstance(distance, Name) else ""
        kind = TIMED if word == TIMED else "wait"
        if kind in given:
            self._diagnostics.fail(distance.span, "one distance a bundle")
        given.add(kind)
        if word == TIMED:
            bundle.timed = True
        elif word == DONE:
            try:
                bundle.wait = cycles_until_done(self._layout, bundle, self._largest)
            except ValueError as error:
                self._diagnostics.fail(distance.span, f"a number of cycles ({error})")
        else:
            bundle.wait = self._integer(distance, 1, self._layout.header.by_name["wait"].high, "cycles")

    def _operation(self, text: OperationText) -> Operation:
        known = self._mnemonics.get(text.mnemonic.text)
        if known is None:
            near = suggestion(text.mnemonic.text, self._mnemonics)
            self._diagnostics.fail(text.mnemonic.span, f"an operation, such as li, mxm.matmul or vxm.pass{near}")
        name, code = known
        slot = self._layout.slots[name]
        values: dict[str, int] = {"op": code}
        written: dict[str, Expression] = {}
        if name == SEQUENCER:
            written = self._operands(text, icu.IcuOp(code), slot, values)
        elif text.operands:
            self._diagnostics.fail(text.operands[0].span, f"fields of {text.mnemonic.text} as name=value")
        for token, value in text.named:
            with suppress(Abandoned):
                f = slot.by_name.get(token.text)
                if f is None or f.name == "op":
                    near = suggestion(token.text, [other for other in slot.by_name if other != "op"])
                    self._diagnostics.fail(token.span, f"a field of {text.mnemonic.text}{near}")
                self._set(values, f, register_twin(slot, f), value)
                written[f.name] = value
        operation = Operation(name, values)
        self._check_regions(operation, written)
        return operation

    def _check_regions(self, operation: Operation, written: Mapping[str, Expression]) -> None:
        """A region can only be an address of its own memory."""
        values = self._layout.complete(operation)
        for f, expression in written.items():
            space = addressed_space(operation.slot, f, values)
            for name in names(expression) if space else ():
                region = self._program.regions.get(name.token.text)
                if region is not None and region.space != space:
                    message = f"found '{name.span.text}', a region of {region.space}, expected {f} to be in {space}"
                    self._diagnostics.report(name.span, message)

    def _operands(
        self, text: OperationText, op: icu.IcuOp, slot: Slot, values: dict[str, int]
    ) -> dict[str, Expression]:
        """Put the operands of a sequencer operation into their fields; returns them by field."""
        form = FORMS[op]
        if len(text.operands) != len(form):
            span = text.operands[len(form)].span if len(text.operands) > len(form) else text.mnemonic.span
            wanted = f"{text.mnemonic.text} {', '.join(form)}".strip()
            n = len(text.operands)
            self._diagnostics.fail(span, f"'{wanted}'", f"{n} operand{'s' * (n != 1)}")
        for part, value in zip(form, text.operands, strict=True):
            if part == "imm+rs":
                self._set(values, slot.by_name["imm"], slot.by_name["rs"], value)
            else:
                self._set(values, slot.by_name[part], None, value, floats=op is icu.IcuOp.LI)
        return {part.partition("+")[0]: value for part, value in zip(form, text.operands, strict=True)}

    def _set(
        self, values: dict[str, int], f: Field, twin: Field | None, expression: Expression, floats: bool = False
    ) -> None:
        """Put a written value into field ``f``; a register in it goes into ``twin``."""
        if f.name in values:
            self._diagnostics.fail(expression.span, f"{f.name} once")
        if f.enum is not None:
            values[f.name] = self._member(f, expression)
        elif f.register:
            values[f.name] = self._register(expression)
        else:
            operand = self._evaluate(expression)
            if isinstance(operand.value, float):
                if not floats:
                    self._diagnostics.fail(expression.span, f"{f.name} from {f.low} to {f.high}, an integer")
                word = self._float(expression, plain_floats=False)
                values[f.name] = word - (1 << f.bits) if word > f.high else word
                return
            if not f.low <= operand.value <= f.high:
                self._out_of_range(expression, operand, f.name, f.low, f.high)
            values[f.name] = operand.value
            if operand.register is not None:
                if twin is None:
                    self._diagnostics.fail(expression.span, f"{f.name} without a register")
                if twin.name in values:
                    self._diagnostics.fail(expression.span, f"{twin.name} once")
                values[twin.name] = operand.register

    def _member(self, f: Field, expression: Expression) -> int:
        members = {member.name.lower(): int(member) for member in f.enum or ()}
        word = expression.token.text if isinstance(expression, Name) else ""
        if word not in members:
            near = suggestion(word, members)
            self._diagnostics.fail(expression.span, f"{f.name} to be one of {', '.join(members)}{near}")
        return members[word]

    # Data

    def _data(self, statement: Data) -> None:
        kind = statement.directive.text[1:]
        if kind == "inbox":
            self._program.inbox += [self._word(value) for value in statement.values]
        elif kind == "timing":
            self._timing(statement)
        elif kind == "matrix":
            self._matrix(statement)
        else:
            self._words(statement)

    def _timing(self, statement: Data) -> None:
        limit = self._config.timings
        address = self._integer(statement.place[0], 0, limit - 1, "an address of timing memory")
        cycles = [self._integer(value, 0, (1 << TIMING_BITS) - 1, "cycles") for value in statement.values]
        self._fits(statement, "timing memory", address, len(cycles), limit)
        timings = np.zeros(max(len(self._program.timings), address + len(cycles)), np.uint16)
        timings[: len(self._program.timings)] = self._program.timings
        timings[address : address + len(cycles)] = cycles
        self._program.timings = timings

    def _matrix(self, statement: Data) -> None:
        if len(statement.place) != 3:
            found = f"{len(statement.place)} value{'s' * (len(statement.place) > 1)}"
            self._diagnostics.fail(statement.directive.span, "an address, outputs and inputs before ':'", found)
        depth = self._depths["wmem"]
        address = self._integer(statement.place[0], 0, depth - 1, "an address of wmem")
        limit = depth * self._config.multipliers
        shape = tuple(self._integer(size, 1, limit, "outputs or inputs") for size in statement.place[1:])
        if len(statement.values) != shape[0] * shape[1]:
            found = f"{len(statement.values)} values"
            self._diagnostics.fail(statement.directive.span, f"{shape[0]} x {shape[1]} of them", found)
        values = np.array([self._integer(value, -128, 127, "an int8 value") for value in statement.values])
        words = weight_words(self._config, values.reshape(shape))
        self._fits(statement, "wmem", address, len(words), depth)
        self._program.sections.append(Section("wmem", address, words))

    def _words(self, statement: Data) -> None:
        depth = self._depths[statement.space]
        address = self._integer(statement.place[0], 0, depth - 1, f"an address of {statement.space}")
        is_weights = statement.space == "wmem"
        shape = (self._config.rows, self._config.cols) if is_weights else (self._config.rows,)
        if is_weights:
            values = [self._integer(value, -128, 127, "an int8 value") for value in statement.values]
        elif statement.directive.text == ".words":
            high = (1 << self._config.float_bits) - 1
            values = [self._integer(value, 0, high, "an encoded float") for value in statement.values]
        else:
            values = [self._float(value, plain_floats=True) for value in statement.values]
        size = int(np.prod(shape))
        words = -(-len(values) // size)
        self._fits(statement, statement.space, address, words, depth)
        data = np.zeros(words * size, np.int8 if is_weights else np.uint32)
        data[: len(values)] = values
        self._program.sections.append(Section(statement.space, address, data.reshape(words, *shape)))

    def _fits(self, statement: Data, what: str, address: int, words: int, depth: int) -> None:
        if address + words > depth:
            found = f"{words} words from {address}"
            self._diagnostics.fail(statement.directive.span, f"at most {depth - address} ({what} has {depth})", found)

    def _word(self, expression: Expression) -> int:
        """A 32-bit word: an integer of either sign, or a float with its ``f``."""
        operand = self._evaluate(expression)
        if isinstance(operand.value, float):
            return self._float(expression, plain_floats=False)
        return self._integer(expression, -(1 << 31), (1 << 32) - 1, "a 32-bit word") & 0xFFFFFFFF
