"""Llama in float32 NumPy: the arithmetic of the model's authors, without any of the tile's.

Source: Touvron et al., "LLaMA" (2023); grouped-query attention: Ainslie et al. (2023); rotary embedding: Su et al.
(2021); sparse mixture of experts: Jiang et al., "Mixtral of Experts" (2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lpu_sw.heldout import cross_entropy
from lpu_sw.model import LlamaConfig, LlamaLayer, LlamaModel
from lpu_sw.sampling import portable_exp

__all__ = ["FloatLlama", "Observer", "greedy", "ignore", "next_token_losses"]

Observer = Callable[[str, int, np.ndarray], None]
"""Takes what a forward pass makes on its way: name, layer and values."""

Exp = Callable[[np.ndarray], np.ndarray]


def ignore(name: str, layer: int, values: np.ndarray) -> None:
    """Observer of nothing."""


class FloatLlama:
    """Forward pass with a KV cache. ``position`` counts the tokens seen.

    observe(name, layer, values): called with what the forward pass makes on its way, tokens first: ``hidden`` (before
    each norm; layer ``n_layers`` is the last), ``queries``, ``keys``, ``values``, ``attended`` and ``gated``
    (with experts: those of a layer one after the other, each over the tokens that chose it, times their weight).
    is_portable : the same bits whatever the processor and the threads of NumPy's BLAS, for a few tokens at a time:
    each product is kept until it is summed.
    """

    def __init__(self, model: LlamaModel, observe: Observer = ignore, *, is_portable: bool = False) -> None:
        self.model = model
        self._observe = observe
        self._product, self._exp = (ordered_product, portable_exp32) if is_portable else (blas_product, np.exp)
        self.position = 0
        config = model.config
        self._cos, self._sin = rotary_tables(config)
        cache_shape = (config.n_layers, config.n_kv_heads, config.max_positions, config.head_dim)
        self._keys = np.zeros(cache_shape, np.float32)
        self._values = np.zeros(cache_shape, np.float32)

    def step(self, token: int) -> np.ndarray:
        """Take the next token; float32 logits (vocab,) for the one after it."""
        return self.forward([token])[0]

    @np.errstate(over="ignore", invalid="ignore")  # what overflows is found where it ends up
    def forward(self, tokens: Sequence[int]) -> np.ndarray:
        """Take the next n tokens at once; float32 logits (n, vocab), row i for the token after the i-th.

        Raises ValueError when a token is outside the vocabulary, the context is full, or a number exceeds float32.
        """
        config, end = self.model.config, self.position + len(tokens)
        if end > config.max_positions:
            raise ValueError(f"{end} tokens do not fit into the context of {config.max_positions}")
        for token in tokens:
            if not 0 <= token < config.vocab_size:
                raise ValueError(f"token {token} is outside the vocabulary of {config.vocab_size}")
        hidden = self.model.embedding[list(tokens)]
        for index, layer in enumerate(self.model.layers):
            self._observe("hidden", index, hidden)
            normed = rms_norm(hidden, layer.attention_norm, config.norm_epsilon)
            attended = self._attend(index, layer, normed)
            self._observe("attended", index, attended)
            hidden = hidden + self._product(attended, layer.wo)
            self._observe("hidden", index, hidden)
            normed = rms_norm(hidden, layer.feed_forward_norm, config.norm_epsilon)
            hidden = hidden + self._feed_forward(index, layer, normed)
        self._observe("hidden", config.n_layers, hidden)
        self.position = end
        normed = rms_norm(hidden, self.model.final_norm, config.norm_epsilon)
        return _finite(self._product(normed, self.model.classifier), "a logit")

    def _attend(self, index: int, layer: LlamaLayer, normed: np.ndarray) -> np.ndarray:
        """Attention of n new tokens over the cache and themselves: (n, dim) -> (n, query_dim)."""
        config, n = self.model.config, len(normed)
        start, end = self.position, self.position + n
        keys, values = self._keys[index, :, :end], self._values[index, :, :end]
        product = self._product
        queries = self._rotate(product(normed, layer.wq).reshape(n, config.n_heads, config.head_dim))
        keys[:, start:] = self._rotate(product(normed, layer.wk).reshape(n, config.n_kv_heads, -1)).swapaxes(0, 1)
        values[:, start:] = product(normed, layer.wv).reshape(n, config.n_kv_heads, -1).swapaxes(0, 1)
        self._observe("queries", index, queries)
        self._observe("keys", index, keys[:, start:].swapaxes(0, 1))
        self._observe("values", index, values[:, start:].swapaxes(0, 1))

        # (kv heads, query heads that share one, n, head_dim) against (kv heads, 1, end, head_dim)
        grouped = queries.swapaxes(0, 1).reshape(config.n_kv_heads, -1, n, config.head_dim)
        scores = product(grouped, keys[:, None]) / np.float32(np.sqrt(config.head_dim))
        is_later = np.arange(end) > np.arange(start, end)[:, None]
        weights = softmax(np.where(is_later, np.float32(-np.inf), scores), self._exp)
        attended = product(weights, values[:, None].swapaxes(-1, -2))
        return attended.reshape(config.n_heads, n, -1).swapaxes(0, 1).reshape(n, -1)

    def _feed_forward(self, index: int, layer: LlamaLayer, normed: np.ndarray) -> np.ndarray:
        """SwiGLU of n tokens, or the weighted sum of each token's experts: (n, dim) -> (n, dim)."""
        product = self._product
        if layer.router is None:
            gated = silu(product(normed, layer.gate), self._exp) * product(normed, layer.up)
            self._observe("gated", index, gated)
            return product(gated, layer.down)
        logits = product(normed, layer.router)
        chosen, weights = choose_experts(logits, self.model.config.experts_per_token, self._exp)
        mixed = np.zeros_like(normed)
        for expert in np.unique(chosen):
            tokens, rank = np.nonzero(chosen == expert)
            inputs = normed[tokens]
            gated = silu(product(inputs, layer.gate[expert]), self._exp) * product(inputs, layer.up[expert])
            gated *= weights[tokens, rank, None]
            self._observe("gated", index, gated)
            mixed[tokens] += product(gated, layer.down[expert])
        return mixed

    def _rotate(self, heads: np.ndarray) -> np.ndarray:
        """Turn each pair of components by its position's angle. heads: (n, heads, head_dim)."""
        places = slice(self.position, self.position + len(heads))
        cos, sin = self._cos[places, None], self._sin[places, None]
        first, second = pair_components(self.model.config)
        turned = np.empty_like(heads)
        turned[..., first] = heads[..., first] * cos - heads[..., second] * sin
        turned[..., second] = heads[..., first] * sin + heads[..., second] * cos
        return turned


