"""Compile a Llama: model and tile in, program, memory contents and the cycles of every position out."""

from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from lpu_isa.config import TileConfig
from lpu_isa.formats import FloatFormat
from lpu_sw.asm.program import Program, Section
from lpu_sw.frontends.language_graph import language_graph
from lpu_sw.graph.graph import Graph
from lpu_sw.model import LlamaModel

from .bundles import LlamaProgram, PositionCycles, build_program
from .calibrate import Ranges, block_magnitudes, calibrate
from .fold import fold
from .layout import Layout, largest_context
from .memory import DoesNotFit, Memory, Stretch
from .quantise import quantise
from .registers import Register
from .schedule import Schedule, schedule

__all__ = ["Compilation", "CompiledLlama", "Facts", "compile_llama", "inbox_words"]


@dataclass(frozen=True)
class Facts:
    """What a host must know of a compiled model beside its image; kept as the image's metadata.

    context : positions that the caches hold.
    n_valid : tokens that the tile may choose.
    epsilon_word : encoded dim * epsilon, a parameter of the program.
    logits, logit_words : vector SRAM words of the logits.
    cycles : of every position.
    macs : multiplications that a position needs, ``[without classifier, with classifier, per token of context]``.
    """

    context: int
    n_valid: int
    epsilon_word: int
    logits: int
    logit_words: int
    cycles: PositionCycles
    macs: tuple[int, int, int]

    def position_macs(self, position: int, decodes: bool) -> int:
        """Multiplications of the model itself at a position, padding not counted."""
        return self.macs[int(decodes)] + self.macs[2] * (position + 1)


@dataclass(frozen=True)
class CompiledLlama:
    """A program with its memory contents, the names of its bundles, the memory map, and the facts for the host."""

    program: Program
    names: list[str]
    stretches: list[Stretch]
    facts: Facts


class Compilation:
    """A Llama on its way through the passes; the result of each is made when it is first asked for.

    n_valid : ids below it may be emitted (default: the whole vocabulary).
    context : positions of cache (default: the most that fits).
    ranges : from `calibrate` (default: measured on the model's own samples).
    """

    def __init__(
        self,
        model: LlamaModel,
        tile: TileConfig,
        n_valid: int | None = None,
        context: int | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        self._model, self.tile = model, tile
        self.n_valid = model.config.vocab_size if n_valid is None else n_valid
        self._context, self._ranges = context, ranges

    @cached_property
    def ranges(self) -> Ranges:
        """Largest magnitudes of the model's values."""
        return calibrate(self._model) if self._ranges is None else self._ranges

    @cached_property
    def graph(self) -> Graph:
        """The model as the front end gives it."""
        return language_graph(self._model, self.n_valid)

    @cached_property
    def folded(self) -> Graph:
        """After pass `fold`."""
        return fold(self.graph, self.ranges)

    @cached_property
    def quantised(self) -> Graph:
        """After pass `quantise`."""
        return quantise(self.folded, block_magnitudes(self._model.config, self.ranges))

    @cached_property
    def layout(self) -> Layout:
        """After pass `layout`.

        Raises `DoesNotFit` naming the short memory and the largest context that would fit.
        """
        largest = largest_context(self.quantised, self.tile, self._model.config.max_positions)
        wanted = self._context or largest or min(self.tile.cols, self._model.config.max_positions)
        try:
            layout = Layout(self.quantised, self.tile, wanted)
            layout.check()
        except DoesNotFit as error:
            most = f"the largest context that fits is {largest} tokens" if largest else "no context fits"
            raise DoesNotFit(f"{error}; {most}") from None
        return layout

    @cached_property
    def schedule(self) -> Schedule:
        """After the passes `tile` and `schedule`."""
        return schedule(self.layout)

    @cached_property
    def built(self) -> LlamaProgram:
        """After pass `bundles`."""
        return build_program(self.layout, self.schedule)

    @cached_property
    def compiled(self) -> CompiledLlama:
        """The program with its memory contents."""
        layout, built = self.layout, self.built
        number = FloatFormat(self.tile.significand_bits)
        program = Program(
            self.tile,
            built.bundles,
            np.array(built.timings, np.uint16),
            [
                Section("wmem", 0, layout.contents(Memory.WEIGHTS)),
                Section("smem", 0, number.encode(layout.contents(Memory.SCALES))),
                Section("vmem", 0, number.encode(layout.contents(Memory.VECTORS))),
            ],
            labels=built.labels,
            registers={register.name.lower(): int(register) for register in Register},
        )
        return CompiledLlama(program, built.names, list(layout.stretches()), self._facts())

    def _facts(self) -> Facts:
        config, layout = self._model.config, self.layout
        number = FloatFormat(self.tile.significand_bits)
        epsilon = number.round(np.array(config.dim * config.norm_epsilon))
        feed_forwards = config.experts_per_token if config.n_experts else 1
        per_layer = 2 * config.dim * (config.query_dim + config.kv_dim) + config.n_experts * config.dim
        per_layer += feed_forwards * 3 * config.dim * config.hidden_dim
        body = config.n_layers * per_layer
        return Facts(
            layout.context, self.n_valid, int(number.encode(epsilon)),
            layout.place(Memory.VECTORS, "logits").address, layout.sizes.vectors((config.vocab_size,)),
            self.built.cycles, (body, body + config.dim * self.n_valid, 2 * config.n_layers * config.query_dim),
        )  # fmt: skip


def compile_llama(
    model: LlamaModel,
    tile: TileConfig,
    n_valid: int | None = None,
    context: int | None = None,
    ranges: Ranges | None = None,
) -> CompiledLlama:
    """Compile ``model`` for ``tile``; arguments as of `Compilation`.

    Raises `DoesNotFit` naming the short memory and the largest context that would fit.
    """
    return Compilation(model, tile, n_valid, context, ranges).compiled


def inbox_words(facts: Facts, prompt: list[int], positions: int, host_chooses: bool, stop: int) -> list[int]:
    """First words of the inbox: the program's parameters (`bundles.PARAMETERS`), then the prompt's tokens.

    positions : positions to run, prompt included. stop : token that ends the run, -1 for none.
    """
    parameters = [len(prompt) - 1, positions, int(host_chooses), stop & 0xFFFFFFFF, facts.epsilon_word]
    return [*parameters, *prompt]


def facts_to_metadata(facts: Facts) -> dict:
    """Plain JSON values."""
    return asdict(facts)
