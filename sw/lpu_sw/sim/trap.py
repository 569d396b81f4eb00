"""Traps of compiled functions: one number each, so that the one that counts is the smallest."""

from lpu_isa.faults import Fault

from .compiled import compiled
from .state import Trap

__all__ = ["NO_TRAP", "earlier", "raise_trap"]

_CODES = 16
NO_TRAP = 1 << 62
"""Any other one is the cycle, counted from issue, times 16, and the fault's code."""


@compiled
def earlier(trap, is_fault, cycle, fault):
    """A trap, or another that is noted if ``is_fault`` and comes earlier, or in the same cycle with a lower code."""
    return min(trap, cycle * _CODES + fault) if is_fault else trap


def raise_trap(trap: int, issue: int) -> None:
    """Raise the `Trap` of an operation, if there is one; ``issue``: the operation's cycle."""
    if trap != NO_TRAP:
        raise Trap(Fault(trap % _CODES), issue + trap // _CODES)
