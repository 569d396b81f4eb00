"""A Llama with the tile's numbers but without its program: plain matrices, heads and lists of tokens.

It says what the compiled program must compute, bit for bit: the same roundings in the same order, but no addresses, no
registers, no cycles and no layout. Where the float model stands for the model's authors, this stands for the number
formats in `lpu_isa.formats`.
"""

from collections.abc import Mapping

import numpy as np

from lpu_isa.config import TileConfig
from lpu_isa.formats import FloatFormat
from lpu_isa.tables import Function
from lpu_sw.compiler.calibrate import Ranges, block_magnitudes, query_factor, static_scales
from lpu_sw.compiler.quantise import immediate_base, quantise_rows
from lpu_sw.frontends.language_graph import LOG2_E
from lpu_sw.model import LlamaModel
from lpu_sw.reference.llama import Observer, ignore, pair_components
from lpu_sw.sim.arithmetic import Arithmetic, align, quantise_block, quantise_static

__all__ = ["QuantisedLlama"]

ROTARY_RADIX = 16
"""A position's angle is the sum of the angles of ``position // 16 * 16`` and ``position % 16``."""


class QuantisedLlama:
    """One token at a time, with a cache. ``tile`` gives significand, lanes of a vector and size of a block.

    observe : called with every token's ``hidden`` (1, dim), as that of `FloatLlama`.
    """

    def __init__(
        self,
        model: LlamaModel,
        tile: TileConfig,
        ranges: Ranges,
        n_valid: int | None = None,
        observe: Observer = ignore,
    ) -> None:
        self._observe = observe
        self.config = config = model.config
        self.tile = tile
        self.n_valid = config.vocab_size if n_valid is None else n_valid
        self.arithmetic = Arithmetic(FloatFormat(tile.significand_bits))
        self._base = {name: immediate_base(size) for name, size in block_magnitudes(model.config, ranges).items()}
        round_ = self._round = self.arithmetic.format.round
        self._epsilon = float(round_(np.array(config.dim * config.norm_epsilon)))
        root = np.sqrt(config.dim)
        # A classifier of its own takes the final norm's gain; the embedding cannot.
        gain = 1.0 if config.tied else model.final_norm
        self._classifier, scale = quantise_rows(model.classifier * gain)
        self._classifier_scale = round_(scale * (1.0 if config.tied else root))
        self._embedding, scale = quantise_rows(model.embedding)
        self._embedding_scale = round_(scale)
        self._final_gain = round_(model.final_norm.astype(np.float64) * root)
        shared, head = config.n_heads // config.n_kv_heads, config.head_dim
        per_query = np.repeat(query_factor(ranges, head), shared, axis=1)
        keys, values = static_scales(ranges.keys), static_scales(ranges.values)
        self._value_scale = round_(np.repeat(values, shared, axis=1))
        self._layers: list[Mapping[str, tuple[np.ndarray, np.ndarray]]] = []
        for i, layer in enumerate(model.layers):
            gain, gain2 = layer.attention_norm, layer.feed_forward_norm
            matrices = {
                "k": (layer.wk * gain, root * np.repeat(1 / keys[i], head)),
                "q": (layer.wq * gain, root * np.repeat(per_query[i], head)),
                "v": (layer.wv * gain, root * np.repeat(1 / values[i], head)),
                "o": (self._spread_heads(layer.wo), 1.0),
            }
            if layer.router is not None:
                matrices["router"] = (layer.router * gain2, root * LOG2_E)
            experts = zip(*(w.reshape(-1, *w.shape[-2:]) for w in (layer.gate, layer.up, layer.down)), strict=True)
            for number, (gate, up, down) in enumerate(experts):
                matrices |= {
                    f"gate {number}": (gate * gain2, root),
                    f"up {number}": (up * gain2, root),
                    f"down {number}": (down, 1.0),
                }
            rounded = {name: (*quantise_rows(weights), factor) for name, (weights, factor) in matrices.items()}
            self._layers.append({name: (q.astype(np.float64), round_(s * f)) for name, (q, s, f) in rounded.items()})
        self._first, self._second = pair_components(config)
        self._frequency = config.rope_theta ** (-np.arange(0, head, 2) / head)
        self._keys: list[list[np.ndarray]] = [[] for _ in model.layers]
        self._values: list[list[np.ndarray]] = [[] for _ in model.layers]
        self.position = 0

    # Numbers

    def _times(self, a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
        return self.arithmetic.multiply(a, np.asarray(b)).values

    def _plus(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.arithmetic.add(a, b).values

    def _vectors(self, x: np.ndarray) -> np.ndarray:
        """x in vectors of the tile's lanes, zero padded: (vectors, rows)."""
        return np.append(x, np.zeros(-len(x) % self.tile.rows)).reshape(-1, self.tile.rows)

    def _sum(self, x: np.ndarray, start: float = 0.0) -> float:
        return self.arithmetic.reduce_sum(start, self._vectors(x))[0]

    def _scalar(self, function: Function, x: float) -> float:
        return float(self.arithmetic.function(function, np.array([x])).values[0])

    def _norm(self, x: np.ndarray) -> float:
        return self._scalar(Function.RSQRT, self._sum(self._times(x, x), self._epsilon))

    def _matmul(self, weights: np.ndarray, x: np.ndarray, size: int, base: int | None = None) -> np.ndarray:
        """weights (out, in) of int8 times x (in,), quantised in blocks of ``size``; base None: the largest code."""
        out, padding = len(weights), -len(x) % size
        blocks, codes = quantise_block(np.append(x, np.zeros(padding)).reshape(-1, size))
        split = np.pad(weights, ((0, 0), (0, padding))).reshape(out, -1, size)
        sums = np.einsum("obi,bi->bo", split, blocks)
        base = int(codes.max()) if base is None else base
        return self.arithmetic.convert(align(sums, codes, base).sum(axis=0), base).values

    # The model

    def step(self, token: int) -> np.ndarray:
        """Take the next token; logits (n_valid,) for the one after it, float64."""
        cols = self.tile.cols
        x = self._times(self._embedding[token].astype(np.float64), self._embedding_scale[token])
        cos, sin = self._angles()
        for i, layer in enumerate(self._layers):
            self._observe("hidden", i, x[None])
            norm = self._norm(x)

            def projected(name: str, x=x, layer=layer, norm=norm) -> np.ndarray:
                weights, scale = layer[name]
                sums = self._matmul(weights, x, cols, self._base["hidden"])
                return self._times(self._times(sums, scale), norm)

            heads = (-1, self.config.head_dim)
            keys, queries = (self._turn(projected(name).reshape(heads), cos, sin) for name in "kq")
            self._keys[i].append(quantise_static(keys)[0])
            self._values[i].append(quantise_static(projected("v").reshape(heads))[0])
            x = self._residual(x, self._attend(i, queries), layer["o"], self._attended_block(), "attended")
            self._observe("hidden", i, x[None])
            norm = self._norm(x)
            inputs = x
            for number, share in self._route(projected("router", x, layer, norm)) if "router" in layer else [(0, None)]:
                gate = projected(f"gate {number}", inputs, layer, norm)
                up, up_scale = layer[f"up {number}"]
                silu = self._times(gate, self.arithmetic.function(Function.SIGMOID, gate).values)
                normed = self._times(silu, norm)
                normed = normed if share is None else self._times(normed, share)
                up = self._times(self._matmul(up, inputs, cols, self._base["hidden"]), up_scale)
                x = self._residual(x, self._times(up, normed), layer[f"down {number}"], cols, "gated")
        self._observe("hidden", self.config.n_layers, x[None])
        self.position += 1
        final, base = (self._times(x, self._final_gain), "final") if self.config.tied else (x, "hidden")
        sums = self._matmul(self._classifier, final, cols, self._base[base])
        return self._times(self._times(sums, self._classifier_scale), self._norm(x))[: self.n_valid]

    def _route(self, logits: np.ndarray) -> list[tuple[int, float]]:
        """Numbers of the token's experts, the best first, and their shares; logits as exponents of two."""
        chosen = np.argsort(-logits, kind="stable")[: self.config.experts_per_token]
        numerators = self.arithmetic.function(Function.EXP2, self._plus(logits, -logits[chosen[:1]])).values[chosen]
        total = 0.0
        for numerator in numerators:
            total = self._sum(np.array([numerator]), total)
        norm = self._scalar(Function.RECIPROCAL, total)
        return [(int(n), float(self._times(numerators[i : i + 1], norm)[0])) for i, n in enumerate(chosen)]

    def _residual(self, x: np.ndarray, y: np.ndarray, matrix: tuple[np.ndarray, np.ndarray], size: int, base: str):
        weights, scale = matrix
        return self._plus(self._times(self._matmul(weights, y, size, self._base[base]), scale), x)

    def _attended_block(self) -> int:
        """Attention results that share a block: whole heads where a head fits a vector."""
        rows, cols, head = self.tile.rows, self.tile.cols, self.config.head_dim
        return cols // rows * head if head <= rows else cols

    def _attend(self, i: int, queries: np.ndarray) -> np.ndarray:
        keys, values = np.array(self._keys[i]), np.array(self._values[i])
        shared = self.config.n_heads // self.config.n_kv_heads
        size = self.tile.rows if self.config.head_dim <= self.tile.rows else self.tile.cols
        attended = []
        for head, query in enumerate(queries):
            kv_head = head // shared
            scores = self._matmul(keys[:, kv_head], query, size, self._base["queries"])
            numerators = self.arithmetic.function(Function.EXP2, scores).values
            norm = self._scalar(Function.RECIPROCAL, self._sum(numerators))
            sums = self._matmul(values[:, kv_head].T, numerators, self.tile.cols)
            attended.append(self._times(self._times(sums, self._value_scale[i, head]), norm))
        return self._spread_heads(np.concatenate(attended))

    def _spread_heads(self, x: np.ndarray) -> np.ndarray:
        """A head that needs more than a vector fills whole blocks: zeros behind each, along the last axis."""
        head = self.config.head_dim
        if head <= self.tile.rows:
            return x
        heads = x.reshape(*x.shape[:-1], -1, head)
        padding = [(0, 0)] * (heads.ndim - 1) + [(0, -head % self.tile.cols)]
        return np.pad(heads, padding).reshape(*x.shape[:-1], -1)

    def _turn(self, heads: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        a, b = heads[:, self._first], heads[:, self._second]
        turned = np.empty_like(heads)  # pairs side by side, as the tile keeps them: it matters to the blocks
        turned[:, 0::2] = self._plus(self._times(a, cos), self._times(b, -sin))
        turned[:, 1::2] = self._plus(self._times(b, cos), self._times(a, sin))
        return turned

    def _angles(self) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin of the position, by the sum of two angles from tables."""
        high = self.position // ROTARY_RADIX * ROTARY_RADIX * self._frequency
        low = self.position % ROTARY_RADIX * self._frequency
        ch, sh, cl, sl = (self._round(f(x)) for x in (high, low) for f in (np.cos, np.sin))
        cos = self._plus(self._times(ch, cl), -self._times(sh, sl))
        sin = self._plus(self._times(sh, cl), self._times(ch, sl))
        return cos, sin
