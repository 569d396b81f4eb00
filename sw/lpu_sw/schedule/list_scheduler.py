"""List scheduling of one straight piece of program: one operation a bundle, urgent ones first."""

from collections.abc import Sequence

from lpu_isa.fields import Use

from .dependences import Distances
from .reservation import ReservationTable

__all__ = ["list_schedule", "place_in_order"]


def list_schedule(uses: Sequence[Use], distances: Distances, fixed: dict[int, int]) -> list[int]:
    """Issue cycle of each operation, one issue a cycle at most, greedy by longest path to the end.

    fixed: operations whose issue cycle is given (they belong to the piece before); all others get a cycle >= 0.
    """
    count = len(uses)
    users: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for j, need in enumerate(distances):
        for i, distance in need.items():
            users[i].append((j, distance))
    end = [max((int(a.cycle.max()) for a in use.accesses if a.write), default=0) for use in uses]
    urgency = [0] * count
    for i in reversed(range(count)):
        urgency[i] = max([end[i]] + [distance + urgency[j] for j, distance in users[i]])
    table = ReservationTable()
    issue = [0] * count
    ready = [0] * count
    missing = [len(need) for need in distances]
    able: set[int] = set()

    def placed(i: int, cycle: int) -> None:
        issue[i] = cycle
        table.take(uses[i].claims, cycle)
        for j, distance in users[i]:
            ready[j] = max(ready[j], cycle + distance)
            missing[j] -= 1
            if not missing[j] and j not in fixed:
                able.add(j)

    able.update(i for i in range(count) if not missing[i] and i not in fixed)
    for i in sorted(fixed):
        placed(i, fixed[i])
    cycle = 0
    while able:
        for i in sorted((i for i in able if ready[i] <= cycle), key=lambda i: (-urgency[i], i)):
            if table.is_free(uses[i].claims, cycle):
                able.remove(i)
                placed(i, cycle)
                break
        cycle += 1
    return issue


def place_in_order(
    uses: Sequence[Use], distances: Distances, order: Sequence[int], fixed: dict[int, int]
) -> list[int]:
    """Issue cycle of each operation when they are issued in ``order``, each as early as it can be.

    ``order`` holds every operation that is not ``fixed``; it may differ from the order of meaning as far as the
    distances allow.
    """
    table = ReservationTable()
    issue = [0] * len(uses)
    for i, cycle in fixed.items():
        issue[i] = cycle
        table.take(uses[i].claims, cycle)
    cycle = -1
    for i in order:
        cycle = max([cycle + 1] + [issue[k] + distance for k, distance in distances[i].items()])
        while not table.is_free(uses[i].claims, cycle):
            cycle += 1
        issue[i] = cycle
        table.take(uses[i].claims, cycle)
    return issue
