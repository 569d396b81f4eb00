"""Every pass can be printed, and the page that explains the passes quotes what is printed."""

import re
from pathlib import Path

import pytest

from lpu_isa.config import SHAPES
from lpu_sw.compiler.dump import ALL, PASSES, dump
from lpu_sw.compiler.llama import Compilation
from lpu_sw.feed_forward.compile import NetworkCompilation
from lpu_sw.feed_forward.dump import PASSES as NETWORK_PASSES
from lpu_sw.frontends import load_model
from lpu_sw.frontends.onnx import read_onnx

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "compiler.md").read_text()
NETWORK_PAGE = (REPOSITORY / "docs" / "onnx.md").read_text()


@pytest.fixture(scope="module")
def compilation(story_llama: Path) -> Compilation:
    return Compilation(load_model(story_llama), SHAPES["8x16"])


@pytest.fixture(scope="module")
def network() -> NetworkCompilation:
    return NetworkCompilation(read_onnx(REPOSITORY / "models" / "digits" / "digits.onnx"), SHAPES["16x16-cnn"])


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
    assert holds in dump(PASSES, compilation, name)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("graph", "pool1: float32[1, 16, 4, 4] = max_pool("),
        ("integers", "conv2.integers: int8[1, 16, 8, 8] = integer_conv("),
        ("unfold", "conv1.integers.columns: int8[1, 3, 8, 8] = unfold("),
        ("layout", " conv2.integers, clamped"),
        ("tile", "pool1: larger: vxm.pass "),
        ("schedule", "mxm  depthwise.integers: row 3"),
        ("bundles", "post: send"),
    ],
)
def test_a_dump_of_a_network_shows_what_the_pass_makes(network: NetworkCompilation, name: str, holds: str) -> None:
    assert holds in dump(NETWORK_PASSES, network, name)


def test_all_passes_are_printed_one_after_the_other(network: NetworkCompilation) -> None:
    assert dump(NETWORK_PASSES, network, ALL) == "\n".join(
        dump(NETWORK_PASSES, network, name) for name in NETWORK_PASSES
    )


@pytest.mark.parametrize(
    ("page", "passes"), [(PAGE, PASSES), (NETWORK_PAGE, NETWORK_PASSES)], ids=["models", "networks"]
)
def test_the_page_lists_the_passes_in_their_order(page: str, passes: dict[str, object]) -> None:
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == list(passes)


def test_the_page_quotes_the_dumps(compilation: Compilation) -> None:
    printed = "\n".join(dump(PASSES, compilation, name) for name in ("graph", "fold", "quantise", "layout", "tile"))
    quoted = [line.strip() for line in PAGE.splitlines() if line.startswith("    ") and "lpu compile" not in line]
    assert quoted and [line for line in quoted if line not in printed] == []


def test_an_unknown_pass_is_refused_with_the_names_of_all(compilation: Compilation) -> None:
    with pytest.raises(ValueError, match=f"unknown pass 'x', expected one of {', '.join(PASSES)}"):
        dump(PASSES, compilation, "x")
