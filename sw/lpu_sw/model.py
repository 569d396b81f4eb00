"""The model in memory: a Llama's (or Mixtral's) sizes and float32 weights, checked once, whatever the file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

__all__ = ["LlamaConfig", "LlamaLayer", "LlamaModel", "ModelError", "layer_shapes", "model_shapes", "split_heads"]


class ModelError(ValueError):
    """A checkpoint that cannot be used. The text says in one line what was found and what was expected."""


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Sizes and constants of a Llama: RMSNorm, rotary embedding, grouped-query attention, SwiGLU.

    dim                     Width of the residual stream.
    hidden_dim              Width between gate/up and down.
    n_heads, n_kv_heads     Query heads, and the key/value heads that they share evenly.
    head_dim                Width of a head; even, since the rotary embedding turns pairs.
    vocab_size              Rows of the embedding and of the classifier, padding included.
    max_positions           Longest context, in tokens.
    rope_theta              Base of the rotary frequencies.
    norm_epsilon            Added to the mean square in RMSNorm.
    rope_pairs              Which two components of a head turn together: ``interleaved`` (2i, 2i + 1) as in
                            llama2.c, or ``half`` (i, i + head_dim / 2) as in Hugging Face.
    tied                    Whether the classifier is the embedding.
    bos_id                  Token in front of every text, or None.
    stop_ids                Tokens that end a text; the first is the one that the training data ended with.
    n_experts               Experts of a sparse mixture (Mixtral), each with its own gate, up and down; 0: a Llama.
    experts_per_token       Experts that a token goes through: those with the largest router logits, the lowest index
                            of equals, weighted by the softmax of these logits.

    Raises ModelError for sizes that no Llama can have.
    """

    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5
    rope_pairs: Literal["interleaved", "half"] = "interleaved"
    tied: bool = True
    bos_id: int | None = 1
    stop_ids: tuple[int, ...] = (2,)
    n_experts: int = 0
    experts_per_token: int = 0

    def __post_init__(self) -> None:
        for name in (
            "dim",
            "hidden_dim",
            "n_layers",
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "vocab_size",
            "max_positions",
        ):
            if getattr(self, name) < 1:
                raise ModelError(f"impossible sizes: {name} must be at least 1, not {getattr(self, name)}")
        if self.n_heads % self.n_kv_heads:
            raise ModelError(
                f"impossible sizes: {self.n_heads} heads cannot share {self.n_kv_heads} key/value heads evenly"
            )
        if self.head_dim % 2:
            raise ModelError(
                f"impossible sizes: the head size must be even for the rotary embedding, not {self.head_dim}"
            )
        if self.n_experts < 0 or not min(self.n_experts, 1) <= self.experts_per_token <= self.n_experts:
            raise ModelError(
                f"impossible sizes: a token cannot go through {self.experts_per_token} of {self.n_experts} experts"
            )
        for name in ("rope_theta", "norm_epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise ModelError(f"{name} must be positive and finite, not {getattr(self, name)}")
        for token in (*self.stop_ids, *([] if self.bos_id is None else [self.bos_id])):
            if not 0 <= token < self.vocab_size:
                raise ModelError(f"special token {token} is outside the vocabulary of {self.vocab_size}")

    @property
    def query_dim(self) -> int:
        """Width of all query heads together."""
        return self.n_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of all key (or value) heads together."""
        return self.n_kv_heads * self.head_dim


def split_heads(dim: int, n_heads: int) -> int:
    """Head size of a model whose file does not state one. Raises ModelError unless it is a whole number."""
    if dim < 1 or n_heads < 1 or dim % n_heads:
        raise ModelError(f"impossible sizes: dim {dim} cannot be split into {n_heads} heads")
    return dim // n_heads


def layer_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of one layer's tensors, matrices as (out, in), by the names of LlamaLayer's fields.

    Experts lie behind one another: gate, up and down have their number as another dimension in front.
    """
    dim, hidden, query, kv = config.dim, config.hidden_dim, config.query_dim, config.kv_dim
    experts = (config.n_experts,) if config.n_experts else ()
    shapes: dict[str, tuple[int, ...]] = {
        "attention_norm": (dim,),
        "wq": (query, dim),
        "wk": (kv, dim),
        "wv": (kv, dim),
        "wo": (dim, query),
        "feed_forward_norm": (dim,),
        "gate": (*experts, hidden, dim),
        "up": (*experts, hidden, dim),
        "down": (*experts, dim, hidden),
    }
    if experts:
        shapes["router"] = (*experts, dim)
    return shapes


def model_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors outside the layers; a tied model has no classifier of its own."""
    shapes: dict[str, tuple[int, ...]] = {"embedding": (config.vocab_size, config.dim), "final_norm": (config.dim,)}
    if not config.tied:
        shapes["classifier"] = (config.vocab_size, config.dim)
    return shapes


@dataclasses.dataclass(frozen=True, eq=False)
class LlamaLayer:
    """Weights of one layer, float32, matrices as (out, in); shapes in ``layer_shapes``. Only experts have a router."""

    attention_norm: np.ndarray
    wq: np.ndarray
    wk: np.ndarray
    wv: np.ndarray
    wo: np.ndarray
    feed_forward_norm: np.ndarray
    gate: np.ndarray
    up: np.ndarray
    down: np.ndarray
    router: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class LlamaModel:
    """A whole Llama. ``classifier`` is the very array ``embedding`` when the two are tied."""

    config: LlamaConfig
    embedding: np.ndarray
    layers: tuple[LlamaLayer, ...]
    final_norm: np.ndarray
    classifier: np.ndarray

    @classmethod
    def from_tensors(
        cls, config: LlamaConfig, tensors: Mapping[str, np.ndarray], spelling: Callable[[str], str] = str
    ) -> LlamaModel:
        """Check tensors against the config and put them in their places.

        tensors: float32 arrays by the file's names; ``spelling`` turns ours (``embedding``, ``layers.0.wq``)
        into those. Raises ModelError for missing tensors (all of them), a wrong shape or dtype, a NaN or infinity.
        """
        shapes = dict(model_shapes(config))
        for layer in range(config.n_layers):
            shapes |= {f"layers.{layer}.{name}": shape for name, shape in layer_shapes(config).items()}
        missing = [spelling(name) for name in shapes if spelling(name) not in tensors]
        if missing:
            raise ModelError(f"missing tensors: {', '.join(missing)}")
        checked = {
            name: _check_tensor(spelling(name), tensors[spelling(name)], shape) for name, shape in shapes.items()
        }
        layers = tuple(
            LlamaLayer(**{name: checked[f"layers.{layer}.{name}"] for name in layer_shapes(config)})
            for layer in range(config.n_layers)
        )
        classifier = checked["embedding" if config.tied else "classifier"]
        return cls(config, checked["embedding"], layers, checked["final_norm"], classifier)


def _check_tensor(name: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if tensor.dtype != np.float32:
        raise ModelError(f"tensor {name} is {tensor.dtype}, expected float32")
    if tensor.shape != shape:
        raise ModelError(f"tensor {name} has shape {tensor.shape}, expected {shape}")
    finite = np.isfinite(tensor)
    if not finite.all():
        place = tuple(np.argwhere(~finite)[0].tolist())
        kinds = ("expert", "row", "column")[-len(place) :] if len(place) > 1 else ("index",)
        where = ", ".join(f"{kind} {index}" for kind, index in zip(kinds, place, strict=True))
        raise ModelError(f"tensor {name} holds {tensor[place]} at {where}, expected finite numbers")
    return np.ascontiguousarray(tensor, np.float32)
