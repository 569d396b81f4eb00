"""Matrix unit: one matmul, a nest of two loops over weight words, activation blocks and accumulators.

Nearly every matmul walks groups of rows along one loop and blocks of activations along the other, and adds up each
group over the blocks. Such a nest is computed as a whole, provided that no sum on the way can overflow. Every other
one is computed step by step, as the ISA defines it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import EllipsisType
from typing import Literal

import numpy as np

from lpu_isa import mxm
from lpu_isa.faults import Fault
from lpu_isa.formats import (
    ACCUMULATOR_BITS,
    ACCUMULATOR_FRACTION_BITS,
    ACCUMULATOR_HEADROOM,
)
from lpu_isa.mxm import Base, Clear

from .arithmetic import ACCUMULATOR_UNIT, BLOCK_UNIT, accumulate, align, misaligned
from .state import TileState, Trap
from .walk import stepped

__all__ = ["Matmul"]

_ZERO = np.array(0.0)
_COUNT_MAX = (1 << mxm.COUNT_BITS) - 1
_LIMIT = 2.0 ** (ACCUMULATOR_BITS - 1)
_SCALES = list(BLOCK_UNIT / ACCUMULATOR_UNIT[:, None])
"""What turns the product of a block into units of an accumulator: by the latter's base code, by block code."""


@dataclass(slots=True)
class _Nest:
    """Views of the memories for a nest of ``blocks`` x ``groups`` steps whose sums over the blocks are wanted.

    multiply : makes the products of all steps, in ``sums``
    codes : of the activations, (blocks,), or (blocks, groups) where every step has a block of its own
    is_shared : whether all groups share the block
    entries : (groups, rows) of the accumulators, and bases : (groups,)
    reach : no sum of the nest, with all codes equal to the base, is larger
    excess : with a code that is larger by more than that, an overflow on the way cannot be ruled out
    sums : room for what the matrix unit makes, (blocks, groups * rows)
    totals : room for the sums over the blocks, (groups, rows), and flat : the same, (groups * rows,)
    """

    blocks: int
    multiply: Callable[[], object]
    codes: np.ndarray
    is_shared: bool
    entries: np.ndarray
    bases: np.ndarray
    reach: float
    excess: int
    sums: np.ndarray
    totals: np.ndarray
    flat: np.ndarray


