"""Tokens to statements. Nothing is looked up yet: names may be defined further down.

::

    file       = { statement newline }
    statement  = directive | label ":" [ bundle ] | bundle
    bundle     = operation { "|" operation } { "@" ( "timed" | "done" | expression ) }
    operation  = name [ expression { "," expression } ] { name "=" expression }

A bundle goes on in the next line if that line begins with ``|``, ``@`` or ``name =``; a list goes on after a
comma or colon.
"""

from dataclasses import dataclass, field
from typing import NoReturn

from .errors import Abandoned, Diagnostics, Span
from .expression import Binary, Expression, Name, Negative, Number
from .lexer import Token
from .syntax import SPACES

__all__ = [
    "DIRECTIVES",
    "BundleStatement",
    "Data",
    "Definition",
    "Include",
    "Label",
    "OperationText",
    "Statement",
    "Tile",
    "parse",
]

_PRECEDENCE = {"<<": 0, ">>": 0, "+": 1, "-": 1, "*": 2, "/": 2, "%": 2}
_NAMES = ("const", "register", *SPACES)
_DATA = ("data", "words", "matrix", "timing", "inbox")
DIRECTIVES = ("tile", "include", *_NAMES, *_DATA)
"""Words that may follow a dot."""

_TERMS = 100
"""Terms and parentheses of one expression: more would exhaust Python's stack, and no person writes them."""


@dataclass
class OperationText:
    """An operation as written: positional operands, then named fields."""

    mnemonic: Token
    operands: list[Expression] = field(default_factory=list)
    named: list[tuple[Token, Expression]] = field(default_factory=list)


@dataclass
class BundleStatement:
    """Operations that issue together, and the distance to the next bundle."""

    span: Span
    operations: list[OperationText]
    distances: list[Expression]


@dataclass
class Label:
    """A name for the next bundle's number."""

    name: Token


@dataclass
class Definition:
    """``.const name = value``, ``.register name = register, largest value``, ``.vmem name = address, words`` ..."""

    kind: str
    name: Token
    values: list[Expression]


@dataclass
class Data:
    """Contents of a memory: ``.data space address: values`` and, with another meaning of the values or the place,
    ``.words``, ``.matrix address, out, in: ...``, ``.timing address: ...``, ``.inbox ...``."""

    directive: Token
    space: str
    place: list[Expression]
    values: list[Expression]


@dataclass
class Include:
    """``.include "file"``."""

    path: Token


@dataclass
class Tile:
    """``.tile 4x4 parameter=value ...``."""

    shape: Token
    changes: list[tuple[Token, Expression]]


Statement = BundleStatement | Label | Definition | Data | Include | Tile


def parse(tokens: list[Token], diagnostics: Diagnostics) -> list[Statement]:
    """The statements of one file; a malformed one is reported and left out."""
    return _Parser(tokens, diagnostics).file()


