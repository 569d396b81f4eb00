"""Golden arithmetic: what each arithmetic unit of the tile computes, on float64 and integer arrays of any shape.

Values are float64 that hold numbers of the tile's `FloatFormat` exactly. An operation that can fault returns a
`Result`, whose ``faults`` has a `Fault` code a lane, so that the caller decides which lanes count.

Every operation is one exact or correctly rounded float64 operation, then `Arithmetic.nearest` (the significand), then
`Arithmetic.settle` (the exponent). The simulator runs a chain without the last step and repeats it with that step only
if `Arithmetic.is_settled` finds a value that the step would change.
"""

import math
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
    QUANTISED_MAX,
    REDUCE_FRACTION_BITS,
    SMALLEST_ARGUMENT,
    FloatFormat,
)
from lpu_isa.tables import KNOT_FRACTION_BITS, SEGMENTS, Function, knots

__all__ = ["ACCUMULATOR_UNIT", "BLOCK_UNIT", "Arithmetic", "Result", "accumulate", "align", "argmax",
           "fits_accumulator", "misaligned", "quantise_block", "quantise_static", "reduce_max"]  # fmt: skip

SMALLEST = 2.0 ** (1 - EXPONENT_BIAS)
"""Smallest magnitude that is no zero."""
TOO_LARGE = 2.0 ** (EXPONENT_MAX + 1 - EXPONENT_BIAS)
"""Smallest magnitude that no result may have."""

BLOCK_UNIT = np.append(0.0, np.ldexp(1.0, np.arange(1, 256) - EXPONENT_BIAS))
"""The value of one unit of an activation block, by block code; 0 for code 0."""

_FLOAT = np.dtype(np.float64)
_INT = np.dtype(np.int64)
_UINT = np.dtype(np.uint64)


def _constant(value: float | int, dtype: np.dtype = _FLOAT) -> np.ndarray:
    """An array of no dimensions: a third faster as an operand than a Python number."""
    return np.array(value, dtype)


_ZERO = _constant(0.0)
_ONE = _constant(1.0)
_SIGMOID_HIGH = _constant(16.0)
_EXP2_LOW = _constant(-128.0)
_EXP2_HIGH = _constant(128.0)
_EXP2_ORIGIN = _constant(128 * SEGMENTS, _INT)
_SEGMENT_MASK = _constant(SEGMENTS - 1, _INT)
_DOUBLE_BIAS = 1023
_DOUBLE_FRACTION_BITS = 52
_DOUBLE_EXPONENT = _constant(2047, _INT)
_FRACTION_SHIFT = _constant(_DOUBLE_FRACTION_BITS, _INT)
_SIGN_OUT = _constant(1, _UINT)
_SMALLEST_BITS = np.array(SMALLEST).view(_UINT) << _SIGN_OUT
_RANGE_BITS = (np.array(TOO_LARGE).view(_UINT) << _SIGN_OUT) - _SMALLEST_BITS
_QUANTISED_MAX = _constant(QUANTISED_MAX)
_QUANTISED_MIN = _constant(-QUANTISED_MAX)


class Result(NamedTuple):
    """Values (float64) and, in the same shape, the `Fault` code of each (uint8, 0 for none)."""

    values: np.ndarray
    faults: np.ndarray


