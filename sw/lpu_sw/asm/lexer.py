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


_UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Token:
    """One word of the source; ``kind`` is directive, name, number, string, sign, newline or end."""

    kind: str
    text: str
    span: Span


def tokens(file: str, text: str, diagnostics: Diagnostics) -> list[Token]:
    """The tokens of a file. A character that starts none is reported, and its line left out.

    text : lines end in a newline alone; a byte that is not UTF-8 is a lone surrogate, as ``surrogateescape`` makes it.
    """
    found: list[Token] = []
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        at = 0
        if undecoded := _UNDECODED.search(line):
            at, line = len(line), _UNDECODED.sub("\N{REPLACEMENT CHARACTER}", line)
            span = Span(file, number, undecoded.start() + 1, undecoded.end() + 1, line)
            diagnostics.report(span, f"found the byte {ord(undecoded.group()) - 0xDC00:#04x}, expected UTF-8 text")
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
    last = lines[-1]
    found.append(Token("end", "", Span(file, len(lines), len(last) + 1, len(last) + 1, last)))
    return found
