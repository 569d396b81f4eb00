"""Golden arithmetic of arrays: `lpu_sw.sim.scalar` and `lpu_sw.sim.function`, lane by lane.

Values are float64 that hold numbers of the tile's `FloatFormat` exactly. An operation that can fault returns a
`Result`, whose ``faults`` has a `Fault` code a lane.
"""

from typing import NamedTuple

import numpy as np

from lpu_isa.faults import Fault
from lpu_isa.formats import QUANTISED_MAX, FloatFormat
from lpu_isa.tables import Function

from . import scalar
from .compiled import compiled
from .function import function_of, is_outside_domain

__all__ = ["Arithmetic", "Result", "accumulate", "align", "argmax", "misaligned", "quantise_block",
           "quantise_integers", "quantise_static", "reduce_max"]  # fmt: skip


class Result(NamedTuple):
    """Values (float64) and, in the same shape, the `Fault` code of each (uint8, 0 for none)."""

    values: np.ndarray
    faults: np.ndarray


class Arithmetic:
    """Arithmetic of one `FloatFormat`. Operands must be values of the format; results are values of the format."""

    def __init__(self, float_format: FloatFormat) -> None:
        self.format = float_format
        self.p = float_format.significand_bits

    # Rounding, in two steps.

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """Round to the significand, nearest even, as if exponents had no bounds. Keeps the sign of zero."""
        return scalar.nearest(x, self.p)

    def settle(self, x: np.ndarray) -> Result:
        """Bring rounded values into the exponent's range: tiny ones become zero of their sign, large ones fault."""
        too_large = scalar.is_too_large(x)
        return Result(scalar.settle(x), np.where(too_large, np.uint8(Fault.FLOAT), np.uint8(Fault.NONE)))

    # Units of the chain.

    def multiply(self, a: np.ndarray, b: np.ndarray) -> Result:
        """The product, rounded once."""
        return self.settle(self.nearest(np.multiply(a, b)))

    def add(self, a: np.ndarray, b: np.ndarray) -> Result:
        """The sum, rounded once; x + -x is +0, -0 + -0 is -0. For a difference turn the operand's sign."""
        return self.settle(self.nearest(np.add(a, b)))

    def convert(self, sums: np.ndarray, base: np.ndarray | int) -> Result:
        """Accumulator sums (integers, or float64 that hold integers) with their base code (broadcast) to floats."""
        return self.settle(self.nearest(scalar.scale_sum(np.asarray(sums, np.float64), np.asarray(base))))

    def function(self, function: Function, x: np.ndarray) -> Result:
        """exp2, reciprocal, reciprocal square root or sigmoid, after the integer tables in `lpu_isa.tables`."""
        values, faults = self.settle(_function_of_all(int(function), np.ravel(x), self.p).reshape(np.shape(x)))
        outside = is_outside_domain(function, x)
        return Result(values, np.where(outside, np.uint8(Fault.FUNCTION), faults))

    def scalar_function(self, function: Function, x: float) -> tuple[float, Fault]:
        """`function` of one number."""
        if is_outside_domain(function, x):
            return 0.0, Fault.FUNCTION
        value = scalar.settle(function_of(int(function), x, self.p))
        return value, Fault.FLOAT if scalar.is_too_large(value) else Fault.NONE

    # Scalar registers.

    def decode(self, word: int) -> float:
        """The float in the low bits of a register (of either sign)."""
        return scalar.decode(word, self.p)

    def encode(self, x: float) -> int:
        """A value of the format as the low bits of a register."""
        return scalar.encode(x, self.p)

    # Reductions.

    def reduce_sum(self, start: float, vectors: np.ndarray, valid: np.ndarray | None = None) -> tuple[float, bool]:
        """The rounded sum of a start value and of vectors (n, lanes), one after the other; whether it is too large.

        valid: bool, broadcast to ``vectors``; other lanes count as zero.
        """
        lanes = np.ascontiguousarray(vectors if valid is None else np.where(valid, vectors, 0.0))
        total = _sum_vectors(start, lanes, self.p)
        return total, scalar.is_too_large(total)


@compiled
def _function_of_all(function, x, p):
    values = np.empty_like(x)
    for i in range(len(x)):
        values[i] = function_of(function, x[i], p)
    return values


@compiled
def _sum_vectors(start, vectors, p):
    running, field = scalar.start_sum(start, p)
    for vector in vectors:
        running, field = scalar.add_vector(running, field, vector, len(vector), p)
    return scalar.finish_sum(running, field, p)


def reduce_max(vectors: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Largest valid lane of vectors (n, lanes); a zero is +0."""
    return argmax(vectors, valid)[1]


def argmax(vectors: np.ndarray, valid: np.ndarray | None = None) -> tuple[int, float]:
    """Lowest index (step * lanes + lane) of the largest valid lane, and its value; zeros are alike and +0."""
    lanes = np.ravel(vectors if valid is None else np.where(valid, vectors, -np.inf))
    best, index = scalar.find_largest(-np.inf, 0, lanes, len(lanes), 0)
    return index, best


def quantise_block(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blocks (n, width), float64, to int8 values with one code each.

    Returns integers in float64 of that shape, |q| <= 127 (the sign of a zero means nothing), and codes, int64 (n,).
    """
    return _quantise_blocks(np.ascontiguousarray(values), True)


def quantise_integers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same with scale 1, nearest even: -128 <= q <= 127, and every code is `INTEGER_CODE`."""
    return _quantise_blocks(np.ascontiguousarray(values), False)


@compiled
def _quantise_blocks(values, is_shared):
    quantised, codes = np.empty_like(values), np.empty(len(values), np.int64)
    for i in range(len(values)):
        codes[i] = scalar.quantise_block(values[i], quantised[i], is_shared)
    return quantised, codes


def quantise_static(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values to int8 with scale 1, nearest even. Returns integers in float64 and where they were clamped (bool)."""
    return scalar.to_integer(values, -QUANTISED_MAX), scalar.is_clamped(values)


def misaligned(codes: np.ndarray, base: int) -> np.ndarray:
    """Where a block's code lies too far above the accumulator's base code: the fault ``ACCUMULATOR`` (bool)."""
    return scalar.is_misaligned(np.asarray(codes), base)


def align(sums: np.ndarray, codes: np.ndarray, base: int) -> np.ndarray:
    """Row sums of blocks, shifted by ``14 + code - base`` (right with floor), as they enter the accumulator.

    sums: integers in float64 (..., rows); codes: int64 (...). Blocks of code 0 give 0. Exact where `misaligned` is not.
    """
    return scalar.align(sums, np.asarray(codes)[..., None], base)


def accumulate(sums: np.ndarray, aligned: np.ndarray) -> Result:
    """Accumulator entry plus an aligned row sum, integers in float64; fault ``ACCUMULATOR`` where it does not fit."""
    total = sums + aligned
    fits = scalar.fits_accumulator(total)
    return Result(total, np.where(fits, np.uint8(Fault.NONE), np.uint8(Fault.ACCUMULATOR)))
