"""The token's row of the embedding, read out of weight SRAM as a vector."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.icu import IcuOp
from lpu_isa.vxm import Multiply, Source
from lpu_sw.graph.folded import QuantisedEmbedding
from lpu_sw.graph.graph import Graph, Node

from ..memory import Demand, Memory, Sizes, ceil_div
from ..registers import Register
from ..step import ALL, Part, Request, Step, label
from .rule import Rule

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["EmbeddingRule"]


LARGEST_STRIDE = 128
"""Strides of a pass lie below."""


class EmbeddingRule(Rule):
    """One pass where the stride from block to block fits its field; else a pass a block."""

    operators: ClassVar = (QuantisedEmbedding,)

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        _, table, scale = node.inputs
        groups = ceil_div(table.shape[0], sizes.tile.rows)
        words = ceil_div(table.shape[1], sizes.tile.cols) * groups
        yield Demand(Memory.WEIGHTS, table.name, words, table,
                     contents=lambda _: sizes.matrix_words(table.numbers, 1))  # fmt: skip
        yield Demand(Memory.SCALES, scale.name, groups, scale, contents=lambda _: sizes.float_words(scale.numbers))
        yield Demand(Memory.VECTORS, node.output.kind, sizes.vectors(node.output.shape))

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        token, table, scale = node.inputs
        tile, vectors = lowering.tile, lowering.sizes.vectors(node.output.shape)
        yield lowering.icu("token group", IcuOp.SHR, rd=Register.TOKEN_GROUP, rs=Register.TOKEN,
                           imm=tile.rows.bit_length() - 1)  # fmt: skip
        yield lowering.icu("token scale", IcuOp.SLANE, rd=Register.TOKEN_SCALE, rs=Register.TOKEN_GROUP,
                           rt=Register.TOKEN, imm=lowering.place(Memory.SCALES, scale).address)  # fmt: skip
        groups = ceil_div(table.shape[0], tile.rows)
        whole = groups < LARGEST_STRIDE
        chunk = vectors if whole else tile.words_per_block
        for first in range(0, vectors, chunk):
            fields = {
                "source": Source.WMEM,
                "x": lowering.place(Memory.WEIGHTS, table).address + first // tile.words_per_block * groups,
                "x_reg": Register.TOKEN_GROUP, "x_step": groups if whole else 0, "row_reg": Register.TOKEN,
                "multiply": Multiply.SCALAR, "multiply_reg": Register.TOKEN_SCALE,
            }  # fmt: skip
            yield Part(label(node.output), "read", first, min(vectors - first, chunk), fields)
