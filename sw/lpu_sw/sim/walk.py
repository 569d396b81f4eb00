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

    The first one is used ``cycle`` cycles after the operation's issue. A step outside the memory is a `Trap` ADDRESS,
    added to ``traps``; it reads zeros, so that what else goes wrong in earlier cycles can be seen.
    """

    def __init__(
        self,
        state: TileState,
        memory: np.ndarray,
        first: int,
        register: int,
        stride: int,
        cycle: int,
        traps: list[Trap],
    ) -> None:
        self._state = state
        self._registers = state.registers
        self._memory = memory
        self._base = first
        self._register = register
        self._stride = stride
        self._cycle = cycle
        self._traps = traps
        self._read: dict[tuple[int, int], np.ndarray] = {}
        self._written: dict[tuple[int, int], np.ndarray] = {}

    @property
    def is_fixed(self) -> bool:
        """Whether no register moves it."""
        return self._register == 0

    def room(self, count: int) -> np.ndarray:
        """An array for the words of ``count`` steps."""
        return np.empty((count, *self._memory.shape[1:]), self._memory.dtype)

    def words(self, count: int, interval: int = 1) -> np.ndarray:
        """A view of the words of ``count`` steps, to be read; ``interval`` cycles lie from one to the next."""
        first = self._base + self._registers[self._register]
        view = self._read.get((first, count))
        if view is None:
            if self.is_outside(count):
                self._note_trap(first, count, interval)
                addresses = first + np.arange(count) * self._stride
                words = self._memory.take(addresses, axis=0, mode="clip")
                words[(addresses < 0) | (addresses >= len(self._memory))] = 0
                return words
            word = self._memory.strides[0]
            view = self._read[first, count] = np.ndarray(
                (count, *self._memory.shape[1:]),
                self._memory.dtype,
                self._memory.data,
                first * word,
                (self._stride * word, *self._memory.strides[1:]),
            )
        return view

    def written(self, count: int, interval: int = 1) -> np.ndarray:
        """As `words`, to be written: one word alone where the stride is 0, which is to receive the last of them."""
        first = self._base + self._registers[self._register]
        view = self._written.get((first, count))
        if view is None:
            if self.is_outside(count):
                self._note_trap(first, count, interval)
                return np.zeros((count, *self._memory.shape[1:]), self._memory.dtype)
            view = self._written[first, count] = self._memory[stepped(first, count, self._stride)]
        return view

    def is_outside(self, count: int) -> bool:
        """Whether a step of ``count`` is outside the memory."""
        first, depth = self._base + self._registers[self._register], len(self._memory)
        return not (0 <= first < depth and 0 <= first + (count - 1) * self._stride < depth)

    def _note_trap(self, first: int, count: int, interval: int) -> None:
        step = next(k for k in range(count) if not 0 <= first + k * self._stride < len(self._memory))
        self._traps.append(Trap(Fault.ADDRESS, self._state.cycles + self._cycle + step * interval))
