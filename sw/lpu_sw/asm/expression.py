"""Expressions: integers, floats, names, ``+ - * / % << >>`` and parentheses, and the sum of a number and a register."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .errors import Diagnostics, Span, suggestion
from .lexer import Token

__all__ = ["Binary", "Expression", "Name", "Negative", "Number", "Operand", "Symbol", "evaluate", "names"]

_DECIMAL = re.compile(r"\d+(_\d+)*")
_FLOAT = re.compile(r"(\d+\.?\d*([eE][+-]?\d+)?)(f?)")
_DIGITS = {"0x": "hexadecimal digits after 0x", "0b": "binary digits after 0b"}


@dataclass(frozen=True)
class Number:
    """A literal."""

    token: Token

    @property
    def span(self) -> Span:
        """Where it stands."""
        return self.token.span


@dataclass(frozen=True)
class Name:
    """A constant, label, region, register, or member of an enumeration."""

    token: Token

    @property
    def span(self) -> Span:
        """Where it stands."""
        return self.token.span


@dataclass(frozen=True)
class Negative:
    """Minus a term."""

    span: Span
    term: "Expression"


@dataclass(frozen=True)
class Binary:
    """Two terms and the operator between them."""

    span: Span
    operator: Token
    left: "Expression"
    right: "Expression"


Expression = Number | Name | Negative | Binary


@dataclass(frozen=True)
class Symbol:
    """What a name stands for: a ``constant``, ``label``, ``region`` or ``register``, and where it was made."""

    kind: str
    value: int | float
    span: Span | None = None


@dataclass(frozen=True)
class Operand:
    """The value of an expression: a number, plus a register if it names one."""

    value: int | float
    register: int | None = None


def names(expression: Expression) -> Iterator[Name]:
    """The names in an expression."""
    if isinstance(expression, Name):
        yield expression
    elif isinstance(expression, Negative):
        yield from names(expression.term)
    elif isinstance(expression, Binary):
        yield from names(expression.left)
        yield from names(expression.right)


_BITS = 128
"""An integer of more than these would only take memory before a range check refuses it."""


def _shift_left(left: int, right: int) -> int:
    return left << min(right, _BITS)


_OPERATORS: dict[str, Callable] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
    "%": operator.mod,
    "<<": _shift_left,
    ">>": operator.rshift,
}


def _number(token: Token, diagnostics: Diagnostics, plain_floats: bool) -> int | float:
    text = token.text
    prefix = text[:2].lower()
    if prefix in _DIGITS:
        try:
            return int(text, 0)
        except ValueError:
            diagnostics.fail(token.span, _DIGITS[prefix])
    if _DECIMAL.fullmatch(text):
        return int(text[: _BITS + 1])  # is too large as well if that cuts it
    match = _FLOAT.fullmatch(text)
    if match is None:
        diagnostics.fail(token.span, "a number such as 12, 0x1f, 0b101 or 1.5f")
    if not (match.group(3) or plain_floats):
        diagnostics.fail(token.span, "an integer (a float is written with an f, as 1.5f)")
    return float(match.group(1))


def evaluate(
    expression: Expression, symbols: Mapping[str, Symbol], diagnostics: Diagnostics, plain_floats: bool = False
) -> Operand:
    """The value of an expression.

    ``plain_floats``: whether a float may stand without its ``f``, as in a list of data. Reports and abandons at an
    unknown name, a malformed number, an integer beyond all use, a division by zero, or a register anywhere but in a
    sum.
    """

    def value(node: Expression) -> Operand:
        operand = found(node)
        if isinstance(operand.value, int) and operand.value.bit_length() > _BITS:
            diagnostics.fail(node.span, f"an integer of at most {_BITS} bits")
        return operand

    def found(node: Expression) -> Operand:
        if isinstance(node, Number):
            return Operand(_number(node.token, diagnostics, plain_floats))
        if isinstance(node, Name):
            symbol = symbols.get(node.token.text)
            if symbol is None:
                diagnostics.fail(node.span, f"a known name{suggestion(node.token.text, symbols)}")
            if symbol.kind == "register":
                return Operand(0, int(symbol.value))
            return Operand(symbol.value)
        if isinstance(node, Negative):
            term = value(node.term)
            if term.register is not None:
                diagnostics.fail(node.span, "a number (a register can only be added)")
            return Operand(-term.value)
        return combine(node)

    def combine(node: Binary) -> Operand:
        sign, left, right = node.operator.text, value(node.left), value(node.right)
        registers = [side.register for side in (left, right) if side.register is not None]
        if right.register is not None and sign != "+" or left.register is not None and sign not in "+-":
            diagnostics.fail(node.span, "a number (a register can only be added)")
        if len(registers) > 1:
            diagnostics.fail(node.span, "one register at most")
        is_float = isinstance(left.value, float) or isinstance(right.value, float)
        if is_float and sign in ("%", "<<", ">>"):
            diagnostics.fail(node.span, f"integers on both sides of {sign}")
        if sign in ("/", "%") and right.value == 0:
            diagnostics.fail(node.right.span, "a divisor other than 0")
        if sign in ("<<", ">>") and right.value < 0:
            diagnostics.fail(node.right.span, "a shift of 0 or more")
        compute = operator.truediv if is_float and sign == "/" else _OPERATORS[sign]
        return Operand(compute(left.value, right.value), registers[0] if registers else None)

    return value(expression)