class Matmul:
    """A matmul operation, bound to a tile's state. ``op`` holds every field."""

    def __init__(self, state: TileState, op: Mapping[str, int]) -> None:
        self.state = state
        self.op = op
        self.count = 0
        """Steps of the last issue."""
        self._accumulate_cycle = mxm.accumulate_cycle(state.config)
        # No sum of one step, aligned with code = base, is larger.
        self._step_limit = state.config.cols * 128 * 128 * 2.0**ACCUMULATOR_FRACTION_BITS
        self._adds = op["clear"] == Clear.NEVER
        self._is_tracked = op["base"] == Base.TRACKER
        self._inner, self._inner_register = op["inner"], op["inner_reg"]
        self._outer, self._outer_register = op["outer"], op["outer_reg"]
        self._weights, self._weights_register = op["weights"], op["weights_reg"]
        self._nests: dict[tuple[int, int, int], _Nest | Literal[False]] = {}
        """By counts and first weight word; False for other walks."""
        self._entries = state.acc[:0]
        self._bases = state.acc_bases[:0]
        self._totals = state.acc[:0]
        self._base = 0
        self._touched: np.ndarray | EllipsisType = ...
        """Which of the base codes change."""

    def compute(self) -> None:
        """Read weights and activations and make the new accumulator entries. Raises `Trap`."""
        state, op = self.state, self.op
        registers = state.registers
        key = (
            self._inner + registers[self._inner_register],
            self._outer + registers[self._outer_register],
            self._weights + registers[self._weights_register],
        )
        self._base = state.trackers[op["tracker"]] if self._is_tracked else op["exponent"]
        nest = self._nests.get(key)
        if nest is None:
            self._check_range(*key)
            nest = self._nests[key] = self._nest(*key) or False
        self.count = key[0] * key[1]
        if not nest or not self._compute_nest(nest):
            self._compute_steps(*key)

    def commit(self) -> None:
        """Write the accumulator entries."""
        # A sum of -0 becomes +0.
        np.add(self._totals, _ZERO, self._entries)
        if self._touched is ...:
            self._bases.fill(self._base)
        else:
            self._bases[self._touched] = self._base

    def _check_range(self, inner: int, outer: int, first: int) -> None:
        """Raise the first `Trap` of counts and addresses, if any, or that of an overflow before it."""
        op, state = self.op, self.state
        if not (1 <= inner <= _COUNT_MAX and 1 <= outer <= _COUNT_MAX):
            raise Trap(Fault.COUNT, state.cycles)
        found: list[tuple[int, int]] = []  # cycle and step of the first fault of each kind
        for operand, start, memory, cycle in (
            ("weights", first, state.wmem, mxm.WMEM_READ),
            ("act", op["act"], state.act, mxm.ACT_READ),
            ("acc", op["acc"], state.acc, self._accumulate_cycle),
        ):
            spans = (inner - 1) * op[f"{operand}_inner"], (outer - 1) * op[f"{operand}_outer"]
            lowest, highest = (start + bound(0, spans[0]) + bound(0, spans[1]) for bound in (min, max))
            if lowest < 0 or highest >= len(memory):
                addresses = mxm.steps(op, inner, outer, operand, start)
                step = int(((addresses < 0) | (addresses >= len(memory))).argmax())
                found.append((state.cycles + cycle + step, step))
        is_unsummed = mxm.unsummed(state.config, op, inner, outer)
        if is_unsummed.any():
            step = int(is_unsummed.argmax())
            found.append((state.cycles + self._accumulate_cycle + step, step))
        if not found:
            return
        try:
            self._compute_steps(inner, outer, first, min(step for _, step in found))
        except Trap as overflow:
            if overflow.cycle < min(found)[0]:
                raise
        raise Trap(Fault.ADDRESS, min(found)[0])

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
        act = view(state.act, self.op["act"], (*loops, cols), act_strides)
        codes = view(state.act_codes, self.op["act"], loops, act_strides)
        entries = stepped(self.op["acc"], groups, stride["acc"][1])
        sums, totals = np.empty((blocks, groups * rows)), np.empty((groups, rows))
        multiply = partial(np.matmul, weights, act[..., None], sums.reshape(*weights.shape[:-1], 1))
        if blocks == 1 and weights.ndim == 3:
            multiply = partial(weights[0].dot, act[0], sums[0])  # the same in half the time
        reach = blocks * self._step_limit
        excess = min(math.ceil(math.log2(_LIMIT / reach)) - 1, ACCUMULATOR_HEADROOM)
        return _Nest(blocks, multiply, codes, len(loops) == 1, state.acc[entries], state.acc_bases[entries], reach,
                     excess, sums, totals, totals.reshape(-1))  # fmt: skip

    def _compute_nest(self, nest: _Nest) -> bool:
        """The whole nest at once; False where an overflow on the way cannot be ruled out."""
        base, totals = self._base, nest.totals
        codes = nest.codes.tolist() if nest.is_shared else nest.codes.ravel().tolist()
        excess = max(codes) - base
        if excess > nest.excess:
            return False
        nest.multiply()
        lowest = base - ACCUMULATOR_FRACTION_BITS
        # Blocks of zeros are aligned with every base.
        if nest.is_shared and (min(codes) >= lowest or all(code >= lowest for code in codes if code)):
            # All shifts are to the left: nothing is floored, and the sum over the blocks is a product itself.
            _SCALES[base].take(nest.codes).dot(nest.sums, nest.flat)
        else:
            steps = nest.sums.reshape(nest.blocks, *nest.entries.shape)
            np.add.reduce(align(steps, nest.codes.reshape(nest.blocks, -1), base), axis=0, out=totals)
        if self._adds:
            np.add(totals, nest.entries, totals)
            if nest.flat.dot(nest.flat) >= (_LIMIT - nest.reach * 2.0**excess) ** 2:
                return False
        self._entries, self._totals, self._bases, self._touched = nest.entries, totals, nest.bases, ...
        return True

    def _compute_steps(self, inner: int, outer: int, first: int, count: int | None = None) -> None:
        """The definition: one step after the other into one entry each; ``count`` of them, or all.

        Raises `Trap` ACCUMULATOR.
        """
        op, state = self.op, self.state
        blocks = mxm.steps(op, inner, outer, "act", op["act"])[:count]
        codes = state.act_codes[blocks]
        weights = state.wmem[mxm.steps(op, inner, outer, "weights", first)[:count]]
        aligned = align(np.matmul(weights, state.act[blocks][..., None])[..., 0], codes, self._base)
        outside = misaligned(codes, self._base)
        entries = state.acc.copy()
        touched = mxm.steps(op, inner, outer, "acc", op["acc"])[:count]
        adds = mxm.adds(op, inner, outer)
        for step, entry in enumerate(touched.tolist()):
            entries[entry], faults = accumulate(entries[entry] if adds[step] else _ZERO, aligned[step])
            if outside[step] or faults.any():
                raise Trap(Fault.ACCUMULATOR, state.cycles + self._accumulate_cycle + step)
        self._entries, self._totals, self._bases, self._touched = state.acc, entries, state.acc_bases, touched
