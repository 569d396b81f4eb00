"""The slow paths of a placed design, by what they join: nextpnr's report names one path, its SDF has all delays."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from .synth import CELL_KIND

__all__ = ["SlowPath", "slow_paths"]

_DELAY = re.compile(r"\((?:-?\d+):(?:-?\d+):(-?\d+)\)")  # the longest of three
_CLOCK_PIN = re.compile(r"/(?:CLK[AB0-3]?|WCK)$")


class SlowPath(NamedTuple):
    """The longest path between two groups of registers, and how many registers end one as slow as was asked for.

    Groups are registers and memories whose names differ in numbers only. ``ns`` is from clock to clock, ``logic_ns``
    the part that is not wire.
    """

    ns: float
    logic_ns: float
    start: str
    end: str
    endpoints: int


class _Timing:
    """What an SDF says, in picoseconds, by pin: ``cell/pin``."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.arcs: dict[str, list[tuple[str, int, bool]]] = defaultdict(list)  # to, delay, whether it is a wire
        self.launches: dict[str, int] = {}  # from the clock to an output
        self.setups: dict[str, int] = {}
        self.clocks: dict[str, str] = {}  # by cell: what drives it
        cell = ""
        for line in lines:
            word, _, rest = line.strip().partition(" ")
            if word == "(INSTANCE":
                cell = rest.removesuffix(")")
            elif word in ("(INTERCONNECT", "(IOPATH"):
                source, target, delays = rest.split(" ", 2)
                self._arc(cell, source, target, max(map(int, _DELAY.findall(delays))), is_wire=word != "(IOPATH")
            elif word == "(SETUPHOLD":
                pin = f"{cell}/{rest.split(' ')[1].rstrip(')')}"
                self.setups[pin] = max(self.setups.get(pin, 0), int(_DELAY.findall(rest)[0]))

    def _arc(self, cell: str, source: str, target: str, delay: int, *, is_wire: bool) -> None:
        if not is_wire:
            source, target = f"{cell}/{source}", f"{cell}/{target}"
            if _CLOCK_PIN.search(source):
                self.launches[target] = delay
                return
        elif _CLOCK_PIN.search(target):
            self.clocks[target.rpartition("/")[0]] = source
            return
        self.arcs[source].append((target, delay, is_wire))

    def clock(self, pin: str) -> str | None:
        """What drives the clock of a pin's cell."""
        return self.clocks.get(pin.rpartition("/")[0])


def slow_paths(sdf: Path, slower_than_ns: float) -> list[SlowPath]:
    """Paths of an SDF of nextpnr's that take longer, of one clock each; the slowest first, one for each two groups."""
    with open(sdf, encoding="utf-8") as lines:
        timing = _Timing(lines)
    arrivals = _arrivals(timing)
    slowest: dict[tuple[str, str], tuple[int, int]] = {}
    endpoints: Counter[tuple[str, str]] = Counter()
    for pin, setup in timing.setups.items():
        if pin not in arrivals:
            continue
        arrival, wire, start = arrivals[pin]
        total = arrival + setup
        if total <= 1000 * slower_than_ns or timing.clock(start) != timing.clock(pin):
            continue
        groups = _group(start), _group(pin)
        endpoints[groups] += 1
        slowest[groups] = max(slowest.get(groups, (0, 0)), (total, wire))
    return [
        SlowPath(total / 1000, round((total - wire) / 1000, 3), *groups, endpoints[groups])
        for groups, (total, wire) in sorted(slowest.items(), key=lambda item: item[1], reverse=True)
    ]


def _arrivals(timing: _Timing) -> dict[str, tuple[int, int, str]]:
    """By pin that registers reach: the latest arrival, how much of it is wire, and where it starts."""
    arrivals = {pin: (delay, 0, pin) for pin, delay in timing.launches.items()}
    for pin in _in_order(timing):
        if pin in arrivals:
            arrival, wire, start = arrivals[pin]
            for target, delay, is_wire in timing.arcs.get(pin, ()):
                if target not in timing.launches:
                    later = (arrival + delay, wire + delay * is_wire, start)
                    arrivals[target] = max(arrivals.get(target, later), later)
    return arrivals


def _in_order(timing: _Timing) -> Iterator[str]:
    sorter = TopologicalSorter[str]()
    for pin, arcs in timing.arcs.items():
        for target, *_ in arcs:
            sorter.add(target, pin)
    yield from sorter.static_order()


def _group(pin: str) -> str:
    """The signal or module that a pin's cell belongs to, as far as its name tells, without numbers."""
    name, _, _ = CELL_KIND.sub("", pin.rpartition("/")[0].replace("\\", "")).partition("$")
    return re.sub(r"\d+", "#", name)
