"""Initial contents of a tile's memories for a Llama: int8 weights, scales, gains and rotary tables."""

from dataclasses import dataclass

import numpy as np

from lpu_isa.formats import QUANTISED_MAX, FloatFormat
from lpu_sw.asm.matrix import weight_words
from lpu_sw.model import LlamaModel

from .calibrate import Ranges
from .layout import ROTARY_RADIX, Layout
from .quantise import pad, quantise_rows, scale_words

__all__ = ["Memories", "block_magnitudes", "build_memories"]

LOG2_E = 1.4426950408889634
MASKED = -(2.0**60)
"""Added to the logit of an expert that has been chosen: below any that has not."""


@dataclass
class Memories:
    """wmem: int8 (words, rows, cols); smem, vmem: float64 (words, rows), already rounded to the tile's format."""

    wmem: np.ndarray
    smem: np.ndarray
    vmem: np.ndarray


def static_scales(seen: np.ndarray) -> np.ndarray:
    """Scale of one unit of a cached key or value, a layer and head: the largest magnitude seen becomes 127."""
    return np.where(seen == 0, 1.0, seen) / QUANTISED_MAX


def query_factor(ranges: Ranges, head_dim: int) -> np.ndarray:
    """What queries are multiplied by so that query times cached key is a score's exponent of two, a layer and head."""
    return static_scales(ranges.keys) * LOG2_E / np.sqrt(head_dim)


def block_magnitudes(model: LlamaModel, ranges: Ranges) -> dict[str, float]:
    """Largest magnitude of each kind of activation block as the tile holds it, constants folded in."""
    return {
        "hidden": ranges.hidden,
        "queries": ranges.queries * float(query_factor(ranges, model.config.head_dim).max()),
        "attended": ranges.attended,
        "gated": ranges.gated,
        "final": ranges.final * np.sqrt(model.config.dim),
    }


def build_memories(model: LlamaModel, layout: Layout, ranges: Ranges) -> Memories:
    """Everything that the host loads before the program runs; caches start as zero."""
    tile, config = layout.tile, model.config
    memories = Memories(
        np.zeros((layout.weights["end"], tile.rows, tile.cols), np.int8),
        np.zeros((layout.scales["end"], tile.rows)),
        np.zeros((layout.vectors["end"], tile.rows)),
    )
    root = np.sqrt(config.dim)

    def put(weights: np.ndarray, factor: np.ndarray | float, at: int, scale_at: int) -> None:
        rounded, scale = quantise_rows(weights)
        words, scales = weight_words(tile, rounded), scale_words(tile, scale * factor)
        memories.wmem[at : at + len(words)] = words
        memories.smem[scale_at : scale_at + len(scales)] = scales

    put(model.classifier, 1.0, layout.weights["classifier"], layout.scales["classifier"])
    if not config.tied:
        put(model.embedding, 1.0, layout.weights["embedding"], layout.scales["embedding"])

    # Row (or column) of a head's component, each head padded to whole vectors.
    head_width = layout.head_words * tile.rows
    places = (np.arange(config.n_heads)[:, None] * head_width + np.arange(config.head_dim)).ravel()
    turning = _turning_order(model)
    key_scale, value_scale = static_scales(ranges.keys), static_scales(ranges.values)
    per_query = query_factor(ranges, config.head_dim)
    shared = config.n_heads // config.n_kv_heads
    for index, layer in enumerate(model.layers):
        at, scale_at = layout.weights["layers"] + index * layout.layer["end"], layout.scales["layers"]
        scale_at += index * layout.layer_scales["end"]

        def region(name: str, at: int = at, scale_at: int = scale_at) -> tuple[int, int]:
            return at + layout.layer[name], scale_at + layout.layer_scales[name]

        def spread(weights: np.ndarray, order: np.ndarray) -> np.ndarray:
            heads = weights.reshape(-1, config.head_dim, config.dim)[:, order].reshape(-1, config.dim)
            where = places[: len(heads)]
            return pad(heads, where, len(heads) // config.head_dim * head_width)

        def per_lane(factors: np.ndarray) -> np.ndarray:
            return np.repeat(factors, head_width)

        gain = layer.attention_norm
        qkv = np.concatenate([
            spread(layer.wk * gain, turning),
            spread(layer.wq * gain, turning),
            spread(layer.wv * gain, np.arange(config.head_dim)),
        ])  # fmt: skip
        factors = np.concatenate([
            per_lane(1 / key_scale[index]),
            per_lane(np.repeat(per_query[index], shared)),
            per_lane(1 / value_scale[index]),
        ])  # fmt: skip
        put(qkv, root * factors, *region("qkv"))
        put(pad(layer.wo, places, config.n_heads * head_width, axis=1), 1.0, *region("o"))
        gain = layer.feed_forward_norm
        if layer.router is not None:
            put(layer.router * gain, root * LOG2_E, *region("router"))
        experts_at, scales_at = region("feed_forward")
        experts = zip(*(w.reshape(-1, *w.shape[-2:]) for w in (layer.gate, layer.up, layer.down)), strict=True)
        for number, (gate, up, down) in enumerate(experts):
            for name, weights, factor in (("gate", gate * gain, root), ("up", up * gain, root), ("down", down, 1.0)):
                put(weights, factor, experts_at + number * layout.expert["end"] + layout.expert[name],
                    scales_at + number * layout.expert_scales["end"] + layout.expert_scales[name])  # fmt: skip
        attended = np.repeat(np.repeat(value_scale[index], shared)[:, None], tile.rows, axis=1)
        first = scale_at + layout.layer_scales["attended"]
        memories.smem[first : first + config.n_heads] = FloatFormat(tile.significand_bits).round(attended)
    _put_vectors(memories, model, layout)
    return memories


def _turning_order(model: LlamaModel) -> np.ndarray:
    """Components of a query or key head such that those that turn together are neighbours."""
    n = model.config.head_dim
    if model.config.rope_pairs == "interleaved":
        return np.arange(n)
    return np.arange(n).reshape(2, n // 2).T.ravel()


def _put_vectors(memories: Memories, model: LlamaModel, layout: Layout) -> None:
    tile, config, at = layout.tile, model.config, layout.vectors
    gain = scale_words(tile, model.final_norm.astype(np.float64) * np.sqrt(config.dim))
    memories.vmem[at["final_gain"] : at["final_gain"] + len(gain)] = gain
    for expert in range(config.n_experts):
        memories.vmem[at["masks"] + expert, expert] = MASKED
    component = np.arange(config.head_dim)
    frequency = config.rope_theta ** (-(component // 2 * 2) / config.head_dim)
    sign = np.where(component % 2, 1.0, -1.0)
    round_ = FloatFormat(tile.significand_bits).round
    for name, entries, step in (("high", layout.rotary_high, ROTARY_RADIX), ("low", ROTARY_RADIX, 1)):
        angles = np.arange(entries)[:, None] * step * frequency
        for kind, table in (("cos", np.cos(angles)), ("sin", np.sin(angles) * sign)):
            padded = np.zeros((entries, layout.head_words * tile.rows))
            padded[:, : config.head_dim] = round_(table)
            words = padded.reshape(entries, layout.head_words, tile.rows).swapaxes(0, 1).reshape(-1, tile.rows)
            first = at[f"{name}_{kind}"]
            memories.vmem[first : first + len(words)] = words
