"""A Llama's token as operations in the order of their meaning: position, prologue, one layer, classifier.

The layer's operations are the same for every layer; scalar registers hold the layer's bases. RMSNorm's factor is
applied after the matmul that follows it (it is a scalar), gains and constants are folded into weights and row scales:

* queries carry log2(e) / sqrt(head_dim) and the key's static scale, so scores go straight into exp2;
* keys and values are divided by their static scale, the attention result is multiplied by the value's;
* sqrt(dim) of the norm's mean is folded into row scales and the final gain, dim * epsilon starts the sum of squares.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np

from lpu_isa.fields import Operation
from lpu_isa.formats import BLOCK_EXPONENT_OFFSET, EXPONENT_BIAS
from lpu_isa.icu import IcuOp
from lpu_isa.mxm import TRACKERS, Base, Clear, MxmOp
from lpu_isa.sxm import SxmOp
from lpu_isa.tables import Function
from lpu_isa.vxm import Add, Gain, Multiply, Quantise, Reduce, Source, VxmOp, Write

from .layout import ROTARY_RADIX, Layout, ceil_div

__all__ = ["Lowering", "Register", "Step", "immediate_base", "kind_of"]

BASE_BELOW_RANGE = 4
"""An immediate base code lies that many binades below the largest code seen: 14 + 4 - 8 fraction bits remain exact for
blocks 14 binades smaller, and blocks up to 16 times larger than any seen still fit the headroom of 8."""


class Register(IntEnum):
    """Scalar registers of the program."""

    ZERO = 0
    POSITION = 1
    FORCED = 2  # positions whose token comes from the inbox
    LIMIT = 3  # positions to run
    SAMPLED = 4  # 1: the host chooses every token
    STOP = 5  # token that ends the run
    EPSILON = 6  # dim * epsilon, a float
    TOKEN = 7
    BEST = 8  # the largest logit
    GROUPS = 9  # ceil(tokens / rows)
    STEPS = 10  # ceil(tokens / cols)
    LANES = 11  # valid lanes of the last group
    LAYER = 12  # weight words of the layer
    SCALES = 13  # scale words of the layer
    KEY = 14  # LAYER plus the group of the position
    VALUE = 15  # LAYER plus the step of the position
    ATTENTION_SUM = 16
    ATTENTION_NORM = 17
    FEED_FORWARD_SUM = 18
    FEED_FORWARD_NORM = 19
    TOKEN_GROUP = 20
    TOKEN_SCALE = 21
    ROTARY_HIGH = 22
    ROTARY_LOW = 23
    HEAD = 24  # .. 31: softmax sums, then their reciprocals; between positions free


HEAD_REGISTERS = 32 - Register.HEAD


@dataclass(frozen=True)
class Step:
    """One bundle's worth of operations and its name, such as ``head 3 scores``."""

    name: str
    operations: dict[str, Operation]


def kind_of(name: str) -> str:
    """A step's name without what it counts: ``head 3 scores`` is of the kind ``head scores``."""
    return " ".join(re.sub(r"\d+", "", name).split())


@dataclass(frozen=True)
class FeedForward:
    """One gate, up and down: name in front of its steps, and the registers that hold its bases and its share.

    share : weight of an expert, a float; 0 for a feed-forward that is not one of several. While experts are being
        chosen, ``weights`` holds the expert's number and ``share`` its logit.
    """

    name: str
    weights: int
    scales: int
    share: int


DENSE = FeedForward("", Register.LAYER, Register.SCALES, Register.ZERO)


def _log2(value: int) -> int:
    return value.bit_length() - 1


def immediate_base(magnitude: float) -> int:
    """Base code of accumulators for blocks whose largest magnitude is about this."""
    exponent = int(np.floor(np.log2(magnitude))) if magnitude > 0 else -EXPONENT_BIAS
    return max(1, exponent + EXPONENT_BIAS - BLOCK_EXPONENT_OFFSET - BASE_BELOW_RANGE)


