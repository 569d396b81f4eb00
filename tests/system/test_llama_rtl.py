"""A Llama on the RTL: tokens and cycles of the golden model, for awkward sizes and for the model that is shipped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lpu_isa.config import SHAPES
from lpu_sw.compiler.llama import compile_llama
from lpu_sw.engines import Job, find_engine
from lpu_sw.frontends import load_model
from lpu_sw.host.decode import Post, Request
from lpu_sw.model import LlamaConfig, LlamaModel

AWKWARD = LlamaConfig(18, 21, 2, 3, 1, 6, 37, 16)
"""Nothing is a multiple of a tile's sides."""


def posts(engine: str, job: Job) -> list[Post]:
    made = find_engine(engine)
    made.prepare(job, lambda line: None)
    return list(made.run(job))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_model_of_awkward_sizes(temperature: float, random_model: Callable[..., LlamaModel]) -> None:
    model, tile = random_model(AWKWARD, seed=3), SHAPES["4x4"]
    compiled = compile_llama(model, tile)
    job = Job(model, Request((1, 5, 36), 12, -1, temperature, seed=7), AWKWARD.vocab_size, compiled)
    told = posts("rtl", job)
    assert told == posts("sim", job)
    assert [post.cycles for post in told] == compiled.facts.cycles.predict(3, 12, temperature > 0)


def test_the_shipped_model_on_the_default_tile(story_llama: Path) -> None:
    model = load_model(story_llama)
    compiled = compile_llama(model, SHAPES["8x16"])
    job = Job(model, Request((1, 225, 226), 8), compiled.facts.n_valid, compiled)
    told = posts("rtl", job)
    assert told == posts("sim", job)
    assert [post.cycles for post in told] == compiled.facts.cycles.predict(3, 8, False)
