"""Every pass can be printed, and the page that explains the passes quotes what is printed."""

import re
from pathlib import Path

import pytest

from lpu_isa.config import SHAPES
from lpu_sw.compiler.dump import PASSES, dump
from lpu_sw.compiler.llama import Compilation
from lpu_sw.frontends import load_model

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "compiler.md").read_text()


@pytest.fixture(scope="module")
def compilation(story_llama: Path) -> Compilation:
    return Compilation(load_model(story_llama), SHAPES["8x16"])


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("graph", "rms_norm(hidden, normed.gain; "),
        ("fold", "scaled_linear("),
        ("quantise", "constant o.weights: 5 x int8[64, 4, 16]"),
        ("layout", "layer 4 / keys.cache"),
        ("tile", "head 3 scores: mxm.matmul "),
        ("schedule", "mxm  head 3 scores"),
        ("bundles", "post token: send"),
    ],
)
def test_a_dump_shows_what_the_pass_makes(compilation: Compilation, name: str, holds: str) -> None:
    assert holds in dump(compilation, name)


def test_the_page_lists_the_passes_in_their_order() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(PASSES)


def test_the_page_quotes_the_dumps(compilation: Compilation) -> None:
    printed = "\n".join(dump(compilation, name) for name in ("graph", "fold", "quantise", "layout", "tile"))
    quoted = [line.strip() for line in PAGE.splitlines() if line.startswith("    ") and "lpu compile" not in line]
    assert quoted and [line for line in quoted if line not in printed] == []


def test_an_unknown_pass_is_refused_with_the_names_of_all(compilation: Compilation) -> None:
    with pytest.raises(ValueError, match=f"unknown pass 'x', expected one of {', '.join(PASSES)}"):
        dump(compilation, "x")
