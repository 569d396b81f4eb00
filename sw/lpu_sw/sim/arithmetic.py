"""Golden arithmetic: what each arithmetic unit of the tile computes, on float64 and integer arrays of any shape.

Values are float64 that hold numbers of the tile's `FloatFormat` exactly. An operation that can fault returns a
`Result`, whose ``faults`` has a `Fault` code a lane, so that the caller decides which lanes count.

Every operation is one exact or correctly rounded float64 operation, then `Arithmetic.nearest` (the significand), then
`Arithmetic.settle` (the exponent). The simulator runs a chain without the last step and repeats it with that step only
if there is a value that the step would change (`lpu_sw.sim.chain`).
"""

import math
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import NamedTuple

import numpy as np

from lpu_isa.faults import Fault
from lpu_isa.formats import (
    ACCUMULATOR_BITS,
    ACCUMULATOR_FRACTION_BITS,
    ACCUMULATOR_HEADROOM,
    BLOCK_EXPONENT_OFFSET,
    EXPONENT_BIAS,
    EXPONENT_MAX,
    INTEGER_CODE,
    QUANTISED_MAX,
    QUANTISED_MIN,
    REDUCE_FRACTION_BITS,
    FloatFormat,
)
from lpu_isa.tables import Function

from .function import Functions

__all__ = ["ACCUMULATOR_UNIT", "BLOCK_UNIT", "SETTLED_BASES", "SMALLEST", "TOO_LARGE", "Arithmetic", "BlockQuantiser",
           "IntegerQuantiser", "Result", "SumReducer", "accumulate", "align", "argmax", "fits_accumulator",
           "misaligned", "quantise_block", "quantise_static", "reduce_max"]  # fmt: skip

SMALLEST = 2.0 ** (1 - EXPONENT_BIAS)
"""Smallest magnitude that is no zero."""
TOO_LARGE = 2.0 ** (EXPONENT_MAX + 1 - EXPONENT_BIAS)
"""Smallest magnitude that no result may have."""

BLOCK_UNIT = np.append(0.0, np.ldexp(1.0, np.arange(1, 256) - EXPONENT_BIAS))
"""The value of one unit of an activation block, by block code; 0 for code 0."""


def _constant(value: float) -> np.ndarray:
    """An array of no dimensions: as an operand twice as fast as a Python number."""
    return np.array(value)


_NOTHING = SMALLEST / 2
"""Where there are only zeros, this is the largest one: a number that has an exponent."""
_NO_EXPONENT = 1 - EXPONENT_BIAS
"""Of a reduction in which all lanes so far are zero: the exponent field is 0."""
_QUANTISED_MAX = _constant(QUANTISED_MAX)
_QUANTISED_LOW = _constant(-QUANTISED_MAX)
_INTEGER_MIN = _constant(QUANTISED_MIN)

_INT = np.dtype(np.int64)
_DOUBLE, _WORD = Struct("<d"), Struct("<Q")
_REBIAS = (1023 - EXPONENT_BIAS) << 52
"""What the bits of a float64 have more than those of a float of ours, shifted to its place."""
_EXPONENT_SHIFT = _constant(52)
"""What stands above it in a float64 that is not negative is its exponent field."""
_FREXP_FIELD = 1022
"""The exponent field of a float64 less what `math.frexp` calls its exponent."""
_FIELDS = np.arange(1 << 11) - 1023 + EXPONENT_BIAS
_HAS_BLOCK = (_FIELDS >= BLOCK_EXPONENT_OFFSET + 2) & (_FIELDS <= EXPONENT_MAX + 1)
_QUANTISE_CODE = np.where(_HAS_BLOCK, _FIELDS - BLOCK_EXPONENT_OFFSET, 0)
"""The code of a block, by the exponent field of its largest magnitude."""
_QUANTISE_SCALE = np.where(_HAS_BLOCK, np.ldexp(1.0, EXPONENT_BIAS - _QUANTISE_CODE), 0.0)
"""What the block is multiplied by."""


class Result(NamedTuple):
    """Values (float64) and, in the same shape, the `Fault` code of each (uint8, 0 for none)."""

    values: np.ndarray
    faults: np.ndarray


