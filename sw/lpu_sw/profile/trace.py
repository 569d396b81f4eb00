"""Trace: operations in the JSON that ui.perfetto.dev and chrome://tracing open. One cycle is shown as a microsecond."""

from collections.abc import Iterable
from typing import Any

from lpu_isa.bundle import SLOTS

from .timeline import UnitEvent

__all__ = ["chrome_trace"]

_PROCESS = 1
_TRACKS = {slot: number for number, slot in enumerate(SLOTS, 1)}


def chrome_trace(events: Iterable[UnitEvent], title: str) -> dict[str, Any]:
    """Trace of some operations, a track a unit. ``title`` names the whole."""
    named = [("process_name", {"pid": _PROCESS}, title)]
    named += [("thread_name", {"pid": _PROCESS, "tid": track}, slot) for slot, track in _TRACKS.items()]
    return {
        "displayTimeUnit": "ns",
        "traceEvents": [
            *({"ph": "M", "name": kind, **where, "args": {"name": name}} for kind, where, name in named),
            *(
                {
                    "ph": "X",
                    "name": event.name,
                    "cat": event.slot,
                    "pid": _PROCESS,
                    "tid": _TRACKS[event.slot],
                    "ts": event.cycle,
                    "dur": event.busy,
                    "args": {"bundle": event.pc},
                }
                for event in events
            ),
        ],
    }
