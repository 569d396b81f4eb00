"""Matrix unit: one matmul, a nest of two loops over weight words, activation blocks and accumulators.

Nearly every matmul walks groups of rows along one loop and blocks of activations along the other, and adds up each
group over the blocks. Such a nest is computed as a whole, provided that no sum on the way can overflow. Every other
one is computed step by step, as the ISA defines it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lpu_isa import mxm
from lpu_isa.faults import Fault
from lpu_isa.formats import (
    ACCUMULATOR_BITS,
    ACCUMULATOR_FRACTION_BITS,
    ACCUMULATOR_HEADROOM,
    EXPONENT_BIAS,
)
from lpu_isa.mxm import Base, Clear

from .arithmetic import BLOCK_UNIT, accumulate, align, misaligned
from .state import TileState, Trap
from .walk import stepped

__all__ = ["Matmul"]

_ZERO = np.array(0.0)
_COUNT_MAX = (1 << mxm.COUNT_BITS) - 1
_LIMIT = 2.0 ** (ACCUMULATOR_BITS - 1)
_ACTIVATION_SCALE = [np.array(2.0 ** (EXPONENT_BIAS + ACCUMULATOR_FRACTION_BITS - base)) for base in range(256)]
"""What turns the value of an activation into units of an accumulator, by base code."""


class _Nest(NamedTuple):
    """Views of the memories for a nest of ``blocks`` x ``groups`` steps whose sums over the blocks are wanted.

    weights : (blocks, groups * rows, cols), or (blocks, groups, rows, cols) where words do not lie side by side
    act : (blocks, cols, 1), or (blocks, groups, cols, 1)
    codes : (blocks,), or (blocks, groups) where every step has a block of its own
    entries : (groups, rows) of the accumulators, and bases : (groups,)
    sums, totals : room for what the matrix unit makes, (blocks, groups * rows), and for what is left of it,
        (groups * rows,); given to NumPy, they save it a third of its time
    """

    blocks: int
    groups: int
    weights: np.ndarray
    act: np.ndarray
    codes: np.ndarray
    entries: np.ndarray
    bases: np.ndarray
    sums: np.ndarray
    totals: np.ndarray


class Matmul:
    """A matmul operation, bound to a tile's state. ``op`` holds every field."""

    def __init__(self, state: TileState, op: Mapping[str, int]) -> None:
        self.state = state
        self.op = op
        self.count = 0
        """Steps of the last issue."""
        self._accumulate_cycle = mxm.ACCUMULATE_OFFSET + state.config.tree_levels
        # No sum of one step, aligned with code = base, is larger.
        self._step_limit = state.config.cols * 128 * 128 * 2.0**ACCUMULATOR_FRACTION_BITS
        self._adds = op["clear"] == Clear.NEVER
        self._nests: dict[tuple[int, int, int], _Nest | None] = {}
        self._entries = state.acc[:0]
        self._bases = state.acc_bases[:0]
        self._totals = state.acc[:0]
        self._base: int = 0
        self._new_bases: int | np.ndarray = 0

    def compute(self) -> None:
        """Read weights and activations and make the new accumulator entries. Raises `Trap`."""
        state, op = self.state, self.op
        registers = state.registers
        inner = op["inner"] + registers[op["inner_reg"]]
        outer = op["outer"] + registers[op["outer_reg"]]
        first = op["weights"] + registers[op["weights_reg"]]
        key = (inner, outer, first)
        if key not in self._nests:
            self._check_range(inner, outer, first)
            self._nests[key] = self._nest(inner, outer, first)
        self.count = inner * outer
        self._base = state.trackers[op["tracker"]] if op["base"] == Base.TRACKER else op["exponent"]
        nest = self._nests[key]
        if nest is None or not self._compute_nest(nest):
            self._compute_steps(inner, outer, first)

    def commit(self) -> None:
        """Write the accumulator entries."""
        self._entries[...] = self._totals
        self._bases[...] = self._new_bases

    def _check_range(self, inner: int, outer: int, first: int) -> None:
        """Raise the first `Trap` of counts and addresses, if any."""
        op, state = self.op, self.state
        if not (1 <= inner <= _COUNT_MAX and 1 <= outer <= _COUNT_MAX):
            raise Trap(Fault.COUNT, state.cycles)
        late = []
        for operand, start, memory, cycle in (
            ("weights", first, state.wmem, mxm.WMEM_READ),
            ("act", op["act"], state.act, mxm.ACT_READ),
            ("acc", op["acc"], state.acc, self._accumulate_cycle),
        ):
            addresses = mxm.steps(op, inner, outer, operand, start)
            outside = (addresses < 0) | (addresses >= len(memory))
            if outside.any():
                late.append(state.cycles + cycle + int(outside.argmax()))
        if late:
            raise Trap(Fault.ADDRESS, min(late))

    def _nest(self, inner: int, outer: int, first: int) -> _Nest | None:
        """The views, if one loop is that of the blocks and the other that of the groups."""
        counts = {"inner": inner, "outer": outer}
        for block_loop, group_loop, clear in (("inner", "outer", Clear.INNER), ("outer", "inner", Clear.OUTER)):
            blocks, groups = counts[block_loop], counts[group_loop]
            stride = {name: (self.op[f"{name}_{block_loop}"] * (blocks > 1), self.op[f"{name}_{group_loop}"])
                      for name in ("weights", "act", "acc")}  # fmt: skip
            sums = stride["acc"][0] == 0 and (groups == 1 or stride["acc"][1] != 0)
            if sums and self.op["clear"] in (Clear.NEVER, clear):
                return self._views(blocks, groups, first, stride)
        return None

    def _views(self, blocks: int, groups: int, first: int, stride: dict[str, tuple[int, int]]) -> _Nest:
        state, rows, cols = self.state, self.state.config.rows, self.state.config.cols

        def view(memory: np.ndarray, start: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
            """Strides in memory words for the loops, as inside a word for the rest."""
            word = memory.strides[0]
            byte_strides = (*(s * word for s in strides), *memory.strides[1:][len(strides) - len(shape) :])
            return np.ndarray(shape, memory.dtype, memory.data, start * word, byte_strides)

        act_block, act_group = stride["act"]
        weights_block, weights_group = stride["weights"]
        if (act_group == 0 or groups == 1) and (weights_group == 1 or groups == 1):
            weights = view(state.wmem, first, (blocks, groups * rows, cols), (weights_block,))
            loops, act_strides = (blocks,), (act_block,)
        else:
            weights = view(state.wmem, first, (blocks, groups, rows, cols), (weights_block, weights_group))
            loops, act_strides = (blocks, groups), (act_block, act_group)
        act = view(state.act, self.op["act"], (*loops, cols), act_strides)[..., None]
        codes = view(state.act_codes, self.op["act"], loops, act_strides)
        entries = stepped(self.op["acc"], groups, stride["acc"][1])
        sums, totals = np.empty((blocks, groups * rows)), np.empty(groups * rows)
        return _Nest(blocks, groups, weights, act, codes, state.acc[entries], state.acc_bases[entries], sums, totals)

    def _compute_nest(self, nest: _Nest) -> bool:
        """The whole nest at once; False where an overflow on the way cannot be ruled out."""
        base = self._base
        codes = [code for code in nest.codes.ravel().tolist() if code] or [base]
        excess = max(codes) - base
        reach = nest.blocks * self._step_limit * 2.0**excess
        if excess > ACCUMULATOR_HEADROOM or reach >= _LIMIT:
            return False
        sums = nest.sums
        np.matmul(nest.weights, nest.act, out=sums.reshape(*nest.weights.shape[:-1], 1))
        if nest.codes.ndim == 1 and min(codes) >= base - ACCUMULATOR_FRACTION_BITS:
            # All shifts are to the left: nothing is floored, and the sum over the blocks is a product itself.
            scale = BLOCK_UNIT[nest.codes] * _ACTIVATION_SCALE[base]
            totals = scale.dot(sums, out=nest.totals).reshape(nest.entries.shape)
        else:
            steps = sums.reshape(nest.blocks, *nest.entries.shape)
            totals = np.add.reduce(align(steps, nest.codes.reshape(nest.blocks, -1), base), axis=0)
        # A sum of -0 becomes +0.
        totals += nest.entries if self._adds else _ZERO
        if self._adds and np.vdot(totals, totals) >= (_LIMIT - reach) ** 2:
            return False
        self._entries, self._totals = nest.entries, totals
        self._bases, self._new_bases = nest.bases, base
        return True

    def _compute_steps(self, inner: int, outer: int, first: int) -> None:
        """The definition: one step after the other into one entry each. Raises `Trap` ACCUMULATOR."""
        op, state = self.op, self.state
        blocks = mxm.steps(op, inner, outer, "act", op["act"])
        codes = state.act_codes[blocks]
        weights = state.wmem[mxm.steps(op, inner, outer, "weights", first)]
        aligned = align(np.matmul(weights, state.act[blocks][..., None])[..., 0], codes, self._base)
        outside = misaligned(codes, self._base)
        entries = state.acc.copy()
        touched = mxm.steps(op, inner, outer, "acc", op["acc"])
        for step, entry in enumerate(touched.tolist()):
            loop = {Clear.NEVER: 1, Clear.INNER: step % inner, Clear.OUTER: step // inner}[Clear(op["clear"])]
            entries[entry], faults = accumulate(entries[entry] if loop else _ZERO, aligned[step])
            if outside[step] or faults.any():
                raise Trap(Fault.ACCUMULATOR, state.cycles + self._accumulate_cycle + step)
        self._entries, self._totals = state.acc, entries + _ZERO
        bases = state.acc_bases.copy()
        bases[touched] = self._base
        self._bases, self._new_bases = state.acc_bases, bases
