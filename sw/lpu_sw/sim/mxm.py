"""Matrix unit: one matmul, a nest of two loops over weight words, activation blocks and accumulators."""

from collections.abc import Mapping

import numpy as np

from lpu_isa import mxm
from lpu_isa.faults import Fault
from lpu_isa.formats import ACCUMULATOR_BITS, ACCUMULATOR_FRACTION_BITS, ACCUMULATOR_HEADROOM
from lpu_isa.mxm import Base, Clear

from .arithmetic import accumulate, align, misaligned
from .state import TileState, Trap
from .walk import stepped

__all__ = ["Matmul"]

_ZERO = np.array(0.0)
_COUNT_MAX = (1 << mxm.COUNT_BITS) - 1


class Matmul:
    """A matmul operation, bound to a tile's state. ``op`` holds every field."""

    def __init__(self, state: TileState, op: Mapping[str, int]) -> None:
        self.state = state
        self.op = op
        self.count = 0
        config = state.config
        self._accumulate_cycle = mxm.ACCUMULATE_OFFSET + config.tree_levels
        # No sum of one step, aligned with code = base, is larger.
        self._step_limit = config.cols * 128 * 128 * 2.0**ACCUMULATOR_FRACTION_BITS
        self._entries: slice | list[int] = []
        self._totals = np.zeros((0, config.rows))
        self._base = 0

    def compute(self) -> None:
        """Read weights and activations and make the new accumulator entries. Raises `Trap`."""
        state, op = self.state, self.op
        registers = state.registers
        inner = op["inner"] + registers[op["inner_reg"]]
        outer = op["outer"] + registers[op["outer_reg"]]
        if not (1 <= inner <= _COUNT_MAX and 1 <= outer <= _COUNT_MAX):
            raise Trap(Fault.COUNT, state.cycles)
        self.count = inner * outer
        weights = self._view("weights", state.wmem, inner, outer, op["weights"] + registers[op["weights_reg"]],
                             mxm.WMEM_READ)  # fmt: skip
        act = self._view("act", state.act, inner, outer, op["act"], mxm.ACT_READ)
        codes = self._view("act", state.act_codes, inner, outer, op["act"], mxm.ACT_READ)
        self._check_range("acc", len(state.acc), inner, outer, op["acc"], self._accumulate_cycle)
        base = state.trackers[op["tracker"]] if op["base"] == Base.TRACKER else op["exponent"]
        self._base = base

        sums = np.matmul(weights, act[..., None])[..., 0]
        aligned = align(sums, codes, base)
        excess = int(codes.max()) - base
        if excess > ACCUMULATOR_HEADROOM or not self._accumulate_at_once(aligned, inner, outer, excess):
            self._accumulate_step_by_step(aligned, misaligned(codes, base))

    def commit(self) -> None:
        """Write the accumulator entries."""
        self.state.acc[self._entries] = self._totals
        self.state.acc_bases[self._entries] = self._base

    def _check_range(self, operand: str, depth: int, inner: int, outer: int, first: int, cycle: int) -> None:
        inner_reach = (inner - 1) * self.op[f"{operand}_inner"]
        outer_reach = (outer - 1) * self.op[f"{operand}_outer"]
        low = first + min(inner_reach, 0) + min(outer_reach, 0)
        high = first + max(inner_reach, 0) + max(outer_reach, 0)
        if low < 0 or high >= depth:
            addresses = mxm.steps(self.op, inner, outer, operand, first)
            step = int(np.argmax((addresses < 0) | (addresses >= depth)))
            raise Trap(Fault.ADDRESS, self.state.cycles + cycle + step)

    def _view(self, operand: str, memory: np.ndarray, inner: int, outer: int, first: int, cycle: int) -> np.ndarray:
        """The memory words of every step, (outer, inner, ...), without a copy."""
        self._check_range(operand, len(memory), inner, outer, first, cycle)
        word = memory.strides[0]
        strides = (self.op[f"{operand}_outer"] * word, self.op[f"{operand}_inner"] * word, *memory.strides[1:])
        return np.ndarray((outer, inner, *memory.shape[1:]), memory.dtype, memory.data, first * word, strides)

    def _accumulate_at_once(self, aligned: np.ndarray, inner: int, outer: int, excess: int) -> bool:
        """Sum over the loop in which the accumulator stands still; False where the walk is another one, or where an
        overflow on the way cannot be ruled out."""
        op = self.op
        inner_stands = inner == 1 or op["acc_inner"] == 0
        outer_stands = outer == 1 or op["acc_outer"] == 0
        if op["clear"] != Clear.OUTER and inner_stands and (outer == 1 or not outer_stands):
            axis, steps, entries = 1, inner, stepped(op["acc"], outer, op["acc_outer"])
        elif op["clear"] != Clear.INNER and outer_stands and (inner == 1 or not inner_stands):
            axis, steps, entries = 0, outer, stepped(op["acc"], inner, op["acc_inner"])
        else:
            return False
        totals = np.add.reduce(aligned, axis) if steps > 1 else aligned.take(0, axis)
        reach = steps * self._step_limit * 2.0**excess
        if op["clear"] == Clear.NEVER:
            totals += self.state.acc[entries]
            reach += float(np.abs(totals).max())
        if reach >= 2.0 ** (ACCUMULATOR_BITS - 1):
            return False
        totals += _ZERO  # a sum of -0 becomes +0
        self._entries, self._totals = entries, totals
        return True

    def _accumulate_step_by_step(self, aligned: np.ndarray, outside: np.ndarray) -> None:
        """The definition: one step after the other into one entry each. Raises `Trap` ACCUMULATOR."""
        op, state = self.op, self.state
        outer, inner = outside.shape
        entries: dict[int, np.ndarray] = {}
        walk = mxm.steps(op, inner, outer, "acc", op["acc"]).tolist()
        for step, entry in enumerate(walk):
            index = divmod(step, inner)
            clear = (op["clear"] == Clear.INNER and index[1] == 0) or (op["clear"] == Clear.OUTER and index[0] == 0)
            old = np.zeros(state.config.rows) if clear else entries.get(entry, state.acc[entry])
            entries[entry], faults = accumulate(old, aligned[index])
            if outside[index] or faults.any():
                raise Trap(Fault.ACCUMULATOR, state.cycles + self._accumulate_cycle + step)
        self._entries = list(entries)
        self._totals = np.array(list(entries.values())) + _ZERO
