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
    FloatFormat,
)
from lpu_isa.tables import Function

from .function import Functions

__all__ = ["ACCUMULATOR_UNIT", "BLOCK_UNIT", "SETTLED_BASES", "Arithmetic", "Result", "accumulate", "align",
           "argmax", "fits_accumulator", "misaligned", "quantise_block", "quantise_static", "reduce_max",
           "spread"]  # fmt: skip

SMALLEST = 2.0 ** (1 - EXPONENT_BIAS)
"""Smallest magnitude that is no zero."""
TOO_LARGE = 2.0 ** (EXPONENT_MAX + 1 - EXPONENT_BIAS)
"""Smallest magnitude that no result may have."""

BLOCK_UNIT = np.append(0.0, np.ldexp(1.0, np.arange(1, 256) - EXPONENT_BIAS))
"""The value of one unit of an activation block, by block code; 0 for code 0."""


def _constant(value: float) -> np.ndarray:
    """An array of no dimensions: as an operand twice as fast as a Python number."""
    return np.array(value)


_SMALLEST = _constant(SMALLEST)
_LARGE_SQUARE = TOO_LARGE**2
_NO_EXPONENT = 1 - EXPONENT_BIAS
"""Of a reduction in which all lanes so far are zero: the exponent field is 0."""
_QUANTISED_MAX = _constant(QUANTISED_MAX)
_QUANTISED_MIN = _constant(-QUANTISED_MAX)


class Result(NamedTuple):
    """Values (float64) and, in the same shape, the `Fault` code of each (uint8, 0 for none)."""

    values: np.ndarray
    faults: np.ndarray


class Arithmetic:
    """Arithmetic of one `FloatFormat`. Operands must be values of the format; results are values of the format."""

    def __init__(self, float_format: FloatFormat) -> None:
        self.format = float_format
        p = self.p = float_format.significand_bits
        self._scalar_splitter = 2.0 ** (53 - p) + 1
        self._splitter = _constant(self._scalar_splitter)
        self.functions = Functions(float_format)

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
        """Whether `settle` is sure to change nothing: values are zero, or in the exponent's range (but for its top)."""
        settled = np.count_nonzero(np.abs(x) >= _SMALLEST)
        # The sum of squares bounds the magnitudes, in one call.
        return (settled == x.size or settled == np.count_nonzero(x)) and bool(np.vdot(x, x) < _LARGE_SQUARE)

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
        values, faults = self.settle(self.functions.vector(function, np.asarray(x)))
        outside = self.functions.outside_domain(function, x)
        return Result(values, faults if outside is None else np.where(outside, np.uint8(Fault.FUNCTION), faults))

    def scalar_function(self, function: Function, x: float) -> tuple[float, Fault]:
        """`function` of one number."""
        outside = self.functions.outside_domain(function, np.array(x))
        if outside is not None and outside:
            return 0.0, Fault.FUNCTION
        return self._settle_scalar(self.functions.scalar(function, x))

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
        below = self.p + REDUCE_FRACTION_BITS
        exponent = math.frexp(start)[1] if start else _NO_EXPONENT
        running = int(math.ldexp(start, below - exponent))
        # Plain Python: for the few vectors of nearly all reductions it is faster than arrays.
        for vector in vectors.tolist():
            magnitude = max(max(vector), -min(vector))
            largest = max(exponent, math.frexp(magnitude)[1]) if magnitude else exponent
            scale = 2.0 ** (below - largest)
            running = (running >> (largest - exponent)) + sum(map(math.floor, [x * scale for x in vector]))
            exponent = largest
        # Rounded as `nearest` does.
        total = math.ldexp(running, exponent - below)
        scaled = total * self._scalar_splitter
        total, fault = self._settle_scalar(scaled - (scaled - total))
        return total, fault is not Fault.NONE

    def _settle_scalar(self, x: float) -> tuple[float, Fault]:
        if abs(x) < SMALLEST:
            return math.copysign(0.0, x), Fault.NONE
        return x, Fault.FLOAT if abs(x) >= TOO_LARGE else Fault.NONE


def spread(values: np.ndarray, lanes: int) -> np.ndarray:
    """Each value in ``lanes`` lanes, (n, lanes). NumPy takes four times as long to spread an operand by itself."""
    return values.repeat(lanes).reshape(-1, lanes)


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

    values: float64 (..., n). Returns integers in float64 of that shape, |q| <= 127 (the sign of a zero means nothing),
    and int64 codes (...).
    """
    largest = np.maximum.reduce(np.abs(values), axis=-1)
    codes, scales, reach = [], [], 0.0
    for magnitude in largest.ravel().tolist():
        field = math.frexp(magnitude)[1] - 1 + EXPONENT_BIAS if magnitude else 0
        code = field - BLOCK_EXPONENT_OFFSET if field >= BLOCK_EXPONENT_OFFSET + 2 else 0
        scale = 2.0 ** (EXPONENT_BIAS - code) if code else 0.0
        codes.append(code)
        scales.append(scale)
        reach = max(reach, magnitude * scale)
    quantised = values * spread(np.array(scales), values.shape[-1]).reshape(values.shape)
    np.rint(quantised, out=quantised)
    if reach >= QUANTISED_MAX + 0.5:
        _clamp(quantised)
    return quantised, np.array(codes).reshape(largest.shape)


def _clamp(quantised: np.ndarray) -> None:
    np.minimum(quantised, _QUANTISED_MAX, out=quantised)
    np.maximum(quantised, _QUANTISED_MIN, out=quantised)


def quantise_static(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values to int8 with scale 1, nearest even. Returns integers in float64 and where they were clamped (bool)."""
    nearest = np.rint(values)
    clamped = np.abs(nearest) > _QUANTISED_MAX
    _clamp(nearest)
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
