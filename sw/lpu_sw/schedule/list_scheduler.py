"""List scheduling of one straight piece of program: one operation a bundle, urgent ones first."""

import heapq
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import inf
from random import Random

from lpu_isa.fields import Use

from .dependences import Distances, dependences
from .reservation import MOST_RESOURCES, ReservationTable, claims_of

__all__ = ["Placement", "Problem", "improve"]

SEARCHES = 3
"""Local searches from one problem's greedy order or another's, of which the best counts."""

NO_DISTANCE = -(1 << 20)
"""An order without a distance."""


class Problem:
    """Operations to be placed, in the order of their meaning.

    variants : what each operation touches, once for every case (counts and addresses) that the schedule must serve.
    fixed : issue cycles of operations that belong to the piece before; all others get a cycle >= 0.
    """

    def __init__(self, variants: Sequence[Sequence[Use]], fixed: Mapping[int, int] | None = None) -> None:
        self.variants = variants
        self.fixed = dict(fixed or {})
        count = len(variants[0])
        self.distances: Distances = [{} for _ in range(count)]
        for uses in variants:
            for need, more in zip(self.distances, dependences(uses), strict=True):
                for i, distance in more.items():
                    need[i] = max(distance, need.get(i, distance))
        self.users: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        self._find_users()
        self._claims = [claims_of(*cases) for cases in zip(*variants, strict=True)]
        self._end = [
            max((int(a.cycle.max()) for use in cases for a in use.accesses if a.write), default=0)
            for cases in zip(*variants, strict=True)
        ]

    def _find_users(self) -> None:
        for users in self.users:
            users.clear()
        for j, need in enumerate(self.distances):
            for i, distance in need.items():
                self.users[i].append((j, distance))

    def keep_order(self, others: Sequence["Problem"]) -> None:
        """Let operations that depend on each other in other problems of the same program keep their order here too."""
        for other in others:
            for need, more in zip(self.distances, other.distances, strict=True):
                for i in more:
                    need.setdefault(i, NO_DISTANCE)
        self._find_users()

    @cached_property
    def _needs(self) -> list[list[tuple[int, int]]]:
        """The distances without those that follow from others."""
        paths: list[dict[int, int]] = []
        needs = []
        for need in self.distances:
            path: dict[int, int] = {}
            kept = []
            for k, distance in sorted(need.items(), reverse=True):
                if distance > max(path.get(k, NO_DISTANCE), NO_DISTANCE):
                    kept.append((k, distance))
                    for i, more in [(k, 0), *paths[k].items()]:
                        path[i] = max(path.get(i, NO_DISTANCE), distance + more)
            paths.append(path)
            needs.append(kept)
        return needs

    @cached_property
    def _rest(self) -> list[int]:
        """Least distance from each operation's issue to the last one's."""
        rest = [0] * len(self.distances)
        for j in reversed(range(len(rest))):
            for i, distance in self._needs[j]:
                rest[i] = max(rest[i], distance + rest[j])
        return rest

    def urgencies(self) -> list[int]:
        """Longest path from each operation's issue to the end of the piece."""
        urgency = [0] * len(self.distances)
        for i in reversed(range(len(self.distances))):
            after = [distance + urgency[j] for j, distance in self.users[i]]
            urgency[i] = max([self._end[i], *after])
        return urgency

    def schedule(self) -> list[int]:
        """Issue cycles, greedy by urgency, at most one issue a cycle."""
        urgency = self.urgencies()
        table = ReservationTable()
        issue = [0] * len(self.distances)
        ready = [0] * len(self.distances)
        missing = [len(need) for need in self.distances]
        waiting: list[tuple[int, int]] = []  # (ready cycle, operation)
        able: list[tuple[int, int]] = []  # (-urgency, operation)

        def place(i: int, cycle: int) -> None:
            issue[i] = cycle
            table.take(self._claims[i], cycle)
            for j, distance in self.users[i]:
                ready[j] = max(ready[j], cycle + distance)
                missing[j] -= 1
                if not missing[j] and j not in self.fixed:
                    heapq.heappush(waiting, (ready[j], j))

        for i, need in enumerate(self.distances):
            if not need and i not in self.fixed:
                heapq.heappush(waiting, (0, i))
        for i in sorted(self.fixed):
            place(i, self.fixed[i])
        cycle = 0
        while waiting or able:
            while waiting and waiting[0][0] <= cycle:
                i = heapq.heappop(waiting)[1]
                heapq.heappush(able, (-urgency[i], i))
            for entry in sorted(able):
                if table.is_free(self._claims[entry[1]], cycle):
                    able.remove(entry)
                    heapq.heapify(able)
                    place(entry[1], cycle)
                    break
            cycle = cycle + 1 if able else max(cycle + 1, waiting[0][0] if waiting else 0)
        return issue

    def order(self) -> list[int]:
        """Operations that are not fixed, in the order of their issue."""
        issue = self.schedule()
        return sorted((i for i in range(len(issue)) if i not in self.fixed), key=issue.__getitem__)

    def place(self, order: Sequence[int]) -> list[int]:
        """Issue cycles when operations issue in ``order``, each as early as it can.

        ``order`` holds every operation that is not fixed, each behind those that it depends on.
        """
        placed = self.placement()
        self.go_on(placed, order)
        return placed.issue

    def placement(self) -> "Placement":
        """Where the fixed operations are."""
        issue, taken = [0] * len(self.distances), 0
        for i, cycle in self.fixed.items():
            issue[i] = cycle
            taken |= self._claims[i] >> (-1 - cycle) * MOST_RESOURCES
        return Placement(issue, [(taken, -1)])

    def go_on(self, placed: "Placement", order: Sequence[int], most: float = inf) -> bool:
        """Place what ``order`` has behind the operations that are placed; False if one would be issued after ``most``.

        Then the placement is of no more use.
        """
        issue, marks, needs, claims, rest = placed.issue, placed.marks, self._needs, self._claims, self._rest
        taken, cycle = marks[-1]
        for i in order[len(marks) - 1 :]:
            at = cycle + 1
            for k, distance in needs[i]:
                if issue[k] + distance > at:
                    at = issue[k] + distance
            taken >>= MOST_RESOURCES * (at - cycle)
            held = claims[i]
            while taken & held:
                taken >>= MOST_RESOURCES
                at += 1
            if at + rest[i] > most:
                return False
            taken |= held
            issue[i] = cycle = at
            marks.append((taken, cycle))
        return True


