"""What each pass makes, as text to read; and the order of the passes, which is told here and nowhere else."""

from collections.abc import Callable, Iterator

from lpu_isa.bundle import BundleFormat
from lpu_sw.asm.disassembler import format_bundle, format_operation

from .llama import Compilation
from .lowering import tile
from .memory import Memory
from .schedule import Piece
from .step import Step

__all__ = ["PASSES", "dump"]


def dump(compilation: Compilation, name: str) -> str:
    """The text of what a pass makes. Raises ValueError, with the names of all, when there is no such pass."""
    if name not in PASSES:
        raise ValueError(f"unknown pass {name!r}, expected one of {', '.join(PASSES)}")
    return PASSES[name](compilation)


def _layout(compilation: Compilation) -> Iterator[str]:
    """The memory map, then the registers of the graph's scalars."""
    layout = compilation.layout
    yield f"layout on tile {layout.tile.name}, context of {layout.context} positions"
    for memory in (Memory.WEIGHTS, Memory.SCALES):
        yield f"{memory.value}: a layer every {layout.stride(memory)} words from {layout.base(memory)} on"
    for stretch in layout.stretches():
        last = stretch.first + stretch.words - 1
        yield f"{stretch.memory:<18} {stretch.first:>5} .. {last:<5} {stretch.name}"
    yield from (f"register r{register:<9} {tensor.name}" for tensor, register in layout.registers.items())


def _tile(compilation: Compilation) -> Iterator[str]:
    """The steps of every region, in the order of their meaning."""
    layout = compilation.layout
    isa = BundleFormat(layout.tile)
    for region in layout.graph.regions:
        yield f"{region.name}:"
        yield from (f"  {step.name}: {_operations(isa, step)}" for step in tile(layout, region))


def _operations(isa: BundleFormat, step: Step) -> str:
    return " | ".join(format_operation(isa, operation) for operation in step.operations.values())


def _schedule(compilation: Compilation) -> Iterator[str]:
    """Every piece: issue cycles and names; of a layer, a column of cycles for each bucket of positions."""
    schedule = compilation.schedule
    for name, piece in (("position", schedule.position), ("prologue", schedule.prologue)):
        yield from _pieces(name, [piece])
    first = 0
    for body in schedule.bodies:
        buckets = f"positions {first} to {body.limit - 1} in buckets of {schedule.bucket}"
        yield from _pieces(f"layer, {buckets}, a layer every {[piece.period for piece in body.pieces]} cycles",
                           body.pieces)  # fmt: skip
        first = body.limit
    yield from _pieces("classifier and next position", [schedule.classifier])


def _pieces(title: str, pieces: list[Piece]) -> Iterator[str]:
    yield f"{title}:"
    for k, step in enumerate(pieces[0].steps):
        cycles = " ".join(f"{piece.issue[k]:>5}" for piece in pieces)
        yield f"  {cycles}  {'+'.join(step.operations)}  {step.name}"


def _bundles(compilation: Compilation) -> Iterator[str]:
    """The program: each bundle with its number and name, and labels where jumps lead."""
    compiled = compilation.compiled
    isa = BundleFormat(compilation.tile)
    labels = {at: label for label, at in compiled.program.labels.items()}
    for number, (bundle, name) in enumerate(zip(compiled.program.bundles, compiled.names, strict=True)):
        if number in labels:
            yield f"{labels[number]}:"
        yield f"  {number:>4}  {name}: {format_bundle(isa, bundle, labels)}"


PASSES: dict[str, Callable[[Compilation], str]] = {
    "graph": lambda compilation: str(compilation.graph),
    "fold": lambda compilation: str(compilation.folded),
    "quantise": lambda compilation: str(compilation.quantised),
    "layout": lambda compilation: "\n".join(_layout(compilation)),
    "tile": lambda compilation: "\n".join(_tile(compilation)),
    "schedule": lambda compilation: "\n".join(_schedule(compilation)),
    "bundles": lambda compilation: "\n".join(_bundles(compilation)),
}
"""Passes by name, in the order in which a model goes through them."""
