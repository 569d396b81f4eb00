"""Matrix unit: one matmul, a nest of two loops over weight words, activation blocks and accumulators."""

from collections.abc import Mapping

import numpy as np

from lpu_isa import mxm
from lpu_isa.faults import Fault
from lpu_isa.mxm import ACT_READ, WMEM_READ, Base, Clear

from .compiled import compiled, record
from .scalar import align, fits_accumulator, is_misaligned
from .state import TileState, Trap
from .trap import NO_TRAP, earlier, raise_trap

__all__ = ["Matmul"]

_COUNT_MAX = (1 << mxm.COUNT_BITS) - 1


class Matmul:
    """A matmul operation, bound to a tile's state. ``op`` holds every field."""

    def __init__(self, state: TileState, op: Mapping[str, int]) -> None:
        self.state = state
        self.op = op
        self.count = 0
        """Steps of the last issue."""
        config = state.config
        self._record = record({**op, "accumulate": mxm.accumulate_cycle(config), "summed": config.summed})
        self._base = 0
        self._sums = np.empty_like(state.acc)
        """By entry, what it is to hold, and whether it is to change."""
        self._is_touched = np.zeros(len(state.acc), np.bool_)

    def compute(self) -> None:
        """Read weights and activations and make the new accumulator entries. Raises the `Trap` that comes first."""
        state, op = self.state, self.op
        registers = state.registers
        inner, outer = op["inner"] + registers[op["inner_reg"]], op["outer"] + registers[op["outer_reg"]]
        if not (1 <= inner <= _COUNT_MAX and 1 <= outer <= _COUNT_MAX):
            raise Trap(Fault.COUNT, state.cycles)
        self.count = inner * outer
        self._base = state.trackers[op["tracker"]] if op["base"] == Base.TRACKER else op["exponent"]
        weights = op["weights"] + registers[op["weights_reg"]]
        trap = _multiply(self._record, inner, outer, weights, self._base, state.wmem, state.act, state.act_codes,
                         state.acc, self._sums, self._is_touched)  # fmt: skip
        raise_trap(trap, state.cycles)

    def commit(self) -> None:
        """Write the accumulator entries."""
        _write(self._sums, self._is_touched, self._base, self.state.acc, self.state.acc_bases)


@compiled
def _multiply(ops, inner, outer, first, base, wmem, act, act_codes, acc, sums, is_touched):
    """Step by step, as the ISA defines it; returns the first trap."""
    op, trap = ops[0], NO_TRAP
    rows, cols = wmem.shape[1:]
    is_touched[:] = False
    last = -1
    for o in range(outer):
        for i in range(inner):
            step = o * inner + i
            word = first + o * op.weights_outer + i * op.weights_inner
            block = op.act + o * op.act_outer + i * op.act_inner
            entry = op.acc + o * op.acc_outer + i * op.acc_inner
            adds = op.clear == Clear.NEVER or (op.clear == Clear.INNER and i > 0) or (op.clear == Clear.OUTER and o > 0)
            is_unsummed = adds and entry != last and entry >= op.summed
            last = entry
            is_wrong = not 0 <= entry < len(acc) or is_unsummed
            trap = earlier(trap, not 0 <= word < len(wmem), WMEM_READ + step, Fault.ADDRESS)
            trap = earlier(trap, not 0 <= block < len(act), ACT_READ + step, Fault.ADDRESS)
            trap = earlier(trap, is_wrong, op.accumulate + step, Fault.ADDRESS)
            if is_wrong or not 0 <= word < len(wmem) or not 0 <= block < len(act):
                continue
            code = act_codes[block]
            fits = not is_misaligned(code, base)
            for row in range(rows):
                total = 0.0
                for col in range(cols):
                    total += wmem[word, row, col] * act[block, col]
                before = 0.0
                if adds:
                    before = sums[entry, row] if is_touched[entry] else acc[entry, row]
                total = before + align(total, code, base)
                fits = fits and fits_accumulator(total)
                sums[entry, row] = total
            is_touched[entry] = True
            trap = earlier(trap, not fits, op.accumulate + step, Fault.ACCUMULATOR)
    return trap


@compiled
def _write(sums, is_touched, base, acc, bases):
    for entry in range(len(acc)):
        if is_touched[entry]:
            bases[entry] = base
            for row in range(acc.shape[1]):
                acc[entry, row] = sums[entry, row]
