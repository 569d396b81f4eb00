"""A mixture of experts on the RTL: tokens, cycles and the whole state are the simulator's and the compiler's."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lpu_isa.config import SHAPES, TileConfig
from lpu_sw.compiler.llama import CompiledLlama, compile_llama, inbox_words
from lpu_sw.engines import SimDevice, driven
from lpu_sw.frontends import load_model
from lpu_sw.host.decode import Post, Request, decode
from lpu_sw.image import Image
from lpu_sw.model import LlamaConfig, LlamaModel
from lpu_sw.reference.llama import greedy
from lpu_tb.build import build_tile
from lpu_tb.runner import run_build

AWKWARD = LlamaConfig(
    dim=10, hidden_dim=7, n_layers=2, n_heads=3, n_kv_heads=1, head_dim=6, vocab_size=29, max_positions=12,
    n_experts=4, experts_per_token=2,
)  # fmt: skip
"""Nothing but the experts is a multiple of a tile's sides."""
ROOMY = SHAPES["8x16"].replace(wmem_words=3072, smem_words=1024)
"""The smallest that holds the shipped mixture and a context of some use."""


def assert_rtl_agrees(compiled: CompiledLlama, tile: TileConfig, request: Request, folder: Path) -> list[Post]:
    """Run a request on simulator and RTL; the scoreboard compares all that a host can read, posts and stamps too."""
    prompt, positions = list(request.prompt), request.positions
    posts = list(driven(decode(SimDevice(compiled.program), compiled.facts, request)))
    assert [post.cycles for post in posts] == compiled.facts.cycles.predict(len(prompt), positions, False)
    image = folder / "mixtral.lpuimg"
    inbox = inbox_words(compiled.facts, prompt, positions, False, request.stop)
    Image.from_program(compiled.program, {"inbox": inbox}).save(image)
    run_build(
        build_tile(tile), "lpu_tb.benches.tile", "programs", name=folder.name,
        parameters={"images": [str(image)], "seed": 1},
    )  # fmt: skip
    return posts


def test_a_mixture_of_awkward_sizes(tmp_path: Path, random_model: Callable[..., LlamaModel]) -> None:
    compiled = compile_llama(random_model(AWKWARD, seed=5), SHAPES["4x4"])
    posts = assert_rtl_agrees(compiled, SHAPES["4x4"], Request((1, 5, 28), AWKWARD.max_positions), tmp_path)
    assert len(posts) == AWKWARD.max_positions


@pytest.mark.skipif("LPU_LARGE" not in os.environ, reason="a build of its own, three minutes: set LPU_LARGE=1")
def test_the_shipped_mixture(tmp_path: Path, story_moe: Path) -> None:
    model = load_model(story_moe)
    compiled = compile_llama(model, ROOMY)
    posts = assert_rtl_agrees(compiled, ROOMY, Request((1, 225, 226), 12), tmp_path)
    assert [post.token for post in posts[2:]] == greedy(model, [1, 225, 226], 10)
