"""Source text to tokens. A semicolon starts a comment; the end of a line is a token."""

import re
from dataclasses import dataclass

from .errors import Diagnostics, Span

__all__ = ["Token", "tokens"]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|;.*)
      | (?P<directive>\.[A-Za-z_]\w*)
      | (?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)
      | (?P<number>0[xXbB]\w*|\d(?:[eE][+-](?=\d)|[\w.])*)
      | (?P<string>"[^"]*")
      | (?P<sign><<|>>|[=+\-*/%()|,:@])""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True)
class Token:
    """One word of the source; ``kind`` is directive, name, number, string, sign, newline or end."""

    kind: str
    text: str
    span: Span


def tokens(file: str, text: str, diagnostics: Diagnostics) -> list[Token]:
    """The tokens of a file. A character that starts none is reported, and its line left out."""
    found: list[Token] = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        at = 0
        while at < len(line):
            match = _TOKEN.match(line, at)
            if match is None:
                span = Span(file, number, at + 1, at + 2, line)
                diagnostics.report(span, f"found {line[at]!r}, expected a name, number, directive or operator")
                while found and found[-1].span.line == number:
                    found.pop()
                break
            kind = str(match.lastgroup)
            if kind != "space":
                found.append(Token(kind, match.group(), Span(file, number, at + 1, match.end() + 1, line)))
            at = match.end()
        found.append(Token("newline", "", Span(file, number, len(line) + 1, len(line) + 1, line)))
    last = lines[-1] if lines else ""
    found.append(Token("end", "", Span(file, max(1, len(lines)), len(last) + 1, len(last) + 1, last)))
    return found