def blas_product(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Each of the last axis of ``values`` (..., n, k) times each of ``rows`` (..., m, k), summed: (..., n, m)."""
    return values @ rows.swapaxes(-1, -2)


def ordered_product(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The same in NumPy's own order of additions, in which neither threads nor vector registers have a part."""
    return (values[..., :, None, :] * rows[..., None, :, :]).sum(-1)


def portable_exp32(values: np.ndarray) -> np.ndarray:
    """`portable_exp` of float32."""
    return portable_exp(values.astype(np.float64)).astype(np.float32)


def choose_experts(logits: np.ndarray, n_chosen: int, exp: Exp = np.exp) -> tuple[np.ndarray, np.ndarray]:
    """Experts of each token, the best first (of equals the lowest), and their weights; logits (n, experts).

    The weights, softmax over the chosen logits, are those of a softmax over all experts divided by their sum.
    Returns int (n, n_chosen) and float (n, n_chosen).
    """
    chosen = np.argsort(-logits, axis=-1, kind="stable")[:, :n_chosen]
    return chosen, softmax(np.take_along_axis(logits, chosen, axis=-1), exp)


def pair_components(config: LlamaConfig) -> tuple[slice, slice]:
    """Components of a head that turn together: the first and the second of every pair."""
    if config.rope_pairs == "interleaved":
        return slice(0, None, 2), slice(1, None, 2)
    return slice(0, config.head_dim // 2), slice(config.head_dim // 2, None)


def rotary_tables(config: LlamaConfig) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of position * rope_theta ** (-2 i / head_dim): float32 (max_positions, head_dim / 2) each."""
    frequencies = config.rope_theta ** (-np.arange(0, config.head_dim, 2) / config.head_dim)
    angles = np.outer(np.arange(config.max_positions), frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rms_norm(hidden: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    """Divide by the root mean square over the last axis, then scale. Raises ValueError when that is not finite."""
    mean_square = _finite(np.mean(hidden * hidden, axis=-1, keepdims=True), "the mean square of a layer's input")
    return hidden / np.sqrt(mean_square + np.float32(epsilon)) * weight


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError(f"{what} is beyond {values.dtype}: the model's weights are too large")
    return values


def silu(values: np.ndarray, exp: Exp = np.exp) -> np.ndarray:
    """x / (1 + exp(-x)); exp may overflow to infinity, which gives the right 0."""
    with np.errstate(over="ignore"):
        return values / (1 + exp(-values))


def softmax(scores: np.ndarray, exp: Exp = np.exp) -> np.ndarray:
    """Softmax over the last axis."""
    exponentials = exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def greedy(model: LlamaModel, prompt: Sequence[int], n_tokens: int, n_valid: int | None = None) -> list[int]:
    """Continue a prompt with the likeliest token each time, the lowest id of equals.

    n_valid: ids from here on are padding and are not chosen. Returns at most ``n_tokens`` ids, fewer when a stop id
    (the last one then) or the end of the context comes first.
    """
    llama, tokens = FloatLlama(model), []
    n_tokens = min(n_tokens, model.config.max_positions - len(prompt) + 1)
    logits = llama.forward(prompt)[-1]
    while len(tokens) < n_tokens:
        tokens.append(int(np.argmax(logits[:n_valid])))
        if tokens[-1] in model.config.stop_ids or len(tokens) == n_tokens:
            break
        logits = llama.step(tokens[-1])
    return tokens


def next_token_losses(model: LlamaModel, tokens: Sequence[int]) -> np.ndarray:
    """Loss in nats of each token but the first, given those before it: float64 (n - 1,), all in one pass."""
    return cross_entropy(FloatLlama(model).forward(tokens[:-1]), np.array(tokens[1:]))