class _Argument:
    """Fixed point of a function's argument: units of one, and units of one segment."""

    def __init__(self, one: float, segment: float) -> None:
        self._one = _constant(one)
        self._segment = _constant(segment)
        self._segments = _constant(1 / segment)

    def split(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Segment number (int64, floor) and what is left of ``floor(x * one)``, an integer in float64."""
        units = np.floor(x * self._one)
        segment = np.floor(units * self._segments)
        return segment.astype(_INT), units - segment * self._segment


class Arithmetic:
    """Arithmetic of one `FloatFormat`. Operands must be values of the format; results are values of the format."""

    def __init__(self, float_format: FloatFormat) -> None:
        self.format = float_format
        p = self.p = float_format.significand_bits
        self._splitter = _constant(2.0 ** (53 - p) + 1)
        self._fraction_drop = _constant(_DOUBLE_FRACTION_BITS - float_format.fraction_bits, _INT)
        self._fraction_mask = _constant((1 << float_format.fraction_bits) - 1, _INT)
        self._octave = _Argument(2.0 ** (p - 1), 2.0 ** (p - 9))
        self._sigmoid = _Argument(2.0 ** (p - 4), 2.0 ** (p - 8))
        self._significand_unit = _constant(2.0 ** (1 - p))
        self._half_significand_unit = _constant(2.0**-p)
        # 2**e for each segment of exp2's whole range, 256 an octave; zero below the smallest float.
        octave = np.repeat(np.arange(-128, 129), SEGMENTS)
        self._exp2_scale = np.where(octave < 1 - EXPONENT_BIAS, 0.0, np.ldexp(2.0 ** (1 - p), octave))
        # Interpolation in float64, where every term is exact: knot and slope of a segment, in units of the result's
        # last bit. One segment more than there are: a sigmoid that saturates is a segment without slope.
        self._knot: dict[Function, np.ndarray] = {}
        self._slope: dict[Function, np.ndarray] = {}
        for function in _LOOKUPS:
            knot = knots(function) + (1 << KNOT_FRACTION_BITS)
            rest_unit = 2 if function in (Function.EXP2, Function.RECIPROCAL) else 1
            self._knot[function] = ((knot << (p - 8)) + 512) / 1024
            self._slope[function] = np.append(np.diff(knot), 0) * rest_unit / 1024

    # Rounding, in two steps.

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """Round to the significand, nearest even, as if exponents had no bounds. Keeps the sign of zero.

        Veltkamp's splitting (Dekker, Numer. Math. 18, 1971, section 5) rounds to nearest; that ties go to even is
        tested for every significand.
        """
        scaled = x * self._splitter
        rest = scaled - x
        scaled -= rest
        return scaled

    def settle(self, x: np.ndarray) -> Result:
        """Bring rounded values into the exponent's range: tiny ones become zero of their sign, large ones fault."""
        magnitude = np.abs(x)
        values = np.where(magnitude < SMALLEST, np.copysign(0.0, x), x)
        return Result(values, np.where(magnitude >= TOO_LARGE, np.uint8(Fault.FLOAT), np.uint8(Fault.NONE)))

    def is_settled(self, x: np.ndarray) -> bool:
        """Whether `settle` would change nothing: every value is zero or within the exponent's range."""
        bits = x.view(_UINT) << _SIGN_OUT
        strays = np.count_nonzero((bits - _SMALLEST_BITS) >= _RANGE_BITS)
        return strays == 0 or strays == x.size - np.count_nonzero(bits)

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
        return self.settle(self.nearest(np.ldexp(np.asarray(sums, _FLOAT), exponent)))

    def function(self, function: Function, x: np.ndarray) -> Result:
        """exp2, reciprocal, reciprocal square root or sigmoid, after the integer tables in `lpu_isa.tables`."""
        values, faults = self.settle(self.lookup(function, x))
        outside = self.outside_domain(function, x)
        return Result(values, faults if outside is None else np.where(outside, np.uint8(Fault.FUNCTION), faults))

    def outside_domain(self, function: Function, x: np.ndarray) -> np.ndarray | None:
        """Where the argument is the fault ``FUNCTION`` (bool); None for a function that takes every argument."""
        if function is Function.RECIPROCAL:
            return np.abs(x) < SMALLEST_ARGUMENT
        if function is Function.RSQRT:
            return np.asarray(x) < SMALLEST_ARGUMENT
        return None

    def lookup(self, function: Function, x: np.ndarray) -> np.ndarray:
        """A function's value before `settle`; some number where the argument is outside its domain."""
        return _LOOKUPS[function](self, x)

    def _interpolate(self, function: Function, segment: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Significand in [1, 2], as an integer of p - 1 fraction bits in float64."""
        y = self._slope[function][segment]
        y *= rest
        y += self._knot[function][segment]
        return np.floor(y)

    def _exp2(self, x: np.ndarray) -> np.ndarray:
        # Below -127 the result is zero, from 128 on a fault: what is clamped fits the table and stays so.
        segment, rest = self._octave.split(np.minimum(np.maximum(x, _EXP2_LOW), _EXP2_HIGH))
        y = self._interpolate(Function.EXP2, segment & _SEGMENT_MASK, rest)
        y *= self._exp2_scale[segment + _EXP2_ORIGIN]
        return y

    def _fraction_and_exponent(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raw = np.asarray(x, _FLOAT).view(_INT)
        exponent = ((raw >> _FRACTION_SHIFT) & _DOUBLE_EXPONENT) - _DOUBLE_BIAS
        return (raw >> self._fraction_drop) & self._fraction_mask, exponent

    def _reciprocal(self, x: np.ndarray) -> np.ndarray:
        f, exponent = self._fraction_and_exponent(x)
        y = self._interpolate(Function.RECIPROCAL, f >> (self.p - 9), f & ((1 << (self.p - 9)) - 1))
        return np.copysign(np.ldexp(y * self._significand_unit, -1 - exponent), x)

    def _rsqrt(self, x: np.ndarray) -> np.ndarray:
        f, exponent = self._fraction_and_exponent(x)
        segment = (f >> (self.p - 8)) + (exponent & 1) * (SEGMENTS // 2)
        y = self._interpolate(Function.RSQRT, segment, f & ((1 << (self.p - 8)) - 1))
        return np.ldexp(y * self._significand_unit, -1 - (exponent >> 1))

    def _sigmoid_function(self, x: np.ndarray) -> np.ndarray:
        segment, rest = self._sigmoid.split(np.minimum(np.abs(x), _SIGMOID_HIGH))
        y = self._interpolate(Function.SIGMOID, segment, rest)
        y *= self._half_significand_unit
        return np.where(x < _ZERO, _ONE - y, y)

    # Scalar registers.

    def decode(self, word: int) -> float:
        """The float in the low bits of a register (of either sign)."""
        fraction_bits = self.p - 1
        field = (word >> fraction_bits) & 255
        if field == 0:
            magnitude = 0.0
        else:
            significand = (word & ((1 << fraction_bits) - 1)) | (1 << fraction_bits)
            magnitude = math.ldexp(significand, field - EXPONENT_BIAS - fraction_bits)
        return -magnitude if (word >> (self.p + 7)) & 1 else magnitude

    def encode(self, x: float) -> int:
        """A value of the format as the low bits of a register."""
        sign = (1 << (self.p + 7)) if math.copysign(1.0, x) < 0 else 0
        if x == 0:
            return sign
        fraction, exponent = math.frexp(abs(x))
        significand = int(math.ldexp(fraction, self.p))
        return sign | (exponent - 1 + EXPONENT_BIAS) << (self.p - 1) | (significand - (1 << (self.p - 1)))

    # Reductions.

    def reduce_sum(self, start: float, vectors: np.ndarray, valid: np.ndarray | None = None) -> tuple[float, bool]:
        """Sum of a start value and of vectors (n, lanes), aligned significand by significand, vector after vector.

        valid: bool, broadcast to ``vectors``; other lanes count as zero. Returns the rounded sum and whether it is too
        large. The running sum has `REDUCE_FRACTION_BITS` below the last bit of the largest significand so far; when a
        larger one comes it is shifted right, and every shift is a floor.
        """
        if valid is not None:
            vectors = np.where(valid, vectors, 0.0)
        below = self.p - 1 + REDUCE_FRACTION_BITS + EXPONENT_BIAS
        field = max(math.frexp(start)[1] + EXPONENT_BIAS - 1, 0) if start else 0
        running = int(math.ldexp(start, below - field))
        fields = _exponent_field(np.abs(vectors).max(axis=1))
        fields[0] = max(fields[0], field)
        fields = np.maximum.accumulate(fields)
        sums = np.floor(vectors * _power_of_two(below - fields)[:, None]).sum(axis=1)
        for largest, vector_sum in zip(fields.tolist(), sums.tolist(), strict=True):
            running = (running >> (largest - field)) + int(vector_sum)
            field = largest
        total = float(self.nearest(math.ldexp(running, field - below)))
        if abs(total) < SMALLEST:
            total = math.copysign(0.0, total)
        return total, abs(total) >= TOO_LARGE


_LOOKUPS = {
    Function.EXP2: Arithmetic._exp2,
    Function.RECIPROCAL: Arithmetic._reciprocal,
    Function.RSQRT: Arithmetic._rsqrt,
    Function.SIGMOID: Arithmetic._sigmoid_function,
}


def _exponent_field(magnitude: np.ndarray) -> np.ndarray:
    """Biased exponent field of values that are not negative; 0 for zero."""
    return np.maximum((magnitude.view(_INT) >> _FRACTION_SHIFT) - (_DOUBLE_BIAS - EXPONENT_BIAS), 0)


def _power_of_two(exponent: np.ndarray) -> np.ndarray:
    """2**exponent for integers, by their bits."""
    return ((exponent + _DOUBLE_BIAS) << _FRACTION_SHIFT).view(_FLOAT)


def reduce_max(vectors: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Largest valid lane of vectors (n, lanes); a zero is +0."""
    return float((vectors if valid is None else np.where(valid, vectors, -np.inf)).max()) + 0.0


def argmax(vectors: np.ndarray, valid: np.ndarray | None = None) -> tuple[int, float]:
    """Lowest index (step * lanes + lane) of the largest valid lane, and its value; zeros are alike and +0."""
    flat = (vectors if valid is None else np.where(valid, vectors, -np.inf)).ravel()
    index = int(flat.argmax())
    return index, float(flat[index]) + 0.0


def quantise_block(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blocks along the last axis to int8 values with one code each.

    values: float64 (..., n). Returns integers in float64 of that shape, |q| <= 127, and int64 codes (...).
    """
    field = _exponent_field(np.abs(values).max(axis=-1))
    code = np.where(field < BLOCK_EXPONENT_OFFSET + 2, 0, field - BLOCK_EXPONENT_OFFSET)
    quantised = np.rint(values * (_power_of_two(EXPONENT_BIAS - code) * (code > 0))[..., None])
    # Only 127.5 and more rounds past the limit; adding +0 turns the -0 of a small negative value into +0.
    np.minimum(quantised, _QUANTISED_MAX, out=quantised)
    np.maximum(quantised, _QUANTISED_MIN, out=quantised)
    quantised += 0.0
    return quantised, code


def quantise_static(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values to int8 with scale 1, nearest even. Returns integers in float64 and where they were clamped (bool)."""
    nearest = np.rint(values)
    clamped = np.abs(nearest) > _QUANTISED_MAX
    np.minimum(nearest, _QUANTISED_MAX, out=nearest)
    np.maximum(nearest, _QUANTISED_MIN, out=nearest)
    nearest += 0.0
    return nearest, clamped


ACCUMULATOR_UNIT = np.ldexp(1.0, np.arange(256) - EXPONENT_BIAS - ACCUMULATOR_FRACTION_BITS)
"""The value of one unit of an accumulator, by base code."""


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
