"""A Llama's (or Mixtral's) token as a graph: position, embedding, one layer that repeats, classifier."""

import numpy as np

from lpu_sw.graph.elementwise import Add
from lpu_sw.graph.graph import Graph, Region
from lpu_sw.graph.language import (
    Argmax,
    Attention,
    CacheAppend,
    Embedding,
    ExpertLinear,
    Linear,
    RmsNorm,
    Rotary,
    RotaryAngles,
    SiluGate,
    TopExperts,
)
from lpu_sw.graph.tensor import ElementType, Tensor
from lpu_sw.model import LlamaConfig, LlamaModel

__all__ = ["LOG2_E", "language_graph"]

LOG2_E = 1.4426950408889634
"""Exponentials of the model are powers of two in the graph."""


def language_graph(model: LlamaModel, n_valid: int) -> Graph:
    """The graph of a model; ids below ``n_valid`` may be chosen.

    A tensor's kind is the name under which `FloatLlama` lets it be observed, where it does.
    """
    config = model.config
    graph = Graph("mixtral" if config.n_experts else "llama")
    token = graph.input("token", (), ElementType.INT32)
    position = graph.input("position", (), ElementType.INT32)
    embedding = graph.constant("embedding", model.embedding)
    angles = RotaryAngles(config.rope_theta, config.head_dim, config.max_positions)
    cos, sin = graph.region("position").add_several(("cos", "sin"), angles, position)
    hidden = graph.region("prologue").add("hidden.embedded", Embedding(), token, embedding)
    last = _layers(graph, model, hidden, cos, sin, position)
    epilogue = graph.region("classifier")
    norm = RmsNorm(config.norm_epsilon)
    final = epilogue.add("final", norm, last, graph.constant("final.gain", model.final_norm))
    classifier = embedding if config.tied else graph.constant("logits.weights", model.classifier)
    logits = epilogue.add("logits", Linear(), final, classifier)
    graph.result(epilogue.add("next_token", Argmax(n_valid), logits))
    return graph


def _layers(graph: Graph, model: LlamaModel, hidden: Tensor, cos: Tensor, sin: Tensor, position: Tensor) -> Tensor:
    """The region of the layers. Returns the hidden state that the last one leaves."""
    config = model.config
    layer = graph.region("layer", config.n_layers)
    norm, factor = RmsNorm(config.norm_epsilon), LOG2_E / np.sqrt(config.head_dim)

    def weights(name: str, field: str, shape: tuple[int, ...] = (), order: np.ndarray | None = None) -> Tensor:
        """The field ``field`` of all layers, in another shape where heads are axes, with rows of heads in ``order``."""
        data = np.stack([getattr(each, field) for each in model.layers])
        if shape:
            data = data.reshape(config.n_layers, *shape)
        return graph.constant(name, data if order is None else data[:, :, order], rounds=config.n_layers)

    before = layer.carry("hidden", hidden)
    normed = layer.add("normed", norm, before, weights("normed.gain", "attention_norm"))
    order, dim = side_by_side(config), config.dim
    own, shared = (config.n_heads, config.head_dim), (config.n_kv_heads, config.head_dim)
    keys = layer.add("keys", Linear(), normed, weights("keys.weights", "wk", (*shared, dim), order))
    keys = layer.add("keys.turned", Rotary(), keys, cos, sin)
    keys = layer.add("keys.cache", CacheAppend(config.max_positions, "row"), keys, position)
    queries = layer.add("queries", Linear(), normed, weights("queries.weights", "wq", (*own, dim), order))
    queries = layer.add("queries.turned", Rotary(), queries, cos, sin)
    values = layer.add("values", Linear(), normed, weights("values.weights", "wv", (*shared, dim)))
    values = layer.add("values.cache", CacheAppend(config.max_positions, "column"), values, position)
    attended = layer.add("attended", Attention(float(factor)), queries, keys, values)
    o = layer.add("o", Linear(), attended, weights("o.weights", "wo", (dim, *own)))
    after = layer.add("hidden.attended", Add(), before, o)
    gain = weights("normed.feed_forward.gain", "feed_forward_norm")
    normed = layer.add("normed.feed_forward", norm, after, gain)
    gate, up, down = (weights(f"{name}.weights", name) for name in ("gate", "up", "down"))
    if config.n_experts:
        made = _experts(layer, config, after, normed, weights("router.weights", "router"), (gate, up, down))
    else:
        gated = layer.add("gated", SiluGate(), layer.add("gate", Linear(), normed, gate),
                          layer.add("up", Linear(), normed, up))  # fmt: skip
        made = layer.add("hidden.next", Add(), after, layer.add("down", Linear(), gated, down))
    layer.close(before, made)
    return made


def _experts(
    layer: Region, config: LlamaConfig, hidden: Tensor, normed: Tensor, router: Tensor, weights: tuple[Tensor, ...]
) -> Tensor:
    """The sparse mixture: each chosen expert's feed-forward, times its share, added to the hidden state."""
    gate, up, down = weights
    ranks = range(config.experts_per_token)
    names = (*(f"chosen.expert{rank}" for rank in ranks), *(f"share.expert{rank}" for rank in ranks))
    logits = layer.add("router", Linear(), normed, router)
    chosen = layer.add_several(names, TopExperts(config.experts_per_token, LOG2_E), logits)
    for rank in ranks:
        expert, share = chosen[rank], chosen[len(ranks) + rank]

        def linear(name: str, x: Tensor, weights: Tensor, rank: int = rank, expert: Tensor = expert) -> Tensor:
            return layer.add(f"{name}.expert{rank}", ExpertLinear(), x, weights, expert)

        gated = layer.add(f"gated.expert{rank}", SiluGate(), linear("gate", normed, gate), linear("up", normed, up),
                          share)  # fmt: skip
        name = "hidden.next" if expert is chosen[ranks[-1]] else f"hidden.expert{rank}"
        hidden = layer.add(name, Add(), hidden, linear("down", gated, down))
    return hidden


def side_by_side(config: LlamaConfig) -> np.ndarray:
    """Order of a head's components in which those that turn together are neighbours."""
    components = np.arange(config.head_dim)
    if config.rope_pairs == "interleaved":
        return components
    return components.reshape(2, -1).T.ravel()
