"""Reservation table: who holds which unit or port in which cycle (Rau and Glaeser 1981)."""

from collections import defaultdict

from lpu_isa.fields import Use

__all__ = ["Claims", "ReservationTable", "claims_of"]

Claims = tuple[tuple[str, int], ...]
"""Resources that an operation holds, each with a mask: bit c is set for the cycle ``issue + c``."""


def claims_of(*cases: Use) -> Claims:
    """The claims of an operation as masks: everything that it may hold in one case or another."""
    masks: defaultdict[str, int] = defaultdict(int)
    for use in cases:
        for resource, cycle in use.claims:
            for c in cycle.tolist():
                masks[resource] |= 1 << c
    return tuple(masks.items())


class ReservationTable:
    """Cycles in which each resource is taken, for one straight piece of program.

    first : int
        Earliest cycle that can be asked for (may be negative: operations of the piece before still run then).
    """

    def __init__(self, first: int = -1024) -> None:
        self._first = first
        self._taken: defaultdict[str, int] = defaultdict(int)

    def is_free(self, claims: Claims, issue: int) -> bool:
        """Whether an operation with these claims can be issued in cycle ``issue``."""
        at = issue - self._first
        return not any((self._taken[resource] >> at) & mask for resource, mask in claims)

    def take(self, claims: Claims, issue: int) -> None:
        """Hold everything that an operation issued in cycle ``issue`` claims."""
        at = issue - self._first
        for resource, mask in claims:
            self._taken[resource] |= mask << at