@dataclass
class Placement:
    """Operations that are placed in some order.

    issue : cycles. marks : what is taken and the cycle that it counts from, before the first operation of the order and
    after each of them, so that an order that begins alike can be placed from there on.
    """

    issue: list[int]
    marks: list[tuple[int, int]]

    @property
    def last(self) -> int:
        """Cycle of the last issue."""
        return self.marks[-1][1]

    def until(self, at: int) -> "Placement":
        """The first ``at`` operations of the order."""
        return Placement(self.issue.copy(), self.marks[: at + 1])


def improve(problems: Sequence[Problem], weights: Sequence[float], tries: int, seed: int = 0) -> list[int]:
    """An order of issue that serves several problems of the same operations: local searches from the greedy orders.

    The cost of an order is the weighted sum of the last issue cycles. Each try moves one operation to another place
    between those that it depends on and those that depend on it, and is kept unless it costs more. Each of the
    `SEARCHES` makes so many tries. Deterministic for a seed.
    """
    starts = [_Search(problems, weights, problem.order()) for problem in problems]
    starts.sort(key=lambda search: search.cost)
    searches = []
    for number in range(SEARCHES):
        search = copy(starts[number % len(starts)])
        search.run(tries, Random(seed + number))
        searches.append(search)
    return min(searches, key=lambda search: search.cost).order


class _Search:
    """A local search: the order that it has come to, how each problem's operations lie then, and the cost."""

    def __init__(self, problems: Sequence[Problem], weights: Sequence[float], order: list[int]) -> None:
        self._problems, self._weights, self.order = problems, weights, order
        self._placements = [problem.placement() for problem in problems]
        self.cost = inf
        self._take(order, 0)

    def run(self, tries: int, random: Random) -> None:
        """Try so many moves."""
        before = [set(need) for need in self._problems[0].distances]
        after = [{j for j, _ in users} for users in self._problems[0].users]
        for _ in range(tries):
            order = self.order
            at = random.randrange(len(order))
            first = last = at
            while first and order[first - 1] not in before[order[at]]:
                first -= 1
            while last + 1 < len(order) and order[last + 1] not in after[order[at]]:
                last += 1
            to = random.randint(first, last)
            if to != at:
                moved = order.copy()
                moved.insert(to, moved.pop(at))
                self._take(moved, min(at, to))

    def _take(self, order: list[int], same: int) -> None:
        """Take another order, whose first ``same`` operations are those of the present one, unless it costs more."""
        cost, placements = 0.0, []
        for problem, weight, placed in zip(self._problems, self._weights, self._placements, strict=True):
            placed = placed.until(same)
            if not problem.go_on(placed, order, (self.cost - cost) / weight):
                return
            cost += weight * placed.last
            placements.append(placed)
        self.order, self.cost, self._placements = order, cost, placements
