"""The chain of a pass: its units as a list of NumPy calls, bound once to their operands and to room for their results.

That is the fast half of the vector unit: a call costs NumPy a microsecond, whatever it computes, and Python as much to
look for its operands, so all that stays the same from issue to issue is looked for once.
"""

import sys
from collections.abc import Callable
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from lpu_isa.tables import Function

from .arithmetic import (
    ACCUMULATOR_UNIT,
    SETTLED_BASES,
    SMALLEST,
    TOO_LARGE,
    Arithmetic,
    BlockQuantiser,
    IntegerQuantiser,
    SumReducer,
)

__all__ = ["Call", "Chain", "Unit"]

Call = Callable[[], object]

_MOST_CHECKED = 5
"""Results of a chain that settling might change: of the multiplier, adder, function, gain and squares."""
_ZERO = np.array(0.0)
_TOP_BYTE = 7 if sys.byteorder == "little" else 0
"""Which byte of a float64 holds its sign and the upper bits of its exponent."""


def _settled_bytes() -> bytes:
    """Top bytes of a float64 that settling leaves alone, whatever is below; no result is so small that it has that of
    zero without being zero."""
    starts = (np.arange(1 << 7, dtype=np.uint64) << np.uint64(56)).view(np.float64)
    is_settled = (starts[:-1] >= SMALLEST) & (starts[1:] <= TOO_LARGE)
    positive = [0, *np.flatnonzero(is_settled).tolist()]
    return bytes([*positive, *(0x80 | byte for byte in positive)])


_SETTLED_BYTES = _settled_bytes()


class Unit(NamedTuple):
    """A unit of the chain.

    calls : make ``out`` of ``x``. ready : cycle, after issue, in which the first result is there.
    function : what it looks up, if anything.
    """

    calls: list[Call]
    x: np.ndarray
    out: np.ndarray
    ready: int
    function: Function = Function.NONE


class Chain:
    """Units that are added in their order; all vectors pass through one before the next one begins.

    Results are left unsettled (see `lpu_sw.sim.arithmetic`): `is_settled` says whether that changes any of them.
    Operands are given as arrays, with the calls that bring their values there.

    arithmetic : of the tile. count, rows : shape of the vectors. block : vectors of a block of the quantiser; the room
    of results is filled up with zeros to a whole number of blocks. make_quantiser : its class.

    Attributes
    ----------
    calls : everything, in order
    units : the same by unit, without what brings the source
    result : float64 (count, rows), and squares : the same, made beside it; empty if they were not added
    """

    def __init__(
        self,
        arithmetic: Arithmetic,
        count: int,
        rows: int,
        block: int,
        make_quantiser: type[BlockQuantiser | IntegerQuantiser],
    ) -> None:
        self.arithmetic = arithmetic
        self._make_quantiser = make_quantiser
        self.calls: list[Call] = []
        self.units: list[Unit] = []
        self.result = self.squares = np.empty((0, rows))
        self._count, self._rows, self._block = count, rows, block
        self._scratch = np.empty((count, rows))
        # Results to be checked lie side by side, to be looked at all at once.
        self._room = np.zeros((_MOST_CHECKED, count + -count % block, rows))
        self._last = self._room[0]
        self._n_checked = 0
        self._is_unsure = False
        self._function_input: np.ndarray | None = None

    def start(self, source: np.ndarray, calls: list[Call]) -> None:
        """Begin with the source's vectors, (count, rows)."""
        self.result = source
        self.calls += calls

    def _add(self, calls: list[Call], out: np.ndarray, ready: int, function: Function = Function.NONE) -> None:
        self.units.append(Unit(calls, self.result, out, ready, function))
        self.calls += calls
        self.result = out

    def _checked_out(self) -> np.ndarray:
        self._last = self._room[self._n_checked]
        self._n_checked += 1
        self._checked = self._room[: self._n_checked].reshape(-1)
        return self._last[: self._count]

    def _free_out(self) -> np.ndarray:
        self._last = np.zeros_like(self._room[0])
        return self._last[: self._count]

    def add_copy(self, ready: int) -> None:
        """Results that are the input."""
        out = self._free_out()
        self._add([partial(np.copyto, out, self.result)], out, ready)

    def add_conversion(self, bases: np.ndarray, calls: list[Call], ready: int) -> None:
        """Accumulator sums, integers, to floats; ``bases``: the base code of each vector, (count,)."""
        out, units, known = self._free_out(), np.empty_like(self._scratch), [-1]

        def find_units() -> None:
            codes = bases.tolist()
            if codes != known:
                known[:] = codes
                units[...] = ACCUMULATOR_UNIT.take(codes)[:, None]
                self._is_unsure = min(codes) not in SETTLED_BASES or max(codes) not in SETTLED_BASES

        convert = partial(np.multiply, self.result, units, self._scratch)
        self._add([*calls, find_units, convert, *self.arithmetic.nearest_calls(self._scratch, out)], out, ready)

    def add_rounded(self, operation: np.ufunc, operand: np.ndarray, calls: list[Call], ready: int) -> None:
        """``operation`` of the input and an operand, rounded once."""
        out = self._checked_out()
        operate = partial(operation, self.result, operand, self._scratch)
        self._add([*calls, operate, *self.arithmetic.nearest_calls(self._scratch, out)], out, ready)

    def add_function(self, function: Function, ready: int) -> None:
        """A function of the input."""
        out = self._free_out() if function is Function.SIGMOID else self._checked_out()
        self._function_input = self.result
        self._add(self.arithmetic.functions.calls(function, self.result, out), out, ready, function)

    def add_gain_by_itself(self, ready: int) -> None:
        """The input times what was looked up; its square where nothing was."""
        factor = self.result if self._function_input is None else self._function_input
        self.add_rounded(np.multiply, factor, [], ready)

    def add_relu(self, ready: int) -> None:
        """The input, or +0 where that is negative or zero."""
        out = self._free_out()
        self._add([partial(np.maximum, self.result, _ZERO, out=out), partial(np.add, out, _ZERO, out)], out, ready)

    def add_squares(self) -> None:
        """Squares of the results, made by `square`."""
        last = self._last
        self.squares = self._checked_out()
        self._last = last
        square = partial(np.multiply, self.result, self.result, self._scratch)
        self._square = [square, *self.arithmetic.nearest_calls(self._scratch, self.squares)]

    def square(self) -> None:
        """Make the squares."""
        for call in self._square:
            call()

    @cached_property
    def quantiser(self) -> BlockQuantiser | IntegerQuantiser:
        """Of the results by block, the last block filled up with zeros."""
        return self._make_quantiser(self._last.reshape(-1, self._block * self._rows))

    @cached_property
    def reducer(self) -> SumReducer:
        """Of the squares, if they were added, or the results."""
        return SumReducer(self.arithmetic, self.squares if len(self.squares) else self.result)

    def is_settled(self) -> bool:
        """Whether `Arithmetic.settle` is sure to change no result of the units and no square."""
        if self._is_unsure:
            return False
        return not self._n_checked or not self._checked.tobytes()[_TOP_BYTE::8].translate(None, _SETTLED_BYTES)
