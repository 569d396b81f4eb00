"""A matrix times a vector: matmuls into accumulators, whose scales the pass that takes them applies."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from lpu_isa.mxm import Base, Clear
from lpu_isa.vxm import Multiply, Source
from lpu_sw.graph.folded import ScaledExpertLinear, ScaledLinear
from lpu_sw.graph.graph import Graph, Node

from ..memory import KEPT, Demand, Memory, Sizes
from ..step import ALL, Part, Request, Step, label
from .rule import Rule, is_streamed

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["LinearRule"]


LONGEST_INTERVAL = 15
"""Cycles from a vector of a pass to the next, at most."""


class LinearRule(Rule):
    """Walked by block of inputs as these come, all outputs each; or part by part of the outputs, all inputs each."""

    operators: ClassVar = (ScaledLinear, ScaledExpertLinear)
    streams: ClassVar = frozenset({"x"})

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        x, weights, scale, *_ = node.inputs
        n_outputs = len(node.output.shape)
        experts = weights.shape[0] if isinstance(node.operator, ScaledExpertLinear) else 0
        vectors = sizes.vectors(node.output.shape)

        yield Demand(Memory.WEIGHTS, weights.name, sizes.blocks(x.shape) * vectors, weights, experts,
                     lambda index: sizes.matrix_words(weights.numbers[index], n_outputs))  # fmt: skip
        yield Demand(Memory.SCALES, scale.name, vectors, scale, experts,
                     lambda index: sizes.float_words(scale.numbers[index]))  # fmt: skip
        if is_streamed(graph, x):
            yield Demand(Memory.ACCUMULATORS, KEPT, vectors)

    def steps(self, lowering: "Lowering", node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        made = _Linear(lowering, node)
        every = range(lowering.sizes.blocks(node.inputs[0].shape))
        for blocks in lowering.blocks(node.inputs[0]):
            if isinstance(blocks, Step):
                yield blocks
            elif blocks == every:
                yield from made.by_outputs(request)
            else:
                yield made.block(blocks)
                if blocks.stop == every.stop:
                    yield made.part(label(node.output), 0, made.vectors, made.kept)


class _Linear:
    """One linear operator on its way to steps: what stays the same from matmul to matmul."""

    def __init__(self, lowering: "Lowering", node: Node) -> None:
        self._lowering, self._node = lowering, node
        x, weights, scale = node.inputs[:3]
        assert isinstance(node.operator, (ScaledLinear, ScaledExpertLinear))
        self.vectors = lowering.sizes.vectors(node.output.shape)
        self._n_blocks = lowering.sizes.blocks(x.shape)
        self._x, self._base = x, node.operator.base
        self._weights, weights_register = lowering.place(Memory.WEIGHTS, weights)
        self._scale, scale_register = lowering.place(Memory.SCALES, scale)
        expert = node.input("expert") if isinstance(node.operator, ScaledExpertLinear) else None
        if expert is not None:
            weights_register, _, scale_register = lowering.expert(expert)
        self._weights_register, self._scale_register = weights_register, scale_register

    @property
    def kept(self) -> int:
        """First of the accumulators of a matmul that goes on block by block."""
        return self._lowering.layout.place(Memory.ACCUMULATORS, KEPT).address

    def block(self, blocks: range) -> Step:
        """Some blocks of inputs, all outputs, added to those before."""
        name = f"{label(self._node.output)} block {blocks.start}"
        return self._lowering.mxm(
            name, inner=self.vectors, outer=len(blocks), weights=self._weights + blocks.start * self.vectors,
            weights_reg=self._weights_register, weights_inner=1, weights_outer=self.vectors,
            act=self._lowering.read_blocks(self._x, blocks.start, len(blocks)), act_outer=1, acc=self.kept, acc_inner=1,
            clear=Clear.NEVER if blocks.start else Clear.OUTER, base=Base.IMMEDIATE, exponent=self._base,
        )  # fmt: skip

    def by_outputs(self, request: Request) -> Iterator[Step | Part]:
        """All blocks of inputs, for some outputs at a time."""
        wanted = request.vectors or self.vectors
        chunk = request.chunk or wanted
        for first in range(0, wanted, chunk):
            count = min(chunk, wanted - first)
            name = label(self._node.output) + (f" {first}" if chunk < wanted else "")
            is_summed = self._n_blocks > 1 and not request.one_by_one
            accumulators = self._lowering.accumulators(count, is_summed=is_summed)
            if request.one_by_one:
                walk = {"inner": self._n_blocks, "outer": count, "weights_inner": self.vectors, "weights_outer": 1,
                        "act_inner": 1, "acc_outer": 1, "clear": Clear.INNER}  # fmt: skip
            else:
                walk = {"inner": count, "outer": self._n_blocks, "weights_inner": 1, "weights_outer": self.vectors,
                        "act_outer": 1, "acc_inner": 1, "clear": Clear.OUTER}  # fmt: skip
            yield self._lowering.mxm(
                name, weights=self._weights + first, weights_reg=self._weights_register,
                act=self._lowering.read_blocks(self._x, 0, self._n_blocks),
                acc=accumulators, base=Base.IMMEDIATE, exponent=self._base, **walk,
            )  # fmt: skip
            part = self.part(name, first, count, accumulators)
            if request.one_by_one:
                # The pass goes along with the matmul, a vector as each is finished.
                interval = min(self._n_blocks, LONGEST_INTERVAL)
                part = replace(part, fields={**part.fields, "interval": interval})
            yield part

    def part(self, name: str, first: int, count: int, accumulators: int) -> Part:
        """What a pass makes of the accumulators of some outputs."""
        fields = {"source": Source.ACC, "x": accumulators, "multiply": Multiply.C, "c": self._scale + first,
                  "c_reg": self._scale_register}  # fmt: skip
        return Part(name, "scaled", first, count, fields, self._lowering.factor(self._node))