class Arithmetic:
    """Arithmetic of one `FloatFormat`. Operands must be values of the format; results are values of the format."""

    def __init__(self, float_format: FloatFormat) -> None:
        self.format = float_format
        p = self.p = float_format.significand_bits
        self._double_drop = 53 - p
        self._magnitude_mask = (1 << (p + 7)) - 1
        self._scalar_splitter = 2.0 ** (53 - p) + 1
        self._splitter = _constant(self._scalar_splitter)
        exponents = np.maximum(np.arange(1 << 11) - _FREXP_FIELD, _NO_EXPONENT)
        self.reduce_scale = np.ldexp(1.0, p + REDUCE_FRACTION_BITS - exponents)
        """What brings a significand to the units of a running sum, by the exponent field of the largest one."""
        self.reduce_unit = 1 / self.reduce_scale
        """These units."""
        self.functions = Functions(float_format)

    # Rounding, in two steps.

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """Round to the significand, nearest even, as if exponents had no bounds. Keeps the sign of zero."""
        x = np.array(x)
        out = np.empty_like(x)
        for call in self.nearest_calls(x, out):
            call()
        return out

    def nearest_calls(self, x: np.ndarray, out: np.ndarray) -> list[Callable[[], object]]:
        """What makes `nearest` of ``x`` in ``out``, another array, whenever it is called; ``x`` is overwritten.

        Veltkamp's splitting (Dekker, Numer. Math. 18, 1971, section 5) rounds to nearest; that ties go to even is
        tested for every significand.
        """
        return [
            partial(np.multiply, x, self._splitter, out),
            partial(np.subtract, out, x, x),
            partial(np.subtract, out, x, out),
        ]

    def settle(self, x: np.ndarray) -> Result:
        """Bring rounded values into the exponent's range: tiny ones become zero of their sign, large ones fault."""
        magnitude = np.abs(x)
        values = np.where(magnitude < SMALLEST, np.copysign(0.0, x), x)
        return Result(values, np.where(magnitude >= TOO_LARGE, np.uint8(Fault.FLOAT), np.uint8(Fault.NONE)))

    # Units of the chain.

    def multiply(self, a: np.ndarray, b: np.ndarray) -> Result:
        """The product, rounded once."""
        return self.settle(self.nearest(np.multiply(a, b)))

    def add(self, a: np.ndarray, b: np.ndarray) -> Result:
        """The sum, rounded once; x + -x is +0, -0 + -0 is -0. For a difference turn the operand's sign."""
        return self.settle(self.nearest(np.add(a, b)))

    def convert(self, sums: np.ndarray, base: np.ndarray | int) -> Result:
        """Accumulator sums (integers, or float64 that hold integers) with their base code (broadcast) to floats."""
        exponent = np.asarray(base) - EXPONENT_BIAS - ACCUMULATOR_FRACTION_BITS
        return self.settle(self.nearest(np.ldexp(np.asarray(sums, np.float64), exponent)))

    def function(self, function: Function, x: np.ndarray) -> Result:
        """exp2, reciprocal, reciprocal square root or sigmoid, after the integer tables in `lpu_isa.tables`."""
        out = np.empty(x.shape)
        for call in self.functions.calls(function, x, out):
            call()
        values, faults = self.settle(out)
        outside = self.functions.outside_domain(function, x)
        return Result(values, faults if outside is None else np.where(outside, np.uint8(Fault.FUNCTION), faults))

    def scalar_function(self, function: Function, x: float) -> tuple[float, Fault]:
        """`function` of one number."""
        if self.functions.outside_domain(function, x):
            return 0.0, Fault.FUNCTION
        return self._settle_scalar(self.functions.scalar(function, x))

    # Scalar registers.

    def decode(self, word: int) -> float:
        """The float in the low bits of a register (of either sign)."""
        magnitude = (word & self._magnitude_mask) << self._double_drop
        if magnitude >> 52 == 0:
            magnitude = 0.0
        else:
            magnitude = _DOUBLE.unpack(_WORD.pack(magnitude + _REBIAS))[0]
        return -magnitude if (word >> (self.p + 7)) & 1 else magnitude

    def encode(self, x: float) -> int:
        """A value of the format as the low bits of a register."""
        raw = _WORD.unpack(_DOUBLE.pack(x))[0]
        magnitude = raw & ((1 << 63) - 1)
        return (raw >> 63 << (self.p + 7)) | ((magnitude - _REBIAS) >> self._double_drop if magnitude else 0)

    # Reductions.

    def reduce_sum(self, start: float, vectors: np.ndarray, valid: np.ndarray | None = None) -> tuple[float, bool]:
        """What a `SumReducer` makes of a start value and vectors.

        valid: bool, broadcast to ``vectors``; other lanes count as zero.
        """
        return SumReducer(self, vectors if valid is None else np.where(valid, vectors, 0.0)).sum(start)

    def settle_sum(self, total: float) -> tuple[float, bool]:
        """A sum rounded as `nearest` does and settled, and whether it is too large."""
        scaled = total * self._scalar_splitter
        total, fault = self._settle_scalar(scaled - (scaled - total))
        return total, fault is not Fault.NONE

    def _settle_scalar(self, x: float) -> tuple[float, Fault]:
        if abs(x) < SMALLEST:
            return math.copysign(0.0, x), Fault.NONE
        return x, Fault.FLOAT if abs(x) >= TOO_LARGE else Fault.NONE


