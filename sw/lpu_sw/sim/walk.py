"""Walk: the addresses of one operand, a first one and a stride a step."""

from lpu_isa.faults import Fault

from .state import TileState, Trap

__all__ = ["Walk", "stepped"]


def stepped(first: int, count: int, stride: int) -> slice:
    """``count`` addresses from ``first`` on as a slice; the one address that they all are where the stride is 0."""
    if stride == 0:
        return slice(first, first + 1)
    last = first + (count - 1) * stride
    stop = last + (1 if stride > 0 else -1)
    return slice(first, stop if stop >= 0 else None, stride)


class Walk:
    """Addresses ``first + register + step * stride`` of a memory of ``depth`` words.

    The first one is used ``cycle`` cycles after the operation's issue.
    """

    def __init__(self, state: TileState, depth: int, first: int, register: int, stride: int, cycle: int) -> None:
        self.state = state
        self.depth = depth
        self.base = first
        self.register = register
        self.stride = stride
        self.cycle = cycle

    def first(self) -> int:
        """Address of step 0, as the register stands now."""
        return self.base + self.state.registers[self.register]

    def addresses(self, count: int, interval: int = 1) -> slice:
        """The addresses of ``count`` steps; `Trap` ADDRESS in the cycle of the first that is outside the memory."""
        first = self.first()
        last = first + (count - 1) * self.stride
        if not (0 <= first < self.depth and 0 <= last < self.depth):
            step = next(k for k in range(count) if not 0 <= first + k * self.stride < self.depth)
            raise Trap(Fault.ADDRESS, self.state.cycles + self.cycle + step * interval)
        return stepped(first, count, self.stride)