class _Parser:
    def __init__(self, tokens: list[Token], diagnostics: Diagnostics) -> None:
        self._tokens = [*tokens, tokens[-1], tokens[-1]]  # so that looking ahead never leaves the list
        self._diagnostics = diagnostics
        self._at = 0
        self._terms = 0

    # Tokens

    def _peek(self, ahead: int = 0) -> Token:
        return self._tokens[self._at + ahead]

    def _take(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._peek().kind in ("sign", "name") and self._peek().text in texts

    def _is_named(self, ahead: int = 0) -> bool:
        following = self._peek(ahead + 1)
        return self._peek(ahead).kind == "name" and following.kind == "sign" and following.text == "="

    def _fail(self, expected: str) -> NoReturn:
        token = self._peek()
        found = "the end of the line" if token.kind == "newline" else "the end of the file"
        self._diagnostics.fail(token.span, expected, None if token.text else found)

    def _expect(self, kind: str, expected: str) -> Token:
        if self._peek().kind != kind:
            self._fail(expected)
        return self._take()

    def _sign(self, text: str, expected: str) -> Token:
        if not self._is(text):
            self._fail(expected)
        return self._take()

    def _skip_newlines(self) -> None:
        while self._peek().kind == "newline":
            self._take()

    def _goes_on(self) -> bool:
        """Whether the bundle continues after the newlines here; if so they are consumed."""
        ahead = 0
        while self._peek(ahead).kind == "newline":
            ahead += 1
        token = self._peek(ahead)
        if ahead and (token.kind == "sign" and token.text in ("|", "@") or self._is_named(ahead)):
            self._at += ahead
        return self._peek().kind not in ("newline", "end")

    # Statements

    def file(self) -> list[Statement]:
        statements: list[Statement] = []
        while True:
            self._skip_newlines()
            if self._peek().kind == "end":
                return statements
            try:
                statement = self._statement()
                if not (isinstance(statement, Label) or self._peek().kind in ("newline", "end")):
                    self._fail("the end of the line")
                statements.append(statement)
            except Abandoned:
                while self._peek().kind not in ("newline", "end"):
                    self._take()

    def _statement(self) -> Statement:
        token = self._peek()
        if token.kind == "directive":
            return self._directive()
        if token.kind == "name" and self._peek(1).text == ":":
            self._at += 2
            return Label(token)
        if self._is_named():
            self._fail("an operation before its fields")
        if token.kind != "name":
            self._fail("an operation, a label or a directive")
        return self._bundle()

    def _directive(self) -> Statement:
        token = self._take()
        name = token.text[1:]
        if name == "include":
            return Include(self._expect("string", "a file name in double quotes"))
        if name == "tile":
            shape = self._expect("number", "a shape such as 8x16")
            return Tile(shape, self._named_fields())
        if name in _NAMES:
            label = self._expect("name", "the name to define")
            self._sign("=", "'='")
            return Definition(name, label, self._list())
        if name in _DATA:
            return self._data(token, name)
        self._diagnostics.fail(token.span, f"one of {', '.join(f'.{word}' for word in DIRECTIVES)}")

    def _data(self, token: Token, name: str) -> Data:
        space = name
        if name in ("data", "words"):
            word = self._peek()
            if word.text not in SPACES[:3]:
                self._fail(f"one of {', '.join(SPACES[:3])}")
            space = self._take().text
        place: list[Expression] = []
        if name != "inbox":
            place = self._list() if name == "matrix" else [self._expression()]
            self._sign(":", "':' and the values")
            self._skip_newlines()
        return Data(token, space, place, self._list())

    def _bundle(self) -> BundleStatement:
        start = self._peek().span
        operations = [self._operation()]
        while self._goes_on() and self._is("|"):
            self._take()
            self._skip_newlines()
            operations.append(self._operation())
        distances: list[Expression] = []
        while self._goes_on() and self._is("@"):
            self._take()
            distances.append(self._expression())
        if self._peek().kind not in ("newline", "end"):
            self._fail("',', 'field=value', '|' and another operation, or '@' and the cycles to the next bundle")
        return BundleStatement(start.to(self._tokens[self._at - 1].span), operations, distances)

    def _operation(self) -> OperationText:
        operation = OperationText(self._expect("name", "an operation"))
        if self._peek().kind not in ("newline", "end") and not self._is("|", "@") and not self._is_named():
            operation.operands = self._list()
        operation.named = self._named_fields()
        return operation

    def _named_fields(self) -> list[tuple[Token, Expression]]:
        named = []
        while self._goes_on() and self._is_named():
            name = self._take()
            self._take()
            named.append((name, self._expression()))
        return named

    # Expressions

    def _list(self) -> list[Expression]:
        values = [self._expression()]
        while self._is(","):
            self._take()
            self._skip_newlines()
            values.append(self._expression())
        return values

    def _expression(self) -> Expression:
        self._terms = 0
        return self._sum(0)

    def _sum(self, lowest: int) -> Expression:
        """Terms joined by operators of a precedence of ``lowest`` or more."""
        left = self._term()
        while self._precedence() >= lowest:
            sign = self._take()
            right = self._sum(_PRECEDENCE[sign.text] + 1)
            left = Binary(left.span.to(right.span), sign, left, right)
        return left

    def _precedence(self) -> int:
        """Of the operator that comes next; -1 if none does."""
        token = self._peek()
        return _PRECEDENCE.get(token.text, -1) if token.kind == "sign" else -1

    def _term(self) -> Expression:
        token = self._peek()
        self._terms += 1
        if self._terms > _TERMS:
            self._fail(f"an expression of at most {_TERMS} terms")
        if self._is("-"):
            self._take()
            term = self._term()
            return Negative(token.span.to(term.span), term)
        if self._is("("):
            self._take()
            inside = self._sum(0)
            self._sign(")", "')'")
            return inside
        if token.kind == "number":
            return Number(self._take())
        if token.kind == "name":
            return Name(self._take())
        self._fail("a number, a name or '('")