def _largest_calls(values: np.ndarray, largest: np.ndarray) -> list[Callable[[], object]]:
    """What makes the largest magnitude of each row of ``values`` (n, width) in ``largest``."""
    n, width = values.shape
    magnitudes = np.empty(n * width)
    return [
        partial(np.absolute, values, magnitudes.reshape(n, width)),
        # Faster than `reduce` along an axis.
        partial(np.maximum.reduceat, magnitudes, np.arange(n) * width, 0, None, largest),
    ]


class SumReducer:
    """Sum of a start value and of vectors (n, lanes), aligned significand by significand, vector after vector.

    The running sum has `REDUCE_FRACTION_BITS` below the last bit of the largest significand so far; when a larger one
    comes it is shifted right, and every shift is a floor.
    """

    def __init__(self, arithmetic: Arithmetic, vectors: np.ndarray) -> None:
        self.arithmetic = arithmetic
        n, lanes = vectors.shape
        aligned, fields = np.empty((n, lanes)), np.empty(n, _INT)
        self._largest, self._sums = np.empty(n), np.empty(n)
        self._scales, self._units = np.empty(n), np.empty(n)
        self._find_largest = _largest_calls(vectors, self._largest)
        self._sum_vectors = [
            partial(np.maximum.accumulate, self._largest, 0, None, self._largest),
            partial(np.right_shift, self._largest.view(_INT), _EXPONENT_SHIFT, fields),
            partial(arithmetic.reduce_scale.take, fields, None, self._scales, "wrap"),
            partial(arithmetic.reduce_unit.take, fields, None, self._units, "wrap"),
            partial(np.multiply, vectors, self._scales[:, None], aligned),
            partial(np.floor, aligned, aligned),
            # A product with ones takes NumPy half as long as a sum.
            partial(aligned.dot, np.ones(lanes), self._sums),
        ]
        largest_sum = (n * lanes + 1) << (arithmetic.p + REDUCE_FRACTION_BITS)
        self._most_shifted = 2.0**53 / largest_sum
        """Up to this shift of the running sum, all of it fits a float64."""

    def sum(self, start: float) -> tuple[float, bool]:
        """The rounded sum of ``start`` and of the vectors as they are now, and whether it is too large."""
        for call in self._find_largest:
            call()
        self._largest[0] = max(self._largest.item(0), abs(start), _NOTHING)
        for call in self._sum_vectors:
            call()
        # All that is shifted down on the way is shifted down once, at the end: nested floors are one.
        first, last = self._scales.item(0), self._scales.item(-1)
        aligned_start = math.floor(start * first)
        if first <= last * self._most_shifted:
            running = math.floor((float(self._sums.dot(self._units)) + aligned_start / first) * last)
        else:  # in Python's integers, which have no bounds
            shifted = zip(self._sums.tolist(), (first * self._units).tolist(), strict=True)
            running = aligned_start + sum(int(total) * int(shift) for total, shift in shifted)
            running //= int(first / last)
        return self.arithmetic.settle_sum(running / last)


