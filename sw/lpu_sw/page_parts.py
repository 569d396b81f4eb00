"""Parts of hand-written pages that are written from the code, each between two comments that name it."""

import re
from pathlib import Path

__all__ = ["read_part", "write_part"]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- begin {name}\b[^\n]*-->\n)(.*?)(<!-- end {name} -->)", re.DOTALL)


def _find(page: Path, name: str) -> re.Match[str]:
    found = _pattern(name).search(page.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{page}: found no part between <!-- begin {name} --> and <!-- end {name} -->")
    return found


def read_part(page: Path, name: str) -> str:
    """The text between ``<!-- begin NAME ... -->`` and ``<!-- end NAME -->``. Raises ValueError when there is none."""
    return _find(page, name)[2].strip()


def write_part(page: Path, name: str, text: str) -> None:
    """Replace that text. Raises ValueError when the page has no such part."""
    found = _find(page, name)
    page.write_text(
        f"{found.string[: found.end(1)]}\n{text.strip()}\n\n{found.string[found.start(3) :]}", encoding="utf-8"
    )
