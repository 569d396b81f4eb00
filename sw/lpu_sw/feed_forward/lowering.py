"""From integer operators to operations of the tile, a rule an operator.

An image lies in vector SRAM as floats that hold integers: ``q = clamp(stored + offset)``. The clamp is left to the
quantiser, which makes blocks of integers when a matrix operation wants them; where else it is needed, `held` makes it.
Rounding to nearest even is an addition of 1.5 * 2**(p - 1), p bits of significand, which leaves no bits for a fraction:
the constant stays in the stored value, and the offset takes it away.

Constants that all lanes or all pixels share are single words, read again and again with a step of 0.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpu_isa.config import TileConfig
from lpu_isa.fields import Operation
from lpu_isa.formats import QUANTISED_MAX, QUANTISED_MIN, FloatFormat
from lpu_isa.icu import IcuOp
from lpu_isa.mxm import COUNT_BITS, MxmOp
from lpu_isa.vxm import Add, Multiply, Reduce, Source, VxmOp, Write
from lpu_sw.compiler.memory import RING, Memory, Stretch, ceil_div, check_room, check_summed
from lpu_sw.compiler.space import Space
from lpu_sw.compiler.step import Step
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.operator import Operator
from lpu_sw.graph.tensor import Tensor

from .places import Area, ImageShape

__all__ = ["POSTED", "Lowering", "Rule", "Stored"]

POSTED = 1
"""Register whose contents are posted in the end: the index of the largest channel; 0 for an image of several pixels."""

_LOADED = (Memory.WEIGHTS, Memory.SCALES, Memory.VECTORS)
"""Memories that hold something before the program runs."""

_MOST_VECTORS = (1 << COUNT_BITS) - 1


@dataclass(frozen=True)
class Stored:
    """An image in vector SRAM, with ``q = clamp(stored + offset)``; ``is_low``: it is never below -128 anyhow."""

    area: Area
    offset: float
    is_low: bool = False

    @property
    def image(self) -> ImageShape:
        """Its shape."""
        return self.area.image


class Lowering:
    """Operations in the order of their meaning, and where everything lies.

    steps : the operations. spaces : words of the memories, images and constants. stored : the tensors of the graph.
    made : the result, as integers; valid when the graph has been lowered.
    """

    made: Area

    def __init__(self, tile: TileConfig, graph: Graph, rules: Mapping[type[Operator], "Rule"]) -> None:
        self.tile = tile
        self.steps: list[Step] = []
        self.format = FloatFormat(tile.significand_bits)
        self.rounder = 1.5 * 2.0 ** (tile.significand_bits - 1)
        self.spaces = {memory: Space(memory.depth(tile)) for memory in _LOADED}
        self._contents: dict[Memory, list[np.ndarray]] = {memory: [] for memory in _LOADED}
        self.stored: dict[Tensor, Stored] = {}
        self._rules = rules
        self._graph = graph
        self._constants: dict[tuple[Memory, bytes], int] = {}
        self._held: dict[Tensor, Area] = {}
        self._accumulator = 0
        self._upper_act = False
        self._name = ""

    # The walk over the graph.

    def lower(self, given: Tensor) -> None:
        """Lower every node of the last region; ``given``: what the host leaves for the first ones.

        Raises `DoesNotFit` naming the memory that is short.
        """
        self.stored[given] = Stored(self._area(given.name, given), 0.0, True)
        nodes = self._graph.regions[-1].nodes
        (result,) = self._graph.results
        last = {tensor: node for node in nodes for tensor in node.inputs if tensor.data is None}
        for node in nodes:
            self._name = node.name
            self._rules[type(node.operator)](self, node)
            for tensor in dict.fromkeys(node.inputs):
                if last.get(tensor) is node and tensor is not result:
                    self._give_back(tensor)
        self._name = "result"
        self.made = self._finish(result)
        for memory, space in self.spaces.items():
            check_room(memory, self.tile, space.need, f"the network at {space.highest}" if space.end else "the network")

    def _give_back(self, tensor: Tensor) -> None:
        vectors = self.spaces[Memory.VECTORS]
        if self._graph.maker(tensor) in self._graph.regions[-1].nodes:
            vectors.give_back(tensor.name)  # not the input: the host writes the next one where the last one was
        if tensor in self._held:
            vectors.give_back(_clamped(tensor))

    def _finish(self, result: Tensor) -> Area:
        """The result as integers; of a single pixel also the index of its largest channel, in register `POSTED`."""
        held, shape = self.held(result), self.stored[result].image
        area = self._area(f"{result.name}, integers", result)
        if shape.height == shape.width == 1:
            count, lanes = ceil_div(shape.channels, self.tile.rows), self.last_lanes(shape)
            self.negate(held.first, area.first, count, QUANTISED_MAX, "integers", lanes=lanes,
                        reduce=Reduce.ARGMAX, reduce_reg=POSTED)  # fmt: skip
        else:
            self.negate(held.first, area.first, shape.size, QUANTISED_MAX, "integers")
        return area

    # Places.

    def store(self, node: Node, offset: float, is_low: bool = False) -> Stored:
        """Room for what a node makes."""
        made = Stored(self._area(node.name, node.output), offset, is_low)
        self.stored[node.output] = made
        return made

    def _area(self, name: str, tensor: Tensor) -> Area:
        image = ImageShape.of(self.tile, tensor.shape)
        return Area(self.spaces[Memory.VECTORS].take(name, image.size), image)

    def vector_word(self, values: np.ndarray | float) -> int:
        """A word of vector SRAM with these lanes (rows,), or with one number in all of them."""
        return self._lanes(Memory.VECTORS, values)

    def scale_word(self, values: np.ndarray | float) -> int:
        """The same in scale SRAM."""
        return self._lanes(Memory.SCALES, values)

    def _lanes(self, memory: Memory, values: np.ndarray | float) -> int:
        return self._constant(memory, self.format.round(np.broadcast_to(values, (1, self.tile.rows))))

    def _constant(self, memory: Memory, words: np.ndarray) -> int:
        """The first of some words that are there from the start; equal ones are kept once."""
        key = memory, words.tobytes()
        if key not in self._constants:
            self._constants[key] = self.spaces[memory].keep(self._name, len(words))
            self._contents[memory].append(words)
        return self._constants[key]

    def weight_run(self, words: np.ndarray) -> tuple[int, int]:
        """First word and step of weights int8 (n, rows, cols); equal runs, and equal words of a run, are one."""
        if (words == words[0]).all():
            words = words[:1]
        return self._constant(Memory.WEIGHTS, words), int(len(words) > 1)

    def contents(self, memory: Memory) -> np.ndarray:
        """A memory's start contents, from its first kept word on: int8 (words, rows, cols) or float64 (words, rows)."""
        tile = self.tile
        nothing = np.zeros((0, tile.rows, tile.cols), np.int8) if memory is Memory.WEIGHTS else np.zeros((0, tile.rows))
        return np.concatenate([nothing, *reversed(self._contents[memory])])

    def stretches(self) -> Iterator[Stretch]:
        """The memory map, memory by memory in rising order."""
        for memory, space in self.spaces.items():
            yield from space.stretches(memory, "images, one after another")
        for memory in (Memory.BLOCKS, Memory.ACCUMULATORS):
            yield Stretch(memory, RING, 0, memory.depth(self.tile))

    def accumulators(self, count: int) -> int:
        """The first of so many accumulators to be added to, others than those taken last."""
        check_summed(self.tile, count, self._name)
        if self._accumulator + count > self.tile.summed:
            self._accumulator = 0
        first, self._accumulator = self._accumulator, self._accumulator + count
        return first

    def act_rows(self, row_blocks: int, wanted: int, least: int) -> tuple[int, int]:
        """First activation block of a ring of image rows, and how many it has: half of the buffer, or all of it."""
        half = self.tile.act_blocks // 2
        if row_blocks * least <= half:
            self._upper_act = not self._upper_act
            return half * self._upper_act, min(wanted, half // row_blocks)
        check_room(Memory.BLOCKS, self.tile, row_blocks, f"a row of {self._name}")
        return 0, min(wanted, self.tile.act_blocks // row_blocks)

    def last_lanes(self, image: ImageShape) -> int:
        """Channels in the last vector of a pixel that has any."""
        return image.channels - (ceil_div(image.channels, self.tile.rows) - 1) * self.tile.rows

    # Operations.

    def pass_(self, part: str, **fields: Any) -> None:
        """A vector operation."""
        self.steps.append(Step(f"{self._name}: {part}", {"vxm": Operation("vxm", {"op": VxmOp.PASS, **fields})}))

    def matmul(self, part: str, **fields: Any) -> None:
        """A matrix operation."""
        self.steps.append(Step(f"{self._name}: {part}", {"mxm": Operation("mxm", {"op": MxmOp.MATMUL, **fields})}))

    def scalar(self, part: str, op: IcuOp, **fields: Any) -> None:
        """A sequencer operation."""
        self.steps.append(Step(f"{self._name}: {part}", {"icu": Operation("icu", {"op": op, **fields})}))

    def words(self, part: str, source: int, target: int, count: int, **fields: Any) -> None:
        """Passes over words of vector SRAM side by side, to others; ``b`` moves along unless ``b_step`` is 0."""
        for first in range(0, count, _MOST_VECTORS):
            moved = {"b": fields["b"] + first * fields.get("b_step", 1)} if "b" in fields else {}
            self.pass_(part, count=min(_MOST_VECTORS, count - first), source=Source.VMEM, x=source + first,
                       write=Write.VMEM, d=target + first, **fields | moved)  # fmt: skip

    def add_constant(self, part: str, source: int, target: int, count: int, constant: float, **fields: Any) -> None:
        """The words and a constant."""
        self.words(part, source, target, count, add=Add.B, b=self.vector_word(constant), b_step=0, **fields)

    def negate(self, source: int, target: int, count: int, constant: float, part: str, **fields: Any) -> None:
        """A constant less the words."""
        self.words(part, source, target, count, multiply=Multiply.C, c=self.scale_word(-1.0), c_step=0,
                   add=Add.B, b=self.vector_word(constant), b_step=0, **fields)  # fmt: skip

    def round_(self, first: int, count: int) -> None:
        """Round words to nearest even, in place; `rounder` stays in them."""
        self.add_constant("round", first, first, count, self.rounder)

    def held(self, tensor: Tensor) -> Area:
        """127 - q of a stored image: its clamped integers, turned round so that the clamp from above is one at 0."""
        if tensor not in self._held:
            stored = self.stored[tensor]
            area = self._held[tensor] = self._area(_clamped(tensor), tensor)
            size, source, offset = stored.image.size, stored.area.first, stored.offset
            if not stored.is_low:
                self.add_constant("clamp below", source, area.first, size, offset - QUANTISED_MIN, relu=1)
                source, offset = area.first, QUANTISED_MIN
            self.negate(source, area.first, size, QUANTISED_MAX - offset, "clamp above", relu=1)
        return self._held[tensor]


def _clamped(tensor: Tensor) -> str:
    return f"{tensor.name}, clamped"


Rule = Callable[[Lowering, Node], None]
"""How an operator is lowered: appends steps and stores what the node makes."""
