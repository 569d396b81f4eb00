"""What an engine that can be watched saw of a run: the bundles as they issued, and how long they kept their units."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

from lpu_sw.compiler.llama import CompiledLlama

from .timeline import UnitEvent, layers_of, titled

__all__ = ["Seen", "WatchedEngine", "seen_events"]


class Seen(NamedTuple):
    """A bundle that issued. ``cycle`` counts from the machine's start, waiting for the host aside.

    mxm, vxm : cycles for which the unit then took steps; 0 where the bundle holds no operation for it.
    """

    cycle: int
    pc: int
    mxm: int
    vxm: int


@runtime_checkable
class WatchedEngine(Protocol):
    """An engine that notes what issues.

    is_watched : to be set before `prepare`. seen : of the last run, valid when its posts have been taken.
    """

    is_watched: bool
    seen: list[Seen]


def seen_events(compiled: CompiledLlama, seen: Iterable[Seen]) -> list[UnitEvent]:
    """The operations behind what was seen, in the order of issue, as `Timeline.events` has the predicted ones."""
    seen = list(seen)
    bundles = compiled.program.bundles
    layers = layers_of(bundles, [pc for _, pc, *_ in seen])
    return [
        UnitEvent(cycle, pc, slot, titled(compiled.names[pc], layer), {"mxm": mxm, "vxm": vxm}.get(slot, 1))
        for (cycle, pc, mxm, vxm), layer in zip(seen, layers, strict=True)
        for slot in bundles[pc].operations
    ]
