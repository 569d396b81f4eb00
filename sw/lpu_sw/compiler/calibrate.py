"""Ranges of a model's values, measured on text that the model itself samples."""

from dataclasses import dataclass

import numpy as np

from lpu_isa.formats import QUANTISED_MAX
from lpu_sw.frontends.language_graph import LOG2_E
from lpu_sw.model import LlamaConfig, LlamaModel
from lpu_sw.reference.llama import FloatLlama
from lpu_sw.sampling import Sampler

__all__ = ["Ranges", "block_magnitudes", "calibrate", "query_factor", "static_scales"]

STORIES = 4
STORY_TOKENS = 128
TEMPERATURE = 1.0


@dataclass(frozen=True)
class Ranges:
    """Largest magnitudes seen.

    keys, values : float64 (n_layers, n_kv_heads)
    hidden, queries, attended, gated, final : one number for all layers; ``final`` is the last hidden state times the
        final norm's gain.
    """

    keys: np.ndarray
    values: np.ndarray
    hidden: float
    queries: float
    attended: float
    gated: float
    final: float


def _sample(llama: FloatLlama, seed: int) -> None:
    """Let a model go through a story that it samples from its BOS (or token 0) alone."""
    config, sampler = llama.model.config, Sampler(TEMPERATURE, seed)
    token = 0 if config.bos_id is None else config.bos_id
    for _ in range(min(STORY_TOKENS, config.max_positions)):
        token = sampler.choose(llama.step(token))


def calibrate(model: LlamaModel, stories: list[list[int]] | None = None) -> Ranges:
    """Run the float model over ``stories`` (token sequences; its own samples when None) and keep the extremes.

    They are the same on every machine, since images are.
    """
    config = model.config
    keys = np.zeros((config.n_layers, config.n_kv_heads))
    values = np.zeros_like(keys)
    largest: dict[str, float] = dict.fromkeys(("hidden", "queries", "attended", "gated", "final"), 0.0)

    def observe(name: str, layer: int, seen: np.ndarray) -> None:
        if name in ("keys", "values"):
            kept = keys if name == "keys" else values
            np.maximum(kept[layer], np.abs(seen).max(axis=(0, 2)), out=kept[layer])
            return
        largest[name] = max(largest[name], float(np.abs(seen).max()))
        if name == "hidden" and layer == config.n_layers:
            largest["final"] = max(largest["final"], float(np.abs(seen * model.final_norm).max()))

    def new_model() -> FloatLlama:
        return FloatLlama(model, observe, is_portable=True)

    if stories is None:
        for seed in range(STORIES):
            _sample(new_model(), seed)
    else:
        for story in stories:
            llama = new_model()
            for token in story[: config.max_positions]:
                llama.step(token)
    return Ranges(keys, values, **largest)


def static_scales(seen: np.ndarray) -> np.ndarray:
    """Scale of one unit of a cached key or value, a layer and head: the largest magnitude seen becomes 127."""
    return np.where(seen == 0, 1.0, seen) / QUANTISED_MAX


def query_factor(ranges: Ranges, head_dim: int) -> np.ndarray:
    """What queries are multiplied by so that query times cached key is a score's exponent of two, a layer and head."""
    return static_scales(ranges.keys) * (LOG2_E / np.sqrt(head_dim))


def block_magnitudes(config: LlamaConfig, ranges: Ranges) -> dict[str, float]:
    """Largest magnitude of each kind of activation block as the tile holds it, constants folded in."""
    return {
        "hidden": ranges.hidden,
        "queries": ranges.queries * float(query_factor(ranges, config.head_dim).max()),
        "attended": ranges.attended,
        "gated": ranges.gated,
        "final": ranges.final * np.sqrt(config.dim),
    }
