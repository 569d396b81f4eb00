"""Number formats and their rounding: floats, block exponents, accumulator, reductions.

Golden arithmetic is float64 rounded to ``significand_bits`` after each single operation; for add, subtract and
multiply that is correctly rounded because 53 >= 2p + 2 (Figueroa 1995). Rounding is to nearest, ties to even; tininess
is judged after rounding and tiny results become zero of the same sign; an exponent field of 0 reads as zero, 255 is an
ordinary binade on reading and is never produced without the fault ``FLOAT``.
"""

from dataclasses import dataclass

import numpy as np

__all__ = [
    "ACCUMULATOR_BITS",
    "ACCUMULATOR_FRACTION_BITS",
    "ACCUMULATOR_HEADROOM",
    "BLOCK_EXPONENT_OFFSET",
    "EXPONENT_BIAS",
    "EXPONENT_MAX",
    "INTEGER_BASE",
    "INTEGER_CODE",
    "QUANTISED_MAX",
    "QUANTISED_MIN",
    "REDUCE_FRACTION_BITS",
    "REDUCE_GROWTH_BITS",
    "SMALLEST_ARGUMENT",
    "FloatFormat",
]

EXPONENT_BIAS = 127
EXPONENT_MAX = 254
"""Largest exponent field of a result."""

QUANTISED_MAX = 127
"""Quantised values are clamped to +-127, those of a block of integers to -128 and 127."""

QUANTISED_MIN = -128
"""Smallest value of a block of integers: the zero point of an activation that is never negative."""

BLOCK_EXPONENT_OFFSET = 6
"""Block code = largest exponent field of the block - 6, as OCP MXINT8: the value of one unit is 2**(code - 127).

A block whose largest exponent field is below ``BLOCK_EXPONENT_OFFSET + 2`` is all zero and has the code 0.
"""

ACCUMULATOR_BITS = 44
"""Two's complement bits of one accumulator row."""

ACCUMULATOR_FRACTION_BITS = 14
"""The unit of an accumulator with base code b is 2**(b - 127 - 14)."""

ACCUMULATOR_HEADROOM = 8
"""A block code may exceed the accumulator's base code by at most 8; more is the fault ``ACCUMULATOR``.

A block's sum is shifted left by ``14 + code - base`` (0 to 22), or right with floor where that is negative.
"""

INTEGER_CODE = EXPONENT_BIAS
"""The code of a block of integers: one unit is 1."""

INTEGER_BASE = EXPONENT_BIAS + ACCUMULATOR_FRACTION_BITS
"""The base code with which an accumulator holds plain integers."""

REDUCE_FRACTION_BITS = 8
"""Bits kept below the last bit of the largest significand while a reduction sums aligned significands."""

REDUCE_GROWTH_BITS = 14
"""Bits kept above it: 2**14 lanes can be summed in one reduction."""

SMALLEST_ARGUMENT = 2.0**-100
"""Reciprocal and reciprocal square root fault below this magnitude (a softmax sum that small has lost its meaning)."""


@dataclass(frozen=True)
class FloatFormat:
    """A float of 1 sign bit, 8 exponent bits and ``significand_bits`` of significand (leading one not stored)."""

    significand_bits: int

    @property
    def fraction_bits(self) -> int:
        """Stored bits of the significand."""
        return self.significand_bits - 1

    @property
    def bits(self) -> int:
        """Bits of an encoded value."""
        return 8 + self.significand_bits

    def round(self, x: np.ndarray) -> np.ndarray:
        """Round float64 to this format's precision, nearest even; tiny results become zero; no check for overflow.

        x: finite float64, any shape. Returns float64 of that shape.
        """
        raw = np.asarray(x, np.float64).view(np.int64)
        drop = 53 - self.significand_bits
        odd = (raw >> drop) & 1
        rounded = ((raw + ((1 << (drop - 1)) - 1) + odd) >> drop << drop).view(np.float64)
        return np.where(np.abs(rounded) < 2.0**-126, np.copysign(0.0, rounded), rounded)

    def overflows(self, x: np.ndarray) -> np.ndarray:
        """Whether a rounded value is too large for an exponent field of 254."""
        return np.abs(x) >= 2.0**128

    def decode(self, raw: np.ndarray) -> np.ndarray:
        """Encoded words (unsigned, low ``bits`` used) to float64. Exponent field 0 reads as zero."""
        raw = np.asarray(raw, np.int64)
        exponent = (raw >> self.fraction_bits) & 255
        fraction = raw & ((1 << self.fraction_bits) - 1)
        magnitude = np.ldexp(
            (fraction + (1 << self.fraction_bits)).astype(np.float64), exponent - EXPONENT_BIAS - self.fraction_bits
        )
        magnitude = np.where(exponent == 0, 0.0, magnitude)
        return np.where((raw >> (self.bits - 1)) & 1 == 1, -magnitude, magnitude)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """float64 values that are already rounded to this format, to uint32 words.

        Raises ``ValueError`` for a value that the format cannot hold exactly.
        """
        x = np.asarray(x, np.float64)
        if not np.all(np.isfinite(x)) or np.any(self.round(x) != x) or np.any(np.abs(x) >= 2.0**129):
            raise ValueError(f"value is not a float of {self.significand_bits} significand bits")
        raw = x.view(np.int64)
        sign = (raw >> 63) & 1
        exponent = ((raw >> 52) & 2047) - 1023 + EXPONENT_BIAS
        fraction = (raw >> (52 - self.fraction_bits)) & ((1 << self.fraction_bits) - 1)
        word = (exponent << self.fraction_bits) | fraction
        word = np.where(x == 0, 0, word) | (sign << (self.bits - 1))
        return word.astype(np.uint32)

    def exponent_field(self, x: np.ndarray) -> np.ndarray:
        """Biased exponent field of rounded float64 values; 0 for zero."""
        raw = np.asarray(x, np.float64).view(np.int64)
        return np.where(np.asarray(x) == 0, 0, ((raw >> 52) & 2047) - 1023 + EXPONENT_BIAS)
