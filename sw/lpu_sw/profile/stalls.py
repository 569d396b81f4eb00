"""Stalls: what each idle cycle of the matrix unit waited for.

The machine never stalls, its schedule does. Before a matmul that does not follow at once, the chain of what held it
back is walked backwards: the matmul could not issue before a pass had landed, the pass not before a scalar function,
and so on, each link covering the cycles between two issues. An idle cycle waited for the link that covers it.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lpu_sw.schedule.dependences import Distances, dependences

from .timeline import Issue, Timeline

__all__ = ["Cause", "Stall", "StallAnalysis"]


class Cause(Enum):
    """Why an operation did not issue earlier."""

    MATMUL = "matmul on its way"
    PASS = "pass on its way"
    SCALAR = "scalar on its way"
    RESOURCE = "unit or port held"
    ORDER = "one bundle a cycle"
    CONTROL = "branch or inbox"
    SHARED = "distance that others need"


@dataclass(frozen=True)
class Stall:
    """Idle cycles ``first .. first + cycles`` of the matrix unit.

    wanted, behind : what was to come, a matmul or the post, and the operation that the cause is about, as numbers in
        `Timeline.issues`; None: the start.
    """

    first: int
    cycles: int
    wanted: int
    cause: Cause
    behind: int | None


class _Bound(NamedTuple):
    """An operation could not issue before ``cycle``, because of operation ``behind`` (None: the start)."""

    cycle: int
    cause: Cause
    behind: int | None


class StallAnalysis:
    """The idle cycles of the matrix unit, each with its cause."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._issues = timeline.issues
        self._together = [issue.together for issue in self._issues]
        self._distances: Distances = dependences(self._together)
        self._holder: dict[tuple[str, int], int] = {}
        for i, (issue, use) in enumerate(zip(self._issues, self._together, strict=True)):
            for claim in use.claims:
                for cycle in (claim.cycle + issue.cycle).tolist():
                    self._holder[claim.resource, cycle] = i

    @cached_property
    def is_busy(self) -> np.ndarray:
        """Whether the matrix unit takes a step, bool (cycles,)."""
        busy = np.zeros(self.timeline.cycles, bool)
        for issue in self._issues:
            for claim in issue.uses["mxm"].claims if "mxm" in issue.uses else ():
                if claim.resource == "mxm":
                    busy[claim.cycle + issue.cycle] = True
        return busy

    @cached_property
    def stalls(self) -> list[Stall]:
        """All idle cycles, in order."""
        stalls: list[Stall] = []
        wanted = [i for i, issue in enumerate(self._issues) if "mxm" in issue.uses]
        first = 0
        for i in [*wanted, len(self._issues) - 1]:
            issue = self._issues[i]
            if issue.cycle > first:
                stalls += reversed(self._gap(i, first))
            first = issue.cycle + (issue.busy("mxm") if "mxm" in issue.uses else 0)
        return stalls

    def by_cause(self) -> Counter[Cause]:
        """Idle cycles of each cause."""
        counts: Counter[Cause] = Counter()
        for stall in self.stalls:
            counts[stall.cause] += stall.cycles
        return counts

    def _gap(self, wanted: int, first: int) -> list[Stall]:
        """The chain that ends in operation ``wanted``, back to cycle ``first``; the latest link first."""
        stalls: list[Stall] = []
        end = self._issues[wanted].cycle

        def cover(begin: int, cause: Cause, behind: int | None) -> None:
            nonlocal end
            begin = max(begin, first)
            if begin < end:
                stalls.append(Stall(begin, end - begin, wanted, cause, behind))
                end = begin

        at: int | None = wanted
        while at is not None and end > first:
            bound = self._bound(at)
            cover(bound.cycle, Cause.SHARED, at)
            at = bound.behind
            cover(first if at is None else self._issues[at].cycle, bound.cause, at)
        return stalls

    def _bound(self, i: int) -> _Bound:
        """What keeps operation ``i`` from an earlier cycle."""
        if not i:
            bound = _Bound(self._issues[0].cycle, Cause.CONTROL, None)
        else:
            before = self._issues[i - 1]
            bound = _Bound(before.cycle + before.least, Cause.CONTROL if before.least > 1 else Cause.ORDER, i - 1)
        for k, distance in self._distances[i].items():
            # Of equal bounds a dependence says more than the order of issue.
            if self._issues[k].cycle + distance >= bound.cycle:
                bound = _Bound(self._issues[k].cycle + distance, _maker(self._issues[k]), k)
        for cycle in range(self._issues[i].cycle, bound.cycle, -1):
            holder = self._holder_against(i, cycle - 1)
            if holder is not None:
                return _Bound(cycle, Cause.RESOURCE, holder)
        return bound

    def _holder_against(self, i: int, cycle: int) -> int | None:
        """The earlier operation that holds what operation ``i`` would need, were it to issue in ``cycle``."""
        holders = [
            self._holder[claim.resource, at]
            for claim in self._together[i].claims
            for at in (claim.cycle + cycle).tolist()
            if (claim.resource, at) in self._holder
        ]
        return max((k for k in holders if k < i), default=None)


def _maker(issue: Issue) -> Cause:
    if "mxm" in issue.uses:
        return Cause.MATMUL
    return Cause.PASS if "vxm" in issue.uses else Cause.SCALAR
