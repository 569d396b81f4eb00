"""The tutorial's Python runs and prints what the page says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_tutorial_prints_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    parts = re.findall(r"```python\n(.*?)```\n\n```output\n(.*?)```", text, re.DOTALL)
    assert len(parts) == text.count("```python")
    names: dict[str, object] = {}
    for code, shown in parts:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "tutorial.md", "exec"), names)
        assert printed.getvalue() == shown
