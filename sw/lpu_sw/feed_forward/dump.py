"""What each pass of a network makes, as text to read; and the order of the passes, which is told here alone."""

from collections.abc import Callable, Iterable, Iterator

from lpu_sw.compiler.dump import bundle_lines, piece_lines, step_lines, stretch_lines
from lpu_sw.compiler.memory import Memory, Stretch

from .compile import NetworkCompilation

__all__ = ["PASSES"]


def _layout(compilation: NetworkCompilation) -> Iterator[str]:
    """The memory map, then every image: where several have lain in the same words, one after the other."""
    lowering = compilation.lowering
    yield f"layout on tile {compilation.tile.name}"
    yield from stretch_lines(lowering.stretches())
    yield "images, in the order in which they are made:"
    images = lowering.spaces[Memory.VECTORS].places
    yield from stretch_lines(
        Stretch(Memory.VECTORS, name, place.start, len(place)) for name, place in images.items()
    )  # fmt: skip


def _bundles(compilation: NetworkCompilation) -> Iterator[str]:
    built = compilation.built
    return bundle_lines(compilation.tile, built.bundles, built.names, built.labels)


PASSES: dict[str, Callable[[NetworkCompilation], Iterable[str]]] = {
    "graph": lambda compilation: [str(compilation.graph)],
    "integers": lambda compilation: [str(compilation.integers.graph)],
    "unfold": lambda compilation: [str(compilation.unfolded.graph)],
    "layout": _layout,
    "tile": lambda compilation: step_lines(compilation.tile, compilation.lowering.steps),
    "schedule": lambda compilation: piece_lines("one input", [compilation.schedule]),
    "bundles": _bundles,
}
"""Passes of a network by name, in the order in which it goes through them."""
