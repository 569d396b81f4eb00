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


def sample_stories(model: LlamaModel) -> list[list[int]]:
    """Token sequences that the float model samples from its BOS (or token 0) alone, the same at every call."""
    stories = []
    length = min(STORY_TOKENS, model.config.max_positions)
    for seed in range(STORIES):
        sampler, llama = Sampler(TEMPERATURE, seed), FloatLlama(model)
        story = [model.config.bos_id if model.config.bos_id is not None else 0]
        while len(story) < length:
            story.append(sampler.choose(llama.step(story[-1])))
        stories.append(story)
    return stories


def calibrate(model: LlamaModel, stories: list[list[int]] | None = None) -> Ranges:
    """Run the float model over ``stories`` (token sequences; its own samples when None) and keep the extremes."""
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

    for story in sample_stories(model) if stories is None else stories:
        FloatLlama(model, observe).forward(story[: config.max_positions])
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
