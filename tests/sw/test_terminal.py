"""How a run is shown: plain where nothing may be drawn, wrapped at words with a bar that goes away on a terminal."""

import io
import re
import time

import pytest
from rich.console import Console

from lpu_sw.terminal import DRAWN_PER_SECOND, telling

TEXT = "Once upon a time, there was a dog.\nIt had a veryverylongnameindeed, and " + "x" * 50
CURSOR_UP_AND_ERASE = re.compile(r"\x1b\[\d*[A-Za-z]|\x1b\[\?\d+[hl]|\r")


@pytest.fixture(autouse=True)
def colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def tell(console: Console) -> None:
    with telling(2, console) as story:
        for piece in re.findall(r".{1,7}", TEXT, re.DOTALL):
            story.add(piece)
        story.advance("5 cycles/s")
        time.sleep(2 / DRAWN_PER_SECOND)
        story.advance("7 cycles/s")


def test_without_a_terminal_the_text_is_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Console(file=io.StringIO()))
    assert capsys.readouterr().out == TEXT + "\n"


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_the_environment_can_ask_for_plain_text(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    console = Console(file=io.StringIO(), force_terminal=True)
    tell(console)
    assert capsys.readouterr().out == TEXT + "\n"


def test_on_a_terminal_lines_are_wrapped_and_the_bar_goes_away() -> None:
    shown = io.StringIO()
    tell(Console(file=shown, force_terminal=True, width=40, height=20))
    drawn = shown.getvalue()
    assert "1/2" in drawn
    assert "5 cycles/s" in drawn
    last_frame = CURSOR_UP_AND_ERASE.sub("", drawn[drawn.rindex("\x1b[2K") :]).strip()
    assert last_frame == "x" * (50 - 39)
    lines = [line.strip() for line in CURSOR_UP_AND_ERASE.sub("\n", drawn).split("\n")]
    for line in ("Once upon a time, there was a dog.", "It had a veryverylongnameindeed, and", "x" * 39):
        assert line in lines
