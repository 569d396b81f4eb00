"""List scheduling of one straight piece of program: one operation a bundle, urgent ones first."""

import heapq
from collections.abc import Mapping, Sequence
from random import Random

from lpu_isa.fields import Use

from .dependences import Distances, dependences
from .reservation import ReservationTable, claims_of

__all__ = ["Problem", "improve"]


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
        table = ReservationTable(min(self.fixed.values(), default=0))
        issue = [0] * len(self.distances)
        for i, cycle in self.fixed.items():
            issue[i] = cycle
            table.take(self._claims[i], cycle)
        cycle = -1
        for i in order:
            cycle += 1
            for k, distance in self.distances[i].items():
                if issue[k] + distance > cycle:
                    cycle = issue[k] + distance
            claims = self._claims[i]
            while not table.is_free(claims, cycle):
                cycle += 1
            issue[i] = cycle
            table.take(claims, cycle)
        return issue


def improve(problems: Sequence[Problem], weights: Sequence[float], tries: int, seed: int = 0) -> list[int]:
    """An order of issue that serves several problems of the same operations: local search from the best greedy one.

    The cost of an order is the weighted sum of the last issue cycles. Each try moves one operation to another place
    between those that it depends on and those that depend on it, and is kept unless it costs more. Deterministic for a
    seed.
    """
    random = Random(seed)

    def cost(order: Sequence[int]) -> float:
        return sum(w * max(problem.place(order)) for problem, w in zip(problems, weights, strict=True))

    best_order = min((problem.order() for problem in problems), key=cost)
    best = cost(best_order)
    before = [set(need) for need in problems[0].distances]
    after = [{j for j, _ in users} for users in problems[0].users]
    for _ in range(tries):
        at = random.randrange(len(best_order))
        i = best_order[at]
        first = next((k + 1 for k in reversed(range(at)) if best_order[k] in before[i]), 0)
        last = next((k - 1 for k in range(at + 1, len(best_order)) if best_order[k] in after[i]), len(best_order) - 1)
        to = random.randint(first, last)
        if to == at:
            continue
        order = best_order.copy()
        order.insert(to, order.pop(at))
        if (now := cost(order)) <= best:
            best, best_order = now, order
    return best_order