def reduce_max(vectors: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Largest valid lane of vectors (n, lanes); a zero is +0."""
    return float((vectors if valid is None else np.where(valid, vectors, -np.inf)).max()) + 0.0


def argmax(vectors: np.ndarray, valid: np.ndarray | None = None) -> tuple[int, float]:
    """Lowest index (step * lanes + lane) of the largest valid lane, and its value; zeros are alike and +0."""
    flat = (vectors if valid is None else np.where(valid, vectors, -np.inf)).ravel()
    index = int(flat.argmax())
    return index, float(flat[index]) + 0.0


class BlockQuantiser:
    """Blocks (n, width), float64, to int8 values with one code each, whenever ``calls`` are called.

    Attributes: ``quantised``, integers in float64 of that shape, |q| <= 127 (the sign of a zero means nothing), and
    ``codes``, int64 (n,).
    """

    def __init__(self, values: np.ndarray) -> None:
        n = len(values)
        largest, fields, scales = np.empty(n), np.empty(n, _INT), np.empty(n)
        self.quantised: np.ndarray = np.empty(values.shape)
        q = self.quantised
        self.codes: np.ndarray = np.empty(n, _INT)
        # "wrap": with another mode NumPy makes a copy of what it writes to. No field is outside the tables.
        self.calls = [
            *_largest_calls(values, largest),
            partial(np.right_shift, largest.view(_INT), _EXPONENT_SHIFT, fields),
            partial(_QUANTISE_SCALE.take, fields, None, scales, "wrap"),
            partial(_QUANTISE_CODE.take, fields, None, self.codes, "wrap"),
            partial(np.multiply, values, scales[:, None], q),
            partial(np.rint, q, q),
            *_clamping(q),
        ]


def quantise_block(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a `BlockQuantiser` makes of values: quantised, and codes."""
    quantiser = BlockQuantiser(values)
    for call in quantiser.calls:
        call()
    return quantiser.quantised, quantiser.codes


class IntegerQuantiser:
    """Blocks (n, width), float64, to int8 values with scale 1, nearest even, whenever ``calls`` are called.

    As `BlockQuantiser`, but -128 <= q <= 127, and every code is `INTEGER_CODE`.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.quantised: np.ndarray = np.empty(values.shape)
        self.codes: np.ndarray = np.full(len(values), INTEGER_CODE)
        self.calls = [partial(np.rint, values, self.quantised), *_clamping(self.quantised, _INTEGER_MIN)]


def _clamping(quantised: np.ndarray, low: np.ndarray = _QUANTISED_LOW) -> list[Callable[[], object]]:
    return [
        partial(np.fmin, quantised, _QUANTISED_MAX, quantised),
        partial(np.fmax, quantised, low, quantised),
    ]


def quantise_static(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values to int8 with scale 1, nearest even. Returns integers in float64 and where they were clamped (bool)."""
    nearest = np.rint(values)
    clamped = np.abs(nearest) > _QUANTISED_MAX
    for call in _clamping(nearest):
        call()
    return nearest, clamped


ACCUMULATOR_UNIT = np.ldexp(1.0, np.arange(256) - EXPONENT_BIAS - ACCUMULATOR_FRACTION_BITS)
"""The value of one unit of an accumulator, by base code."""
SETTLED_BASES = range(ACCUMULATOR_FRACTION_BITS + 1, EXPONENT_MAX + 1 - ACCUMULATOR_BITS)
"""Base codes with which every sum converts to zero or to a float in range."""


def misaligned(codes: np.ndarray, base: int) -> np.ndarray:
    """Where a block's code lies too far above the accumulator's base code: the fault ``ACCUMULATOR`` (bool)."""
    return (np.asarray(codes) - base > ACCUMULATOR_HEADROOM) & (np.asarray(codes) != 0)


def align(sums: np.ndarray, codes: np.ndarray, base: int) -> np.ndarray:
    """Row sums of blocks, shifted by ``14 + code - base`` (right with floor), as they enter the accumulator.

    sums: integers in float64 (..., rows); codes: int64 (...). Blocks of code 0 give 0. Exact where `misaligned` is not.
    """
    scale = BLOCK_UNIT[codes] * 2.0 ** (EXPONENT_BIAS + ACCUMULATOR_FRACTION_BITS - base)
    return np.floor(sums * scale[..., None])


def fits_accumulator(sums: np.ndarray) -> np.ndarray:
    """Where an accumulator holds the sum (bool)."""
    limit = 2.0 ** (ACCUMULATOR_BITS - 1)
    return (sums >= -limit) & (sums < limit)


def accumulate(sums: np.ndarray, aligned: np.ndarray) -> Result:
    """Accumulator entry plus an aligned row sum, integers in float64; fault ``ACCUMULATOR`` where it does not fit."""
    total = sums + aligned
    return Result(total, np.where(fits_accumulator(total), np.uint8(Fault.NONE), np.uint8(Fault.ACCUMULATOR)))
