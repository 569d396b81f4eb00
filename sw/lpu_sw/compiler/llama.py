"""Compile a Llama: model and tile in, program, memory contents and the cycles of every position out."""

from dataclasses import asdict, dataclass

import numpy as np

from lpu_isa.config import TileConfig
from lpu_isa.formats import FloatFormat
from lpu_sw.asm.program import Program, Section
from lpu_sw.model import LlamaModel

from .calibrate import Ranges, calibrate
from .layout import DoesNotFit, Layout, largest_context
from .lower import Lowering, Register
from .memories import block_magnitudes, build_memories
from .program import PositionCycles, build_program

__all__ = ["CompiledLlama", "Facts", "compile_llama", "inbox_words"]


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
    """A program with its memory contents, the names of its bundles, and the facts for the host."""

    program: Program
    names: list[str]
    facts: Facts


def compile_llama(
    model: LlamaModel,
    tile: TileConfig,
    n_valid: int | None = None,
    context: int | None = None,
    ranges: Ranges | None = None,
) -> CompiledLlama:
    """Compile ``model`` for ``tile``.

    n_valid : ids below it may be emitted (default: the whole vocabulary).
    context : positions of cache (default: the most that fits).
    ranges : from `calibrate` (default: measured on the model's own samples).

    Raises `DoesNotFit` naming the short memory and the largest context that would fit.
    """
    config = model.config
    largest = largest_context(tile, config)
    wanted = context if context is not None else largest or min(tile.cols, config.max_positions)
    layout = Layout(tile, config, wanted)
    try:
        layout.check()
    except DoesNotFit as error:
        most = f"the largest context that fits is {largest} tokens" if largest else "no context fits"
        raise DoesNotFit(f"{error}; {most}") from None
    ranges = calibrate(model) if ranges is None else ranges
    n_valid = config.vocab_size if n_valid is None else n_valid
    lowering = Lowering(layout, block_magnitudes(model, ranges), n_valid)
    built = build_program(lowering)
    cycles = built.cycles
    memories = build_memories(model, layout, ranges)
    number = FloatFormat(tile.significand_bits)
    program = Program(
        tile,
        built.bundles,
        np.array(built.timings, np.uint16),
        [
            Section("wmem", 0, memories.wmem),
            Section("smem", 0, number.encode(memories.smem)),
            Section("vmem", 0, number.encode(memories.vmem)),
        ],
        labels=built.labels,
        registers={register.name.lower(): int(register) for register in Register},
    )
    epsilon = number.round(np.array(config.dim * config.norm_epsilon))
    feed_forwards = config.experts_per_token if config.n_experts else 1
    per_layer = 2 * config.dim * (config.query_dim + config.kv_dim) + config.n_experts * config.dim
    per_layer += feed_forwards * 3 * config.dim * config.hidden_dim
    body = config.n_layers * per_layer
    facts = Facts(
        wanted, n_valid, int(number.encode(epsilon)), layout.vectors["logits"], layout.vocab_groups,
        cycles, (body, body + config.dim * n_valid, 2 * config.n_layers * config.query_dim),
    )  # fmt: skip
    return CompiledLlama(program, built.names, facts)


def inbox_words(facts: Facts, prompt: list[int], positions: int, host_chooses: bool, stop: int) -> list[int]:
    """First words of the inbox: the program's parameters (`program.PARAMETERS`), then the prompt's tokens.

    positions : positions to run, prompt included. stop : token that ends the run, -1 for none.
    """
    parameters = [len(prompt), positions, int(host_chooses), stop & 0xFFFFFFFF, facts.epsilon_word]
    return [*parameters, *prompt]


def facts_from_metadata(metadata: dict) -> Facts:
    """The facts that `facts_to_metadata` wrote."""
    return Facts(**{**metadata, "cycles": PositionCycles(**metadata["cycles"]), "macs": tuple(metadata["macs"])})


def facts_to_metadata(facts: Facts) -> dict:
    """Plain JSON values."""
    return asdict(facts)
