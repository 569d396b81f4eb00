"""Pass `layout`: where everything lies.

Operators say what they need of each memory (`rules`), and it is put one after another, in their order. Weights, scales
and caches of the region that repeats come last: a round's lie together, and all rounds have one stride.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lpu_isa.config import TileConfig
from lpu_sw.graph.graph import Graph
from lpu_sw.graph.tensor import Tensor

from .memory import RING, Demand, DoesNotFit, Memory, Sizes, Stretch, ceil_div, check_room, check_summed
from .registers import SCALARS, Register
from .rules import rule_of
from .space import Space

__all__ = ["Layout", "Place", "largest_context"]

_ROUNDS = {Memory.WEIGHTS: Register.LAYER, Memory.SCALES: Register.SCALES}
"""Memories in which each round of a region has words of its own, and the register that holds where they start."""


class Place(NamedTuple):
    """First word of a tensor, to which a register's value is added."""

    address: int
    register: int


class Layout:
    """The memory map of a graph on a tile, with caches of ``context`` positions.

    rounds : of the region that repeats; 1 where none does.
    """

    def __init__(self, graph: Graph, tile: TileConfig, context: int) -> None:
        self.graph, self.tile, self.context = graph, tile, context
        self.sizes = Sizes(tile, context)
        self.rounds = next((region.rounds for region in graph.regions if region.is_repeated), 1)
        self._demands: dict[Memory, dict[str, Demand]] = {memory: {} for memory in Memory}
        self._regions: dict[tuple[Memory, str], list[str]] = defaultdict(list)
        self._is_repeated = {region.name: region.is_repeated for region in graph.regions}
        for region in graph.regions:
            for node in region.nodes:
                for demand in rule_of(node).demands(node, graph, self.sizes):
                    known = self._demands[demand.memory].get(demand.name, demand)
                    larger = replace(known, words=max(known.words, demand.words))
                    self._demands[demand.memory][demand.name] = larger
                    self._regions[demand.memory, demand.name].append(region.name)
        self._once = {memory: self._space(memory) for memory in Memory}
        self._each = {memory: self._round_space(memory) for memory in _ROUNDS}
        self.registers = self._scalars()

    def _space(self, memory: Memory) -> Space:
        """Demands of a memory that do not differ from round to round."""
        space = Space()
        demands = [d for d in self._demands[memory].values() if not self._is_of_round(d) and d.name != RING]
        if memory is not Memory.BLOCKS:
            for demand in demands:
                space.take(demand.name, demand.words)
            return space
        # What only one region uses may lie where another region has something else.
        shared = [d for d in demands if len(set(self._regions[memory, d.name])) > 1]
        for demand in shared:
            space.take(demand.name, demand.words)
        for region in self.graph.regions:
            own = [d for d in demands if d not in shared and region.name in self._regions[memory, d.name]]
            for demand in own:
                space.take(demand.name, demand.words)
            for demand in own:
                space.give_back(demand.name)
        return space

    def _round_space(self, memory: Memory) -> Space:
        """Demands of a round, from its base; those of experts together, an expert's one after another."""
        space, expert = Space(), self._expert_space(memory)
        for demand in self._demands[memory].values():
            if self._is_of_round(demand) and not demand.experts:
                space.take(demand.name, demand.words)
            elif demand.experts and demand.name == next(iter(expert.places)):
                space.take_copies(expert, demand.experts)
        return space

    def _expert_space(self, memory: Memory) -> Space:
        space = Space()
        for demand in self._demands[memory].values():
            if demand.experts:
                space.take(demand.name, demand.words)
        return space

    def _is_of_round(self, demand: Demand) -> bool:
        """Whether each round of a region has words of its own: not of constants that all rounds share."""
        shared = demand.constant is not None and not demand.constant.rounds
        (first, *_) = self._regions[demand.memory, demand.name]
        return demand.memory in _ROUNDS and self._is_repeated[first] and not shared

    def _scalars(self) -> dict[Tensor, int]:
        """Registers of the graph's scalars: one for all that stand for a carried one, the others by region."""
        registers: dict[Tensor, int] = {}
        free = SCALARS.start
        for region in self.graph.regions:
            for inside, (outside, made) in region.carried.items():
                if rule_of_maker(self.graph, outside):
                    registers |= dict.fromkeys((inside, outside, made), free)
                    free += 1
        for region in self.graph.regions:
            at = free
            for node in region.nodes:
                if rule_of(node).makes_scalar and node.output not in registers:
                    registers[node.output] = at
                    at += 1
            assert at <= SCALARS.stop, f"{at - SCALARS.stop} scalars too many in region {region.name}"
        return registers

    # Where things lie

    def place(self, memory: Memory, name: str) -> Place:
        """Where something lies. With experts: of the first one, and without the register."""
        demand = self._demands[memory][name]
        if not self._is_of_round(demand):
            return Place(self._once[memory].places[name].start, Register.ZERO)
        return Place(self._each[memory].places[name].start, _ROUNDS[memory])

    def base(self, memory: Memory) -> int:
        """First word of the first round."""
        return self._once[memory].end

    def stride(self, memory: Memory) -> int:
        """Words from a round to the next."""
        return self._each[memory].end

    def expert_stride(self, memory: Memory) -> int:
        """Words from an expert to the next."""
        return self._expert_space(memory).end

    def end(self, memory: Memory) -> int:
        """Words that are taken; the ring, if there is one, begins there."""
        return self._once[memory].end + (self.rounds * self.stride(memory) if memory in _ROUNDS else 0)

    # What follows from it

    def contents(self, memory: Memory) -> np.ndarray:
        """What a memory holds before the program runs: int8 (words, rows, cols) or float64 (words, rows)."""
        tile = self.tile
        if memory is Memory.WEIGHTS:
            words = np.zeros((self.end(memory), tile.rows, tile.cols), np.int8)
        else:
            words = np.zeros((self.end(memory), tile.rows))
        for demand in self._demands[memory].values():
            if demand.contents is None:
                continue
            at = self.place(memory, demand.name).address
            rounds = range(self.rounds) if self._is_of_round(demand) else [None]
            for number in rounds:
                for expert in range(demand.experts) if demand.experts else [None]:
                    index = tuple(i for i in (number, expert) if i is not None)
                    made = demand.contents(index)
                    first = at + (0 if number is None else self.base(memory) + number * self.stride(memory))
                    first += (expert or 0) * self.expert_stride(memory)
                    words[first : first + len(made)] = made
        return words

    def check(self) -> None:
        """Raise `DoesNotFit` naming the memory that is short, what it has and what is needed."""
        for memory in Memory:
            ring = self._demands[memory].get(RING)
            need = self.end(memory) + (ring.words if ring else 0)
            check_room(memory, self.tile, need, f"a context of {self.context} tokens")
        check_summed(self.tile, self.end(Memory.ACCUMULATORS), "what a layer keeps")

    def stretches(self) -> Iterator[Stretch]:
        """The memory map, memory by memory in rising order; what is left over is ``free``."""
        for memory in (Memory.WEIGHTS, Memory.SCALES, Memory.VECTORS):
            yield from _stretches(memory, self._firsts(memory), self.tile)
        for memory in (Memory.BLOCKS, Memory.ACCUMULATORS):
            places = sorted((place.start, name) for name, place in self._once[memory].places.items())
            yield from _stretches(memory, [*places, (self.end(memory), RING)], self.tile)

    def _firsts(self, memory: Memory) -> list[tuple[int, str]]:
        firsts = [(place.start, name) for name, place in self._once[memory].places.items()]
        if memory in _ROUNDS:
            for number in range(self.rounds):
                base = self.base(memory) + number * self.stride(memory)
                for name, place in self._each[memory].places.items():
                    for expert in range(self._demands[memory][name].experts or 1):
                        of = f" / expert {expert}" if self._demands[memory][name].experts else ""
                        at = base + place.start + expert * self.expert_stride(memory)
                        firsts.append((at, f"layer {number}{of} / {name}"))
        return [*sorted(firsts), (self.end(memory), "free")]


def _stretches(memory: Memory, firsts: list[tuple[int, str]], tile: TileConfig) -> Iterator[Stretch]:
    ends = [first for first, _ in firsts[1:]] + [memory.depth(tile)]
    for (first, name), end in zip(firsts, ends, strict=True):
        if end > first:
            yield Stretch(memory, name, first, end - first)


def rule_of_maker(graph: Graph, tensor: Tensor) -> bool:
    """Whether a tensor is a scalar that a node makes into a register."""
    maker = graph.maker(tensor)
    return maker is not None and rule_of(maker).makes_scalar


def largest_context(graph: Graph, tile: TileConfig, most: int) -> int:
    """Most positions of cache that fit the tile, at most ``most``; 0 when not even one block fits.

    Contexts are whole numbers of activation blocks (``cols`` positions), since a shorter one saves no memory.
    """
    for context in range(ceil_div(most, tile.cols) * tile.cols, 0, -tile.cols):
        try:
            Layout(graph, tile, context).check()
        except DoesNotFit:
            continue
        return min(context, most)
    return 0
