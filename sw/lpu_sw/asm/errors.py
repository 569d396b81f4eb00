"""Where a mistake stands in the source, and how it is told: file, line, column, what was found, what was expected."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

__all__ = ["Abandoned", "AssemblyError", "Diagnostic", "Diagnostics", "Span", "suggestion"]

LIMIT = 20
"""Mistakes after which the assembler gives up."""


@dataclass(frozen=True)
class Span:
    """A piece of one source line: ``column`` counts from 1, ``end`` is the column after the piece."""

    file: str
    line: int
    column: int
    end: int
    source: str

    @property
    def text(self) -> str:
        """The piece itself."""
        return self.source[self.column - 1 : self.end - 1]

    def to(self, last: "Span") -> "Span":
        """The span from here to the end of ``last``, or to the end of this line when ``last`` stands on another."""
        end = last.end if last.line == self.line else len(self.source) + 1
        return Span(self.file, self.line, self.column, end, self.source)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Diagnostic:
    """One mistake and its place."""

    span: Span
    message: str

    def __str__(self) -> str:
        margin = "".join("\t" if character == "\t" else " " for character in self.span.source[: self.span.column - 1])
        caret = "^" * max(1, self.span.end - self.span.column)
        return f"{self.span}: {self.message}\n  {self.span.source}\n  {margin}{caret}"


class AssemblyError(ValueError):
    """Everything that is wrong with a source text, up to 20 mistakes in the order of their places."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(diagnostics, key=lambda d: (d.span.file, d.span.line, d.span.column)))
        super().__init__("\n".join(map(str, self.diagnostics)))


class Abandoned(Exception):
    """Raised and caught inside the assembler: the mistake is recorded, this statement has no meaning."""


class Diagnostics:
    """Collects mistakes, so that one run tells more than the first of them."""

    def __init__(self) -> None:
        self._found: list[Diagnostic] = []

    def report(self, span: Span, message: str) -> None:
        """Record a mistake and go on. Raises ``AssemblyError`` at the twentieth."""
        self._found.append(Diagnostic(span, message))
        if len(self._found) >= LIMIT:
            self.finish()

    def fail(self, span: Span, expected: str, found: str | None = None) -> NoReturn:
        """Record ``found ..., expected ...`` (the source text unless told) and abandon the statement."""
        shown = f"'{span.text}'" if found is None else found
        self.report(span, f"found {shown}, expected {expected}")
        raise Abandoned

    @property
    def is_clean(self) -> bool:
        """Whether nothing was recorded."""
        return not self._found

    def finish(self) -> None:
        """Raise ``AssemblyError`` if anything was recorded."""
        if self._found:
            raise AssemblyError(self._found)


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
