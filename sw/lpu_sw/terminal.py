"""Showing a run: text as it comes, and on a terminal a bar of progress below it."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["DRAWN_PER_SECOND", "Story", "telling"]

DRAWN_PER_SECOND = 10
"""How often the bar is drawn anew, however fast the run is."""


class Story(Protocol):
    """A text that grows."""

    def add(self, text: str) -> None:
        """Show what comes next."""
        ...

    def advance(self, note: str) -> None:
        """One more position has run; ``note`` says how it goes."""
        ...


class _PlainStory:
    """Text on standard output, at once and without any decoration."""

    def add(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def advance(self, note: str) -> None:
        pass


class _LiveStory:
    """Whole lines scroll away upwards; the line that still grows and the bar are drawn anew below them."""

    def __init__(self, console: Console, live: Live, progress: Progress) -> None:
        self._console, self._live, self._progress = console, live, progress
        self._line = ""

    def add(self, text: str) -> None:
        self._line += text
        *lines, self._line = self._wrapped(self._line)
        for line in lines:
            self._console.print(Text(line))
        self._draw()

    def advance(self, note: str) -> None:
        self._progress.update(self._progress.task_ids[0], advance=1, note=note)
        self._draw()

    def finish(self) -> None:
        """Leave the text and take the bar away."""
        self._live.update(Text(self._line), refresh=True)

    def _draw(self) -> None:
        self._live.update(Group(Text(self._line), self._progress))

    def _wrapped(self, text: str) -> list[str]:
        """Lines no wider than the console, broken at spaces where there are some."""
        lines, width = [], self._console.width - 1
        for paragraph in text.split("\n"):
            while len(paragraph) > width:
                at = paragraph.rfind(" ", 1, width + 1)
                end, start = (at, at + 1) if at > 0 else (width, width)
                lines.append(paragraph[:end])
                paragraph = paragraph[start:]
            lines.append(paragraph)
        return lines


def telling(positions: int, console: Console | None = None) -> AbstractContextManager[Story]:
    """Show a run of so many positions: a bar on a terminal that may be drawn on, plain text everywhere else.

    console : standard output when not given.
    """
    console = console or Console()
    if not console.is_terminal or console.is_dumb_terminal or os.environ.get("NO_COLOR"):
        return _telling_plainly()
    return _telling_live(console, positions)


@contextmanager
def _telling_plainly() -> Iterator[Story]:
    try:
        yield _PlainStory()
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()


@contextmanager
def _telling_live(console: Console, positions: int) -> Iterator[Story]:
    progress = Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn(), console=console
    )
    progress.add_task("positions", total=positions, note="")
    with Live(console=console, refresh_per_second=DRAWN_PER_SECOND) as live:
        story = _LiveStory(console, live, progress)
        try:
            yield story
        finally:
            story.finish()
