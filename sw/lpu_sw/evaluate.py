"""Evaluation: what a model's arithmetic on the tile costs, as next-token loss on held-out text against float32."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpu_isa.config import TileConfig
from lpu_sw.compiler.llama import CompiledLlama, compile_llama
from lpu_sw.engines import SimDevice, driven
from lpu_sw.frontends import load_model
from lpu_sw.frontends.tokenizer import load_tokenizer
from lpu_sw.heldout import cross_entropy, read_stories, story_tokens
from lpu_sw.host.decode import Request, decode
from lpu_sw.layer_errors import layer_errors
from lpu_sw.model import LlamaModel
from lpu_sw.reference.llama import FloatLlama

__all__ = ["ENGINES", "LAYER_TOKENS", "Evaluation", "evaluate", "evaluate_layers"]

ENGINES = ("sim", "float")
LAYER_TOKENS = 500
"""How many tokens `evaluate_layers` takes if it is not told."""


@dataclass(frozen=True)
class Evaluation:
    """Losses of each token in nats, by the engine and by float32, and whether the two agree on the likeliest one.

    losses, float_losses : float64 (tokens,). agrees : bool (tokens,). story : int (tokens,), which story each is of.
    clamped : lanes that quantisers of fixed scale clamped.
    """

    losses: np.ndarray
    float_losses: np.ndarray
    agrees: np.ndarray
    story: np.ndarray
    clamped: int

    @staticmethod
    def joined(parts: Iterable[Evaluation]) -> Evaluation:
        """Stories one after another."""
        parts = list(parts)
        return Evaluation(
            np.concatenate([part.losses for part in parts]),
            np.concatenate([part.float_losses for part in parts]),
            np.concatenate([part.agrees for part in parts]),
            np.repeat(np.arange(len(parts)), [len(part.losses) for part in parts]),
            sum(part.clamped for part in parts),
        )

    def figures(self) -> dict[str, float | int]:
        """The means, with the standard errors of the paired difference: over tokens, and over whole stories."""
        difference = self.losses - self.float_losses
        n, mean = len(difference), float(difference.mean())
        # Tokens of one story are not independent: the sums of each story's deviations are.
        sums = np.bincount(self.story, difference - mean)
        return {
            "tokens": n,
            "stories": len(sums),
            "loss": float(self.losses.mean()),
            "float_loss": float(self.float_losses.mean()),
            "difference": mean,
            "standard_error": float(difference.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0,
            "standard_error_by_story": float(np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)) / n),
            "top1_agreement": float(self.agrees.mean()),
            "clamped": self.clamped,
        }


def _compare(logits: np.ndarray, reference: np.ndarray, tokens: list[int], clamped: int) -> Evaluation:
    targets = np.array(tokens[1:])
    losses, float_losses = cross_entropy(logits, targets), cross_entropy(reference, targets)
    agrees = logits.argmax(axis=1) == reference.argmax(axis=1)
    return Evaluation(losses, float_losses, agrees, np.zeros(len(targets), int), clamped)


def _float_story(model: LlamaModel, n_valid: int, tokens: list[int]) -> Evaluation:
    logits = FloatLlama(model).forward(tokens[:-1])[:, :n_valid]
    return _compare(logits, logits, tokens, 0)


def _tile_story(model: LlamaModel, compiled: CompiledLlama, tokens: list[int]) -> Evaluation:
    """Run a story through the simulator, the host pushing each of its tokens and reading all logits."""
    facts, n = compiled.facts, len(tokens) - 1
    logits = np.zeros((n, facts.n_valid))

    def choose(position: int, row: np.ndarray) -> int:
        logits[position] = row
        return tokens[position + 1]

    device = SimDevice(compiled.program)
    for _ in driven(decode(device, facts, Request((tokens[0],), n), choose)):
        pass
    reference = FloatLlama(model).forward(tokens[:-1])[:, : facts.n_valid]
    return _compare(logits, reference, tokens, device.state.clamped)


def _cut(stories: Iterable[list[int]], context: int, limit: int | None) -> Iterator[list[int]]:
    """Stories no longer than the context, until ``limit`` predicted tokens have been given."""
    left = limit
    for story in stories:
        tokens = story[: context + 1] if left is None else story[: min(context, left) + 1]
        if len(tokens) > 1:
            yield tokens
        if left is not None:
            left -= len(tokens) - 1
            if left <= 0:
                return


_story: Callable[[list[int]], Evaluation]


def _take_work(story: Callable[[list[int]], Evaluation]) -> None:
    """Give a worker process, once, what it does with each story."""
    global _story
    _story = story


def _work(tokens: list[int]) -> Evaluation:
    return _story(tokens)


def evaluate(
    model_path: Path,
    text: Path,
    engine: str,
    tile: TileConfig,
    limit: int | None = None,
    tokenizer_path: Path | None = None,
    processes: int = 2,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Loss on the stories of a text file, each from an empty context and cut to the tile's.

    limit : predicted tokens at most (all when None). advance : called
    after every story with the tokens done and all there are.
    Raises ValueError for a bad input of any kind.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}, expected one of {', '.join(ENGINES)}")
    model = load_model(model_path)
    tokenizer = load_tokenizer(model_path, model.config, tokenizer_path)
    texts = read_stories(text)
    if engine == "sim":
        compiled = compile_llama(model, tile, tokenizer.vocab_size)
        context, story = compiled.facts.context, functools.partial(_tile_story, model, compiled)
    else:
        context = model.config.max_positions
        story = functools.partial(_float_story, model, tokenizer.vocab_size)
    stories = list(_cut((story_tokens(t, tokenizer, model.config) for t in texts), context, limit))
    if not stories:
        raise ValueError(f"{text}: no token to predict")
    parts, done = [], 0
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_take_work, initargs=(story,)) as pool:
        for part in pool.map(_work, stories):
            parts.append(part)
            done += len(part.losses)
            advance(done, sum(map(len, stories)) - len(stories))
    where = {"engine": engine, "model": str(model_path), "text": str(text), "context": context}
    if engine == "sim":
        where["tile"] = tile.name
    return where | Evaluation.joined(parts).figures()


def evaluate_layers(
    model_path: Path, text: Path, tile: TileConfig, limit: int | None = None, tokenizer_path: Path | None = None
) -> dict[str, Any]:
    """Relative errors of `layer_errors`, under ``layers``, on the first tokens of a text file's stories.

    limit : tokens at most, `LAYER_TOKENS` when None. Raises ValueError for a bad input of any kind.
    """
    model = load_model(model_path)
    tokenizer = load_tokenizer(model_path, model.config, tokenizer_path)
    texts = (story_tokens(story, tokenizer, model.config) for story in read_stories(text))
    stories = [tokens[:-1] for tokens in _cut(texts, model.config.max_positions, limit or LAYER_TOKENS)]
    return {
        "model": str(model_path),
        "text": str(text),
        "tile": tile.name,
        "tokens": sum(map(len, stories)),
        "layers": layer_errors(model, tile, stories),
    }
