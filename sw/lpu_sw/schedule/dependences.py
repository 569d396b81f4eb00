"""Smallest distances between operations that keep the meaning of their order.

The operations mean what they say one after the other. Moving them on the time axis keeps that meaning exactly if every
read stays behind the writes before it and ahead of the writes after it, location by location, and writes stay in order.
"""

from collections import defaultdict
from collections.abc import Sequence

from lpu_isa.fields import Use

__all__ = ["Distances", "dependences"]

Distances = list[dict[int, int]]
"""``distances[j][i]``: operation j is issued at least so many cycles after operation i (may be negative)."""


def dependences(uses: Sequence[Use]) -> Distances:
    """Distances between operations in the order of their meaning.

    A location's write in cycle w is seen by reads from w + 1 on. A write is kept one cycle away from earlier reads:
    what a block RAM returns for a read and a write of one word in the same cycle is not the same on every technology.
    """
    distances: Distances = [{} for _ in uses]
    writer: dict[tuple[str, int], tuple[int, int]] = {}
    readers: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for j, use in enumerate(uses):
        need = distances[j]
        first_read: dict[tuple[str, int], int] = {}
        last_read: dict[tuple[str, int], int] = {}
        first_write: dict[tuple[str, int], int] = {}
        last_write: dict[tuple[str, int], int] = {}
        for access in use.accesses:
            first, last = (first_write, last_write) if access.write else (first_read, last_read)
            for index, cycle in zip(access.index.tolist(), access.cycle.tolist(), strict=True):
                if access.space == "register" and index == 0:
                    continue
                where = (access.space, index)
                if cycle < first.get(where, 1 << 30):
                    first[where] = cycle
                if cycle > last.get(where, -1):
                    last[where] = cycle

        def at_least(i: int, distance: int, need: dict[int, int] = need) -> None:
            if distance > need.get(i, -(1 << 30)):
                need[i] = distance

        for where, cycle in first_read.items():
            if where in writer:
                i, written = writer[where]
                at_least(i, written + 1 - cycle)
        for where, cycle in first_write.items():
            if where in writer:
                i, written = writer[where]
                at_least(i, written + 1 - cycle)
            for i, read in readers[where]:
                at_least(i, read + 1 - cycle)
        for where, cycle in last_write.items():
            writer[where] = (j, cycle)
            readers[where] = []
        for where, cycle in last_read.items():
            readers[where].append((j, cycle))
    return distances
