"""Walk: the memory words of one operand, a first one and a stride a step."""

import numpy as np

from lpu_isa.faults import Fault

from .state import TileState, Trap

__all__ = ["Walk", "stepped"]


def stepped(first: int, count: int, stride: int) -> slice:
    """``count`` addresses from ``first`` on as a slice; the one address that they all are where the stride is 0."""
    if stride == 0:
        return slice(first, first + 1)
    stop = first + count * stride
    return slice(first, stop if stop >= 0 else None, stride)


class Walk:
    """Words ``first + register + step * stride`` of a memory.

    The first one is used ``cycle`` cycles after the operation's issue.
    """

    def __init__(
        self, state: TileState, memory: np.ndarray, first: int, register: int, stride: int, cycle: int
    ) -> None:
        self._state = state
        self._memory = memory
        self._base = first
        self._register = register
        self._stride = stride
        self._cycle = cycle
        self._views: dict[tuple[int, int], np.ndarray] = {}

    def words(self, count: int, interval: int = 1) -> np.ndarray:
        """A view of the words of ``count`` steps; of one word where the stride is 0.

        Raises `Trap` ADDRESS in the cycle of the first step that is outside the memory.
        """
        first = self._base + self._state.registers[self._register]
        view = self._views.get((first, count))
        if view is None:
            last = first + (count - 1) * self._stride
            depth = len(self._memory)
            if not (0 <= first < depth and 0 <= last < depth):
                step = next(k for k in range(count) if not 0 <= first + k * self._stride < depth)
                raise Trap(Fault.ADDRESS, self._state.cycles + self._cycle + step * interval)
            view = self._views[first, count] = self._memory[stepped(first, count, self._stride)]
        return view
