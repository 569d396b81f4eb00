"""What the page on assembly shows, works."""

import re
from pathlib import Path

import pytest

from lpu_isa.config import SHAPES
from lpu_sw.asm import assemble
from lpu_sw.asm.parser import DIRECTIVES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "assembly.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("tile", SHAPES)
def test_its_programs_assemble_and_are_proved(tile):
    assert [len(assemble(text, SHAPES[tile]).bundles) for text in blocks("lpu")] == [4]


def test_its_python_runs(capsys):
    (text,) = blocks("python")
    exec(text, {})
    assert "addi r1, r1, -1 @2" in capsys.readouterr().out


def test_it_names_every_directive():
    section = PAGE.split("## Directives")[1].split("## Errors")[0]
    assert set(re.findall(r"`\.(\w+)", section)) == set(DIRECTIVES)
