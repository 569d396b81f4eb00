"""Reservation table: who holds which unit or port in which cycle (Rau and Glaeser 1981)."""

import numpy as np
from lpu_isa.fields import Claim

__all__ = ["ReservationTable"]


class ReservationTable:
    """Cycles in which each resource is taken, for one straight piece of program.

    first : int
        Earliest cycle that can be asked for (may be negative: operations of the piece before still run then).
    """

    def __init__(self, first: int = -1024) -> None:
        self._first = first
        self._taken: dict[str, np.ndarray] = {}

    def _row(self, resource: str, last: int) -> np.ndarray:
        row = self._taken.get(resource)
        if row is None or len(row) <= last - self._first:
            grown = np.zeros(2 * (last - self._first) + 1024, bool)
            if row is not None:
                grown[: len(row)] = row
            self._taken[resource] = row = grown
        return row

    def is_free(self, claims: tuple[Claim, ...], issue: int) -> bool:
        """Whether an operation with these claims can be issued in cycle ``issue``."""
        for resource, cycle in claims:
            at = cycle + (issue - self._first)
            if self._row(resource, int(cycle[-1]) + issue)[at].any():
                return False
        return True

    def take(self, claims: tuple[Claim, ...], issue: int) -> None:
        """Hold everything that an operation issued in cycle ``issue`` claims."""
        for resource, cycle in claims:
            self._row(resource, int(cycle[-1]) + issue)[cycle + (issue - self._first)] = True