class Lowering:
    """Turns a layout into steps.

    magnitudes : largest magnitude of each kind of activation block (`memories.block_magnitudes`).
    n_valid : int
        Tokens that may be emitted; later rows of the classifier are padding.
    """

    def __init__(self, layout: Layout, magnitudes: Mapping[str, float], n_valid: int) -> None:
        self.layout = layout
        self.n_valid = n_valid
        tile = layout.tile
        self._limit = layout.context
        self._ring_accumulator = 0
        self._ring_block = layout.blocks["ring"]
        self.rows_log2, self.cols_log2 = _log2(tile.rows), _log2(tile.cols)
        self.base = {name: immediate_base(magnitude) for name, magnitude in magnitudes.items()}
        # The chunk of outputs that gate, up and down are walked by: large enough to hide the pass behind it.
        self.chunk = tile.words_per_block * max(1, ceil_div(4, tile.words_per_block))

    # Allocation

    def _accumulators(self, count: int) -> int:
        if self._ring_accumulator + count > self.layout.attended_accumulators:
            self._ring_accumulator = 0
        start = self._ring_accumulator
        self._ring_accumulator += count
        return start

    def _numerators(self) -> int:
        count = ceil_div(self._limit, self.layout.tile.cols)
        if self._ring_block + count > self.layout.tile.act_blocks:
            self._ring_block = self.layout.blocks["ring"]
        start = self._ring_block
        self._ring_block += count
        return start

    # Operations

    def _icu(self, name: str, op: IcuOp, **fields: int) -> Step:
        return Step(name, {"icu": Operation("icu", {"op": op, **fields})})

    def _pass(self, name: str, switch: Mapping[str, int] | None = None, **fields: int) -> Step:
        operations = {"vxm": Operation("vxm", {"op": VxmOp.PASS, **fields})}
        if switch:
            operations["sxm"] = Operation("sxm", dict(switch))
        return Step(name, operations)

    def _matmul(
        self, name: str, matrix: int, groups: int, first: int, count: int, blocks: range, act: int, acc: int, base: int,
        register: int = Register.LAYER, add: bool = False,
    ) -> Step:  # fmt: skip
        """Groups ``first .. first + count`` of a matrix of ``groups``, walked block of inputs by block of inputs.

        ``act`` is the place of block 0; with ``add`` the accumulators go on from what they hold.
        """
        return Step(name, {"mxm": Operation("mxm", {
            "op": MxmOp.MATMUL, "inner": count, "outer": len(blocks),
            "weights": matrix + blocks.start * groups + first, "weights_reg": register,
            "weights_inner": 1, "weights_outer": groups,
            "act": act + blocks.start, "act_outer": 1, "acc": acc, "acc_inner": 1,
            "clear": Clear.NEVER if add else Clear.OUTER, "base": Base.IMMEDIATE, "exponent": base,
        })})  # fmt: skip

    # Pieces

    def prologue(self) -> Iterator[Step]:
        """From the token and what `position` made to the first layer's activations and the angles of the position."""
        layout, at, r = self.layout, self.layout.vectors, Register
        yield self._icu("token group", IcuOp.SHR, rd=r.TOKEN_GROUP, rs=r.TOKEN, imm=self.rows_log2)
        yield self._icu("token scale", IcuOp.SLANE, rd=r.TOKEN_SCALE, rs=r.TOKEN_GROUP, rt=r.TOKEN,
                        imm=layout.scales["embedding"])  # fmt: skip
        yield from self._embedding()
        # cos(a + b) = cos a cos b - sin a sin b; sin(a + b) = sin a cos b + cos a sin b. The sines carry the sign of
        # their lane (minus on even lanes), which cancels in the first and stays in the second.
        n = layout.head_words
        for product, high, low in (
            (0, "high_sin", "low_sin"),
            (1, "high_cos", "low_cos"),
            (2, "high_sin", "low_cos"),
            (3, "high_cos", "low_sin"),
        ):
            yield self._pass(
                f"{high} * {low}", count=n, source=Source.VMEM, x=at[high], x_reg=r.ROTARY_HIGH,
                x_step=layout.rotary_high, multiply=Multiply.B, b=at[low], b_reg=r.ROTARY_LOW, b_step=ROTARY_RADIX,
                write=Write.VMEM, d=at["product"] + product * n,
            )  # fmt: skip
        for name, first, second, add in (("cos", 1, 0, Add.MINUS_B), ("sin", 2, 3, Add.B)):
            yield self._pass(
                name, count=n, source=Source.VMEM, x=at["product"] + first * n, add=add,
                b=at["product"] + second * n, write=Write.SMEM, d=layout.scales[name],
            )  # fmt: skip

    def position(self, bucket: int, row: int, limits: Sequence[int]) -> Iterator[Step]:
        """Everything that follows from the position alone: counts, bases, and the row of timing memory.

        bucket : positions that share a row. row : words from one row to the next. limits : first positions of the
        bodies but the first one, put into the registers behind `Register.HEAD`, which itself holds the row.
        """
        layout, r = self.layout, Register
        yield self._icu("bucket", IcuOp.SHR, rd=r.HEAD, rs=r.POSITION, imm=_log2(bucket))
        yield self._icu("row", IcuOp.SHL, rd=r.HEAD, rs=r.HEAD, imm=_log2(row))
        for k, limit in enumerate(limits):
            yield self._icu("limit of a body", IcuOp.LI, rd=r.HEAD + 1 + k, imm=limit)
        yield self._icu("rotary high", IcuOp.SHR, rd=r.ROTARY_HIGH, rs=r.POSITION, imm=_log2(ROTARY_RADIX))
        yield self._icu("rotary low", IcuOp.ANDI, rd=r.ROTARY_LOW, rs=r.POSITION, imm=ROTARY_RADIX - 1)
        yield self._icu("group of the position", IcuOp.SHR, rd=r.GROUPS, rs=r.POSITION, imm=self.rows_log2)
        yield self._icu("key base", IcuOp.ADDI, rd=r.KEY, rs=r.GROUPS, imm=layout.weights["layers"])
        yield self._icu("groups", IcuOp.ADDI, rd=r.GROUPS, rs=r.GROUPS, imm=1)
        yield self._icu("step of the position", IcuOp.SHR, rd=r.STEPS, rs=r.POSITION, imm=self.cols_log2)
        yield self._icu("value base", IcuOp.ADDI, rd=r.VALUE, rs=r.STEPS, imm=layout.weights["layers"])
        yield self._icu("steps", IcuOp.ADDI, rd=r.STEPS, rs=r.STEPS, imm=1)
        yield self._icu("lane of the position", IcuOp.ANDI, rd=r.LANES, rs=r.POSITION, imm=layout.tile.rows - 1)
        yield self._icu("lanes", IcuOp.ADDI, rd=r.LANES, rs=r.LANES, imm=1)
        yield self._icu("layer base", IcuOp.LI, rd=r.LAYER, imm=layout.weights["layers"])
        yield self._icu("scale base", IcuOp.LI, rd=r.SCALES, imm=layout.scales["layers"])

    def _embedding(self) -> Iterator[Step]:
        """The token's row of the embedding, times its scale: hidden state, its blocks and its sum of squares."""
        layout, r = self.layout, Register
        per_block = layout.tile.words_per_block
        # One pass where the stride from block to block fits its field; else a pass a block, chaining the sum.
        whole = layout.vocab_groups < 128
        for first in range(0, layout.dim_words, layout.dim_words if whole else per_block):
            count = min(layout.dim_words - first, layout.dim_words if whole else per_block)
            block = first // per_block
            yield self._pass(
                "embedding", count=count, source=Source.WMEM,
                x=layout.weights["embedding"] + block * layout.vocab_groups, x_reg=r.TOKEN_GROUP,
                x_step=layout.vocab_groups if whole else 0, row_reg=r.TOKEN,
                multiply=Multiply.SCALAR, multiply_reg=r.TOKEN_SCALE, write=Write.VMEM,
                d=layout.vectors["hidden"] + first, quantise=Quantise.ACT, q=layout.blocks["hidden"] + block,
                reduce=Reduce.SUM_SQUARES, reduce_reg=r.ATTENTION_SUM,
                start_reg=r.ATTENTION_SUM if first else r.EPSILON,
            )  # fmt: skip

    def layer(self, limit: int) -> Iterator[Step]:
        """One layer, from blocks of the hidden state to blocks of the next one, for positions below ``limit``."""
        self._limit, self._ring_accumulator, self._ring_block = limit, 0, self.layout.blocks["ring"]
        yield from self._projections()
        yield from self._attention()
        yield self._residual("o", Register.FEED_FORWARD_SUM)
        yield self._icu("feed-forward norm", IcuOp.FUNCTION, rd=Register.FEED_FORWARD_NORM,
                        rs=Register.FEED_FORWARD_SUM, function=Function.RSQRT)  # fmt: skip
        if self.layout.model.n_experts:
            yield from self._route()
            for chosen in range(self.layout.model.experts_per_token):
                if chosen:
                    yield self._residual_of_expert(chosen - 1)
                yield from self._feed_forward(self._chosen(chosen))
        else:
            yield from self._feed_forward(DENSE)
        r, layout = Register, self.layout
        for register in (r.LAYER, r.KEY, r.VALUE):
            yield self._icu(f"next {register.name.lower()}", IcuOp.ADDI, rd=register, rs=register,
                            imm=layout.layer["end"])  # fmt: skip
        yield self.last_of_layer()
        yield self._icu("next scales", IcuOp.ADDI, rd=r.SCALES, rs=r.SCALES, imm=layout.layer_scales["end"])

    def last_of_layer(self) -> Step:
        """The pass that ends a layer, from which the next one starts."""
        n_chosen = self.layout.model.experts_per_token
        scales = self._chosen(n_chosen - 1).scales if n_chosen else Register.SCALES
        return self._residual("down", Register.ATTENTION_SUM, scales)

    def _chosen(self, rank: int) -> FeedForward:
        """Registers of the best expert (rank 0), the second and so on."""
        first = Register.HEAD + 3 * rank
        return FeedForward(f"expert {rank} ", first, first + 2, first + 1)

    def _residual_of_expert(self, rank: int) -> Step:
        """What an expert adds to the hidden state; its blocks stay, since the next expert takes the same inputs."""
        return self._added_to_hidden(f"expert {rank} residual", "down", self._chosen(rank).scales)

    def _scale_place(self, matrix: str) -> int:
        """First scale word of a matrix, from its layer's or expert's base."""
        layout = self.layout
        if matrix in layout.expert_scales:
            return layout.layer_scales["feed_forward"] + layout.expert_scales[matrix]
        return layout.layer_scales[matrix]

    def _multiple(self, name: str, rd: int, index: int, factor: int, base: int) -> Iterator[Step]:
        """rd = base + index * factor, by shifts and additions."""
        part = Register.HEAD + 7
        for bit in range(factor.bit_length()):
            if factor >> bit & 1:
                yield self._icu(f"{name} times {1 << bit}", IcuOp.SHL, rd=part, rs=index, imm=bit)
                yield self._icu(f"{name} place", IcuOp.ADD, rd=rd, rs=base, rt=part)
                base = rd

    def _route(self) -> Iterator[Step]:
        """The experts of the token, the largest logit first, their places and their shares.

        Logits are exponents of two. A chosen expert's logit is masked before the next is chosen; its share is
        2 ** (logit - largest), over the sum of the shares chosen.
        """
        layout, r, at, model = self.layout, Register, self.layout.vectors, self.layout.model
        chosen = [self._chosen(rank) for rank in range(model.experts_per_token)]
        total = r.HEAD + 6
        acc = self._accumulators(1)
        yield self._matmul("router", layout.layer["router"], 1, 0, 1, range(layout.dim_blocks),
                           layout.blocks["hidden"], acc, self.base["hidden"])  # fmt: skip
        yield self._pass(
            "router logits", source=Source.ACC, x=acc, lanes=model.n_experts, multiply=Multiply.C,
            c=layout.layer_scales["router"], c_reg=r.SCALES, gain=Gain.SCALAR, gain_reg=r.FEED_FORWARD_NORM,
            write=Write.VMEM, d=at["router"], reduce=Reduce.ARGMAX, reduce_reg=chosen[0].weights,
        )  # fmt: skip
        yield self._pass(
            "shares", source=Source.VMEM, x=at["router"], lanes=model.n_experts, add=Add.MINUS_SCALAR,
            add_reg=chosen[0].share, function=Function.EXP2, write=Write.VMEM, d=at["shares"],
        )  # fmt: skip
        for before, expert in pairwise(chosen):
            yield self._pass(
                f"{expert.name}choice", source=Source.VMEM, x=at["router"], lanes=model.n_experts, add=Add.B,
                b=at["masks"], b_reg=before.weights, write=Write.VMEM, d=at["router"], reduce=Reduce.ARGMAX,
                reduce_reg=expert.weights,
            )  # fmt: skip
        for rank, expert in enumerate(chosen):
            yield self._icu(f"{expert.name}share", IcuOp.VLANE, rd=expert.share, rs=r.ZERO, rt=expert.weights,
                            imm=at["shares"])  # fmt: skip
            yield self._pass(
                f"{expert.name}sum", source=Source.VMEM, x=at["zero"], lanes=1, add=Add.SCALAR, add_reg=expert.share,
                reduce=Reduce.SUM, reduce_reg=total, start_reg=total if rank else r.ZERO,
            )  # fmt: skip
        yield self._icu("shares' norm", IcuOp.FUNCTION, rd=total, rs=total, function=Function.RECIPROCAL)
        for expert in chosen:
            yield self._pass(
                f"{expert.name}weight", source=Source.VMEM, x=at["zero"], lanes=1, add=Add.SCALAR,
                add_reg=expert.share, gain=Gain.SCALAR, gain_reg=total, reduce=Reduce.SUM, reduce_reg=expert.share,
            )  # fmt: skip
        for expert in chosen:
            yield from self._multiple(f"{expert.name}scales", expert.scales, expert.weights,
                                      layout.expert_scales["end"], r.SCALES)  # fmt: skip
            yield self._icu(f"{expert.name}index", IcuOp.ADDI, rd=total, rs=expert.weights, imm=0)
            yield from self._multiple(f"{expert.name}weights", expert.weights, total, layout.expert["end"], r.LAYER)

    def _residual(self, matrix: str, sum_register: int, scales: int = Register.SCALES) -> Step:
        """The hidden state with what a matmul adds to it: its blocks and its sum of squares as well."""
        return self._added_to_hidden(
            f"{matrix} residual", matrix, scales, quantise=Quantise.ACT, q=self.layout.blocks["hidden"],
            reduce=Reduce.SUM_SQUARES, reduce_reg=sum_register, start_reg=Register.EPSILON,
        )  # fmt: skip

    def _added_to_hidden(self, name: str, matrix: str, scales: int, **more: int) -> Step:
        layout = self.layout
        return self._pass(
            name, None, count=layout.dim_words, source=Source.ACC, x=layout.kept_accumulators, multiply=Multiply.C,
            c=self._scale_place(matrix), c_reg=scales, add=Add.B, b=layout.vectors["hidden"], write=Write.VMEM,
            d=layout.vectors["hidden"], **more,
        )  # fmt: skip

    def _projections(self) -> Iterator[Step]:
        """Keys, queries and values, rotated and quantised; keys and values into their caches."""
        layout, r, at = self.layout, Register, self.layout.vectors
        yield self._icu("attention norm", IcuOp.FUNCTION, rd=r.ATTENTION_NORM, rs=r.ATTENTION_SUM,
                        function=Function.RSQRT)  # fmt: skip
        acc = self._accumulators(layout.qkv_groups)
        # Keys first and queries in chunks, so that the first head's rotation hides behind the rest of the matmul.
        whole_heads = max(self.chunk // layout.head_words, 1) * layout.head_words
        queries = range(layout.kv_words, layout.kv_words + layout.query_words, whole_heads)
        parts = [("keys", 0, layout.kv_words)]
        parts += [(f"queries {i}", first, min(whole_heads, layout.kv_words + layout.query_words - first))
                  for i, first in enumerate(queries)]  # fmt: skip
        values = layout.kv_words + layout.query_words
        for name, first, count in [*parts, ("values", values, layout.kv_words)]:
            yield self._matmul(name, layout.layer["qkv"], layout.qkv_groups, first, count, range(layout.dim_blocks),
                               layout.blocks["hidden"], acc + first, self.base["hidden"])  # fmt: skip
        for name, first, count in parts:
            yield self._pass(
                f"{name} scaled", count=count, source=Source.ACC, x=acc + first, multiply=Multiply.C,
                c=layout.layer_scales["qkv"] + first, c_reg=r.SCALES, gain=Gain.SCALAR, gain_reg=r.ATTENTION_NORM,
                write=Write.VMEM, d=at["turned"] + first,
            )  # fmt: skip
            # Lanes of one vector share their angles with all heads; a head of several vectors takes a pass for itself.
            n = count if layout.head_words == 1 else layout.head_words
            for word in range(first, first + count, n):
                angles = {"c_step": 0 if layout.head_words == 1 else 1}
                yield self._pass(
                    f"{name} swapped", {"op": SxmOp.EXCHANGE, "amount": 1}, count=n, source=Source.SXM,
                    x=at["turned"] + word, multiply=Multiply.C, c=layout.scales["sin"], write=Write.VMEM,
                    d=at["swapped"] + word, **angles,
                )  # fmt: skip
                block = min(layout.head_words, layout.tile.words_per_block)
                if name == "keys":
                    target = {"quantise": Quantise.ROW, "q_reg": r.KEY, "q_step": layout.key_groups,
                              "q": layout.layer["keys"] + word // block * layout.key_groups,
                              "index_reg": r.POSITION}  # fmt: skip
                else:
                    query = (word - layout.kv_words) // block
                    target = {"quantise": Quantise.ACT, "q": layout.blocks["queries"] + query}
                yield self._pass(
                    f"{name} turned", count=n, source=Source.VMEM, x=at["turned"] + word, multiply=Multiply.C,
                    c=layout.scales["cos"], add=Add.B, b=at["swapped"] + word, block=block, **angles, **target,
                )  # fmt: skip
        yield self._pass(
            "values scaled", count=layout.kv_words, source=Source.ACC, x=acc + values, multiply=Multiply.C,
            c=layout.layer_scales["qkv"] + values, c_reg=r.SCALES, gain=Gain.SCALAR, gain_reg=r.ATTENTION_NORM,
            quantise=Quantise.COLUMN, q=layout.layer["values"], q_reg=r.VALUE, q_step=layout.value_steps,
            index_reg=r.POSITION,
        )  # fmt: skip

    def _attention(self) -> Iterator[Step]:
        """Softmax attention in one pass a head, and the output matmul block by block as heads finish."""
        layout, r, model = self.layout, Register, self.layout.model
        shared = model.n_heads // model.n_kv_heads
        for first in range(0, model.n_heads, layout.heads_per_block):
            heads = range(first, min(first + layout.heads_per_block, model.n_heads))
            # The results of heads that share a block lie side by side, so that one pass takes them.
            turn = first // layout.heads_per_block % 2
            attended = layout.attended_accumulators + turn * layout.heads_per_block * layout.head_words
            for head in heads:
                kv_head, norm = head // shared, r.HEAD + head % HEAD_REGISTERS
                tracker = 1 + head % (TRACKERS - 1)  # tracker 0 is everybody else's
                scores = self._accumulators(ceil_div(self._limit, layout.tile.rows))
                yield Step(f"head {head} scores", {"mxm": Operation("mxm", {
                    "op": MxmOp.MATMUL, "inner": layout.head_blocks, "outer": 0, "outer_reg": r.GROUPS,
                    "weights": layout.layer["keys"] + kv_head * layout.head_blocks * layout.key_groups,
                    "weights_reg": r.LAYER, "weights_inner": layout.key_groups, "weights_outer": 1,
                    "act": layout.blocks["queries"] + head * layout.head_blocks, "act_inner": 1,
                    "acc": scores, "acc_outer": 1, "clear": Clear.INNER, "exponent": self.base["queries"],
                })})  # fmt: skip
                numerators = self._numerators()
                yield self._pass(
                    f"head {head} exponentials", count=0, count_reg=r.GROUPS, lanes=0, lanes_reg=r.LANES,
                    source=Source.ACC, x=scores, function=Function.EXP2, reduce=Reduce.SUM, reduce_reg=norm,
                    quantise=Quantise.ACT, q=numerators, tracker=tracker,
                )  # fmt: skip
                yield self._icu(f"head {head} norm", IcuOp.FUNCTION, rd=norm, rs=norm, function=Function.RECIPROCAL)
                acc = attended + (head - first) * layout.head_words
                yield Step(f"head {head} values", {"mxm": Operation("mxm", {
                    "op": MxmOp.MATMUL, "inner": 0, "inner_reg": r.STEPS, "outer": layout.head_words,
                    "weights": layout.layer["values"] + kv_head * layout.head_words * layout.value_steps,
                    "weights_reg": r.LAYER, "weights_inner": 1, "weights_outer": layout.value_steps,
                    "act": numerators, "act_inner": 1, "acc": acc, "acc_outer": 1,
                    "clear": Clear.INNER, "base": Base.TRACKER, "tracker": tracker,
                })})  # fmt: skip
            several = layout.head_words == 1
            block = first * layout.head_words // layout.tile.words_per_block
            count = len(heads) * layout.head_words
            yield self._pass(
                f"head {first} attended", count=count, source=Source.ACC, x=attended, multiply=Multiply.C,
                c=layout.layer_scales["attended"] + first, c_reg=r.SCALES, c_step=1 if several else 0,
                gain=Gain.SCALAR, gain_reg=r.HEAD + first % HEAD_REGISTERS, gain_step=int(several),
                quantise=Quantise.ACT, q=layout.blocks["attended"] + block,
            )  # fmt: skip
            blocks = range(block, block + ceil_div(count, layout.tile.words_per_block))
            yield self._matmul(
                f"o block {block}", layout.layer["o"], layout.dim_words, 0, layout.dim_words, blocks,
                layout.blocks["attended"], layout.kept_accumulators, self.base["attended"], add=first > 0,
            )  # fmt: skip

    def _feed_forward(self, to: FeedForward) -> Iterator[Step]:
        """SwiGLU: gate first, so that silu hides behind the matmul of up; down block by block as up goes on."""
        layout, r, at = self.layout, Register, self.layout.vectors
        share = {"gain": Gain.SCALAR, "gain_reg": to.share} if to.share else {}

        def place(matrix: str) -> int:
            return layout.layer["feed_forward"] + layout.expert[matrix]

        chunks = [range(i, min(i + self.chunk, layout.hidden_words)) for i in range(0, layout.hidden_words, self.chunk)]

        def matmul(matrix: str, chunk: range, acc: int) -> Step:
            return self._matmul(f"{to.name}{matrix} {chunk.start}", place(matrix), layout.hidden_words, chunk.start,
                                len(chunk), range(layout.dim_blocks), layout.blocks["hidden"], acc,
                                self.base["hidden"], to.weights)  # fmt: skip

        for chunk in chunks:
            n, i = len(chunk), chunk.start
            acc = self._accumulators(n)
            yield matmul("gate", chunk, acc)
            yield self._pass(
                f"{to.name}gate {i} scaled", count=n, source=Source.ACC, x=acc, multiply=Multiply.C,
                c=self._scale_place("gate") + i, c_reg=to.scales, gain=Gain.SCALAR, gain_reg=r.FEED_FORWARD_NORM,
                write=Write.VMEM, d=at["gate"] + i,
            )  # fmt: skip
            yield self._pass(
                f"{to.name}gate {i} silu", count=n, source=Source.VMEM, x=at["gate"] + i, function=Function.SIGMOID,
                gain=Gain.SELF, write=Write.VMEM, d=at["silu"] + i,
            )  # fmt: skip
            # The factor of up's norm, which up's own pass has no multiplier left for.
            yield self._pass(
                f"{to.name}gate {i} normed", count=n, source=Source.VMEM, x=at["silu"] + i, multiply=Multiply.SCALAR,
                multiply_reg=r.FEED_FORWARD_NORM, **share, write=Write.VMEM, d=at["gate"] + i,
            )  # fmt: skip
        for chunk in chunks:
            n, i = len(chunk), chunk.start
            acc = self._accumulators(n)
            yield matmul("up", chunk, acc)
            block = i // layout.tile.words_per_block
            yield self._pass(
                f"{to.name}up {i} gated", count=n, source=Source.ACC, x=acc, multiply=Multiply.C,
                c=self._scale_place("up") + i, c_reg=to.scales, gain=Gain.B, b=at["gate"] + i,
                quantise=Quantise.ACT, q=layout.blocks["gated"] + block,
            )  # fmt: skip
            blocks = range(block, block + ceil_div(n, layout.tile.words_per_block))
            yield self._matmul(
                f"{to.name}down block {block}", place("down"), layout.dim_words, 0, layout.dim_words, blocks,
                layout.blocks["gated"], layout.kept_accumulators, self.base["gated"], to.weights, add=i > 0,
            )  # fmt: skip

    def classifier(self) -> Iterator[Step]:
        """Final norm, logits into vector SRAM, and the likeliest token."""
        layout, r, at = self.layout, Register, self.layout.vectors
        tile, blocks = layout.tile, range(layout.dim_blocks)
        yield self._icu("final norm", IcuOp.FUNCTION, rd=r.ATTENTION_NORM, rs=r.ATTENTION_SUM, function=Function.RSQRT)
        yield self._pass(
            "final gain", count=layout.dim_words, source=Source.VMEM, x=at["hidden"], multiply=Multiply.B,
            b=at["final_gain"], quantise=Quantise.ACT, q=layout.blocks["hidden"],
        )  # fmt: skip
        groups = ceil_div(self.n_valid, tile.rows)
        lanes = self.n_valid - (groups - 1) * tile.rows
        # All logits in one pass where the bank holds them; else piece by piece, and the largest from vector SRAM.
        piece = groups if groups <= tile.accumulators else layout.attended_accumulators // 2
        for first in range(0, groups, piece):
            n = min(piece, groups - first)
            acc = 0 if piece == groups else self._accumulators(n)
            yield Step(f"logits {first}", {"mxm": Operation("mxm", {
                "op": MxmOp.MATMUL, "inner": len(blocks), "outer": n, "weights": layout.weights["classifier"] + first,
                "weights_inner": layout.vocab_groups, "weights_outer": 1, "act": layout.blocks["hidden"],
                "act_inner": 1, "acc": acc, "acc_outer": 1, "clear": Clear.INNER, "exponent": self.base["final"],
            })})  # fmt: skip
            last = first + n == groups
            largest = {"reduce": Reduce.ARGMAX, "reduce_reg": r.TOKEN} if piece == groups else {}
            yield self._pass(
                f"logits {first} scaled", count=n, interval=min(len(blocks), 15), lanes=lanes if last else tile.rows,
                source=Source.ACC, x=acc, multiply=Multiply.C, c=layout.scales["classifier"] + first,
                gain=Gain.SCALAR, gain_reg=r.ATTENTION_NORM, write=Write.VMEM, d=at["logits"] + first, **largest,
            )  # fmt: skip
        if piece != groups:
            yield self._pass(
                "largest logit", count=groups, lanes=lanes, source=Source.VMEM, x=at["logits"],
                reduce=Reduce.ARGMAX, reduce_reg=r.TOKEN,
            )  # fmt: skip
