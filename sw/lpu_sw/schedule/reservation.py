"""Reservation table: who holds which unit or port in which cycle (Rau and Glaeser 1981)."""

from lpu_isa.fields import Use

__all__ = ["MOST_RESOURCES", "Claims", "ReservationTable", "claims_of"]

Claims = int
"""Resources that an operation holds: bit ``c * MOST_RESOURCES + r`` is set where resource r is held in cycle
``issue + c``. One integer, since a search asks for conflicts a million times."""

MOST_RESOURCES = 32

_numbers: dict[str, int] = {}
"""Resources by the order in which they were first seen."""


def claims_of(*cases: Use) -> Claims:
    """The claims of an operation: everything that it may hold in one case or another."""
    held = 0
    for use in cases:
        for resource, cycle in use.claims:
            number = _numbers.setdefault(resource, len(_numbers))
            assert number < MOST_RESOURCES
            for c in cycle.tolist():
                held |= 1 << c * MOST_RESOURCES + number
    return held


class ReservationTable:
    """Cycles in which each resource is taken, for one straight piece of program.

    first : int
        Earliest cycle that can be asked for (may be negative: operations of the piece before still run then).
    """

    def __init__(self, first: int = -1024) -> None:
        self._first = first
        self._taken = 0

    def is_free(self, claims: Claims, issue: int) -> bool:
        """Whether an operation with these claims can be issued in cycle ``issue``."""
        return not (self._taken >> (issue - self._first) * MOST_RESOURCES) & claims

    def take(self, claims: Claims, issue: int) -> None:
        """Hold everything that an operation issued in cycle ``issue`` claims."""
        self._taken |= claims << (issue - self._first) * MOST_RESOURCES
