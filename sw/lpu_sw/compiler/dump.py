"""What each pass makes, as text to read; and the order of a language model's passes, which is told here alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import TileConfig
from lpu_sw.asm.disassembler import format_bundle, format_operation

from .llama import Compilation
from .lowering import tile
from .memory import Memory, Stretch
from .schedule import Piece
from .step import Step

__all__ = ["ALL", "PASSES", "bundle_lines", "dump", "piece_lines", "step_lines", "stretch_lines"]

ALL = "all"
"""Name that stands for every pass."""

C = TypeVar("C")


def dump(passes: Mapping[str, Callable[[C], Iterable[str]]], compilation: C, name: str) -> str:
    """The text of what a pass makes, or of `ALL`. Raises ValueError, with the names of all, for an unknown pass."""
    if name != ALL and name not in passes:
        raise ValueError(f"unknown pass {name!r}, expected one of {', '.join(passes)}, or {ALL}")
    names = passes if name == ALL else [name]
    return "\n".join(line for each in names for line in passes[each](compilation))


def stretch_lines(stretches: Iterable[Stretch]) -> Iterator[str]:
    """A memory map, a line a stretch."""
    for memory, name, first, words in stretches:
        yield f"{memory.value:<18} {first:>5} .. {first + words - 1:<5} {name}"


def step_lines(config: TileConfig, steps: Iterable[Step]) -> Iterator[str]:
    """Steps with their operations, a line each."""
    isa = BundleFormat(config)
    for step in steps:
        operations = (format_operation(isa, operation) for operation in step.operations.values())
        yield f"  {step.name}: {' | '.join(operations)}"


def piece_lines(title: str, pieces: Sequence[Piece]) -> Iterator[str]:
    """Issue cycles and names of a piece's steps; a column of cycles for each piece, where several have one order."""
    yield f"{title}:"
    for k, step in enumerate(pieces[0].steps):
        cycles = " ".join(f"{piece.issue[k]:>5}" for piece in pieces)
        yield f"  {cycles}  {'+'.join(step.operations)}  {step.name}"


def bundle_lines(
    config: TileConfig, bundles: Sequence[Bundle], names: Sequence[str], labels: Mapping[str, int]
) -> Iterator[str]:
    """A program: each bundle with its number and name, and labels where jumps lead."""
    isa = BundleFormat(config)
    label_at = {at: label for label, at in labels.items()}
    for number, (bundle, name) in enumerate(zip(bundles, names, strict=True)):
        if number in label_at:
            yield f"{label_at[number]}:"
        yield f"  {number:>4}  {name}: {format_bundle(isa, bundle, label_at)}"


def _layout(compilation: Compilation) -> Iterator[str]:
    """The memory map, then the registers of the graph's scalars."""
    layout = compilation.layout
    yield f"layout on tile {layout.tile.name}, context of {layout.context} positions"
    for memory in (Memory.WEIGHTS, Memory.SCALES):
        yield f"{memory.value}: a layer every {layout.stride(memory)} words from {layout.base(memory)} on"
    yield from stretch_lines(layout.stretches())
    yield from (f"register r{register:<9} {tensor.name}" for tensor, register in layout.registers.items())


def _tile(compilation: Compilation) -> Iterator[str]:
    """The steps of every region, in the order of their meaning."""
    layout = compilation.layout
    for region in layout.graph.regions:
        yield f"{region.name}:"
        yield from step_lines(layout.tile, tile(layout, region))


def _schedule(compilation: Compilation) -> Iterator[str]:
    """Every piece; of a layer, a column of cycles for each bucket of positions."""
    schedule = compilation.schedule
    for name, piece in (("position", schedule.position), ("prologue", schedule.prologue)):
        yield from piece_lines(name, [piece])
    first = 0
    for body in schedule.bodies:
        buckets = f"positions {first} to {body.limit - 1} in buckets of {schedule.bucket}"
        periods = [piece.period for piece in body.pieces]
        yield from piece_lines(f"layer, {buckets}, a layer every {periods} cycles", body.pieces)
        first = body.limit
    yield from piece_lines("classifier and next position", [schedule.classifier])


def _bundles(compilation: Compilation) -> Iterator[str]:
    built = compilation.built
    return bundle_lines(compilation.tile, built.bundles, built.names, built.labels)


PASSES: dict[str, Callable[[Compilation], Iterable[str]]] = {
    "graph": lambda compilation: [str(compilation.graph)],
    "fold": lambda compilation: [str(compilation.folded)],
    "quantise": lambda compilation: [str(compilation.quantised)],
    "layout": _layout,
    "tile": _tile,
    "schedule": _schedule,
    "bundles": _bundles,
}
"""Passes of a language model by name, in the order in which it goes through them."""
