"""Where everything lies: the memory map of a Llama on one tile."""

from dataclasses import dataclass
from functools import cached_property

from lpu_isa.config import TileConfig
from lpu_sw.model import LlamaConfig

__all__ = ["DoesNotFit", "Layout", "largest_context"]

ROTARY_RADIX = 16
"""A position's angle is the sum of two table entries: position // 16 and position mod 16."""

MOST_CHOSEN = 2
"""Experts of a token: each takes three scalar registers."""


class DoesNotFit(ValueError):
    """A model that a tile cannot hold: which memory is short and by how much, and the largest context that fits."""


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class Layout:
    """Memory map for a model with a cache of ``context`` tokens.

    Heads are padded to ``head_words`` whole vectors: one where a head fits a vector, else whole activation blocks.
    Weight matrices lie block of inputs by block of inputs (see `asm.matrix.weight_words`); a layer's weights and its
    caches follow one another, layers have one stride.
    """

    tile: TileConfig
    model: LlamaConfig
    context: int

    # Vectors, groups of outputs and blocks of inputs.

    @property
    def dim_words(self) -> int:
        """Vectors of the residual stream, and groups of outputs as wide."""
        return ceil_div(self.model.dim, self.tile.rows)

    @property
    def dim_blocks(self) -> int:
        """Activation blocks of the residual stream."""
        return ceil_div(self.model.dim, self.tile.cols)

    @property
    def head_words(self) -> int:
        """Vectors of a head."""
        if self.model.head_dim <= self.tile.rows:
            return 1
        return ceil_div(self.model.head_dim, self.tile.cols) * self.tile.words_per_block

    @property
    def head_blocks(self) -> int:
        """Activation blocks of one head's query."""
        return ceil_div(self.head_words, self.tile.words_per_block)

    @property
    def heads_per_block(self) -> int:
        """Heads whose attention results share a block of the output matmul (1 where a head fills blocks)."""
        return self.tile.words_per_block if self.head_words == 1 else 1

    @property
    def attended_blocks(self) -> int:
        """Activation blocks of all heads' attention results."""
        return ceil_div(self.model.n_heads * self.head_words, self.tile.words_per_block)

    @property
    def kv_words(self) -> int:
        """Vectors (groups of outputs) of all keys, or all values."""
        return self.model.n_kv_heads * self.head_words

    @property
    def query_words(self) -> int:
        """Vectors (groups of outputs) of all queries."""
        return self.model.n_heads * self.head_words

    @property
    def qkv_groups(self) -> int:
        """Groups of outputs of the matrix of keys, queries and values, in this order."""
        return 2 * self.kv_words + self.query_words

    @property
    def hidden_words(self) -> int:
        """Vectors between gate/up and down."""
        return ceil_div(self.model.hidden_dim, self.tile.rows)

    @property
    def hidden_blocks(self) -> int:
        """Activation blocks between gate/up and down."""
        return ceil_div(self.hidden_words, self.tile.words_per_block)

    @property
    def router_words(self) -> int:
        """Vectors (groups of outputs) of the router: one, where there are experts."""
        return min(self.model.n_experts, 1)

    @property
    def vocab_groups(self) -> int:
        """Groups of outputs of the classifier."""
        return ceil_div(self.model.vocab_size, self.tile.rows)

    # Weight SRAM, counted from a layer's base unless it says otherwise.

    @property
    def key_groups(self) -> int:
        """Weight words of one block of one head's keys: ``rows`` tokens each."""
        return ceil_div(self.context, self.tile.rows)

    @property
    def value_steps(self) -> int:
        """Weight words of one vector of one head's values: ``cols`` tokens each."""
        return ceil_div(self.context, self.tile.cols)

    @property
    def feed_forwards(self) -> int:
        """Sets of gate, up and down that a layer has: one, or one for each expert."""
        return max(self.model.n_experts, 1)

    @cached_property
    def expert(self) -> dict[str, int]:
        """First word of gate, up and down from the first of them, and ``end``."""
        return _stack({
            "gate": self.dim_blocks * self.hidden_words,
            "up": self.dim_blocks * self.hidden_words,
            "down": self.hidden_blocks * self.dim_words,
        })  # fmt: skip

    @cached_property
    def layer(self) -> dict[str, int]:
        """First word of each region of a layer, and ``end``."""
        sizes = {
            "qkv": self.dim_blocks * self.qkv_groups,
            "o": self.attended_blocks * self.dim_words,
            "router": self.dim_blocks * self.router_words,
            "feed_forward": self.feed_forwards * self.expert["end"],
            "keys": self.model.n_kv_heads * self.head_blocks * self.key_groups,
            "values": self.kv_words * self.value_steps,
        }
        return _stack(sizes)

    @cached_property
    def weights(self) -> dict[str, int]:
        """Absolute first words: ``classifier``, ``embedding`` (the same when tied), ``layers``, and ``end``."""
        table = self.dim_blocks * self.vocab_groups
        sizes = {"classifier": table, "embedding": 0 if self.model.tied else table}
        at = _stack({**sizes, "layers": self.model.n_layers * self.layer["end"]})
        if self.model.tied:
            at["embedding"] = at["classifier"]
        return at

    # Scale SRAM.

    @cached_property
    def expert_scales(self) -> dict[str, int]:
        """First scale word of gate, up and down from the first of them, and ``end``."""
        return _stack({"gate": self.hidden_words, "up": self.hidden_words, "down": self.dim_words})

    @cached_property
    def layer_scales(self) -> dict[str, int]:
        """First scale word of each matrix of a layer, counted from the layer's base, and ``end``."""
        return _stack({
            "qkv": self.qkv_groups,
            "o": self.dim_words,
            "router": self.router_words,
            "feed_forward": self.feed_forwards * self.expert_scales["end"],
            "attended": self.model.n_heads,
        })  # fmt: skip

    @cached_property
    def scales(self) -> dict[str, int]:
        """Absolute first scale words; ``cos`` and ``sin`` are written for each token."""
        sizes = {
            "classifier": self.vocab_groups,
            "embedding": 0 if self.model.tied else self.vocab_groups,
            "cos": self.head_words,
            "sin": self.head_words,
            "layers": self.model.n_layers * self.layer_scales["end"],
        }
        at = _stack(sizes)
        if self.model.tied:
            at["embedding"] = at["classifier"]
        return at

    # Vector SRAM.

    @property
    def rotary_high(self) -> int:
        """Entries of the table of position // 16."""
        return ceil_div(self.context, ROTARY_RADIX)

    @cached_property
    def vectors(self) -> dict[str, int]:
        """First vector SRAM word of everything; rotary tables lie vector of the head by vector of the head."""
        return _stack({
            "hidden": self.dim_words,
            "final_gain": self.dim_words,
            "turned": self.kv_words + self.query_words,
            "swapped": self.kv_words + self.query_words,
            "gate": self.hidden_words,
            "silu": self.hidden_words,
            "high_cos": self.head_words * self.rotary_high,
            "high_sin": self.head_words * self.rotary_high,
            "low_cos": self.head_words * ROTARY_RADIX,
            "low_sin": self.head_words * ROTARY_RADIX,
            "product": 4 * self.head_words,
            "logits": self.vocab_groups,
            "router": self.router_words,
            "shares": self.router_words,
            "zero": self.router_words,
            "masks": self.model.n_experts,
        })  # fmt: skip

    # Activation buffer and accumulators.

    @cached_property
    def blocks(self) -> dict[str, int]:
        """First activation block of each use; the rest from ``ring`` on belongs to softmax numerators."""
        return _stack({
            "hidden": self.dim_blocks,
            "queries": self.model.n_heads * self.head_blocks,
            "attended": self.attended_blocks,
            "gated": self.hidden_blocks,
            "ring": 0,
        })  # fmt: skip

    @property
    def kept_accumulators(self) -> int:
        """First accumulator of those that a matmul walked over many operations keeps."""
        return self.tile.accumulators - self.dim_words

    @property
    def attended_accumulators(self) -> int:
        """First accumulator of two sets, in turn, for the results of the heads that share a block; below is a ring."""
        return self.kept_accumulators - 2 * self.heads_per_block * self.head_words

    def check(self) -> None:
        """Raise `DoesNotFit` naming the memory that is short, what it has and what is needed."""
        tile = self.tile
        if self.model.n_experts > tile.rows:
            raise DoesNotFit(f"the model has {self.model.n_experts} experts, the {tile.name} tile takes {tile.rows}")
        if self.model.experts_per_token > MOST_CHOSEN:
            raise DoesNotFit(
                f"a token goes through {self.model.experts_per_token} experts, the compiler takes {MOST_CHOSEN}"
            )
        for memory, need, have in (
            ("weight SRAM", self.weights["end"], tile.wmem_words),
            ("scale SRAM", self.scales["end"], tile.smem_words),
            ("vector SRAM", self.vectors["end"], tile.vmem_words),
            ("activation buffer", self.blocks["ring"] + self.value_steps, tile.act_blocks),
            (
                "accumulator bank",
                tile.accumulators - self.attended_accumulators + max(self.key_groups, self.qkv_groups),
                tile.accumulators,
            ),
        ):
            if need > have:
                raise DoesNotFit(
                    f"the {memory} of the {tile.name} tile is short by {need - have} words: a context of "
                    f"{self.context} tokens needs {need}, the tile has {have}"
                )


def _stack(sizes: dict[str, int]) -> dict[str, int]:
    at, places = 0, {}
    for name, size in sizes.items():
        places[name] = at
        at += size
    places["end"] = at
    return places


def largest_context(tile: TileConfig, model: LlamaConfig) -> int:
    """Most tokens of cache that fit the tile, at most the model's own context; 0 when not even one block fits.

    Contexts are whole numbers of activation blocks (``cols`` tokens), since a shorter one saves no memory.
    """
    for context in range(ceil_div(model.max_positions, tile.cols) * tile.cols, 0, -tile.cols):
        try:
            Layout(tile, model, context).check()
        except DoesNotFit:
            continue
        return min(context, model.max_positions)
    return 0
