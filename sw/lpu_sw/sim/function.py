"""The functions of the vector unit, after the integer tables in `lpu_isa.tables`.

What is interpolated is written once, on integers: a Python integer for a scalar, an int64 array for vectors.
"""

import math
from typing import Any

import numpy as np

from lpu_isa.formats import EXPONENT_BIAS, SMALLEST_ARGUMENT, FloatFormat
from lpu_isa.tables import KNOT_FRACTION_BITS, SEGMENTS, Function, knots

__all__ = ["Functions"]

Integer = Any
"""An integer, or an array of them."""

SIGMOID_LIMIT = 16.0
"""Where sigmoid saturates."""
EXP2_LIMIT = 128.0
"""From here on exp2 is too large, and below minus this it is zero."""

_ZERO, _ONE = np.array(0.0), np.array(1.0)
_SIGMOID_LIMIT = np.array(SIGMOID_LIMIT)
_EXP2_LOW, _EXP2_HIGH = np.array(-EXP2_LIMIT), np.array(EXP2_LIMIT)
_DROPPED_BITS = np.array(10)
_INT = np.dtype(np.int64)


class Functions:
    """exp2, reciprocal, reciprocal square root and sigmoid of values of one `FloatFormat`.

    Results are significands of the format, their exponents not yet brought into range; outside a function's domain
    they are some number. Largest error in units of the result's last place, against float64:

    | function   | p = 18 | p = 24 | of arguments                                                 |
    | ---------- | ------ | ------ | ------------------------------------------------------------ |
    | EXP2       | 2.3    | 36     | in its range                                                 |
    | RECIPROCAL | 1.8    | 81     | all                                                          |
    | RSQRT      | 2.2    | 106    | all                                                          |
    | SIGMOID    | 16     | 821    | from 0 on; below, the same absolute error, at most 6.1e-5    |
    """

    def __init__(self, float_format: FloatFormat) -> None:
        p = float_format.significand_bits
        self._fraction_bits = p - 1
        self._one = 1 << (p - 1)
        self._octave_bits = np.array(p - 1)
        self._fraction_mask = np.array(self._one - 1)
        self._double_drop = np.array(53 - p)
        # Bits of the argument below those that choose the segment: of exp2 and the reciprocal, of the other two.
        self._octave_shift, self._octave_mask = np.array(p - 9), np.array((1 << (p - 9)) - 1)
        self._other_shift, self._other_mask = np.array(p - 8), np.array((1 << (p - 8)) - 1)
        self._exp2_unit = np.array(2.0 ** (p - 1))
        self._sigmoid_unit = np.array(2.0 ** (p - 4))
        self._half = np.array(2.0**-p)
        # Value of a significand's last bit by exponent, negative ones from the end; zero where exp2 is.
        exponent = np.roll(np.arange(-int(EXP2_LIMIT), int(EXP2_LIMIT) + 1), int(EXP2_LIMIT) + 1)
        self._exp2_scale = np.where(exponent < 1 - EXPONENT_BIAS, 0.0, np.ldexp(2.0 ** (1 - p), exponent))
        # Knots and the distance to the next, as they enter the interpolation. One segment more than there are: a
        # sigmoid that saturates is a segment without slope.
        self._knot: dict[Function, np.ndarray] = {}
        self._slope: dict[Function, np.ndarray] = {}
        for function in (f for f in Function if f is not Function.NONE):
            knot = knots(function) + (1 << KNOT_FRACTION_BITS)
            doubled = 1 if function in (Function.EXP2, Function.RECIPROCAL) else 0
            self._knot[function] = (knot << (p - 8)) + 512
            self._slope[function] = np.append(np.diff(knot), 0) << doubled

    def outside_domain(self, function: Function, x: np.ndarray) -> np.ndarray | None:
        """Where the argument is the fault ``FUNCTION`` (bool); None for a function that takes every argument."""
        if function is Function.RECIPROCAL:
            return np.abs(x) < SMALLEST_ARGUMENT
        if function is Function.RSQRT:
            return x < SMALLEST_ARGUMENT
        return None

    # Significand in units of its last place, from 2**(p-1) to 2**p, and what else comes of the argument.

    def _interpolate(self, function: Function, segment: Integer, rest: Integer) -> Integer:
        return (self._knot[function][segment] + self._slope[function][segment] * rest) >> _DROPPED_BITS

    def _exp2(self, t: Integer) -> Integer:
        """t: argument in units of 2**(1-p); the exponent is ``t >> (p-1)``."""
        t = t & self._fraction_mask
        return self._interpolate(Function.EXP2, t >> self._octave_shift, t & self._octave_mask)

    def _reciprocal(self, fraction: Integer) -> Integer:
        """fraction: stored bits of the argument; its exponent e becomes -1 - e."""
        return self._interpolate(Function.RECIPROCAL, fraction >> self._octave_shift, fraction & self._octave_mask)

    def _rsqrt(self, fraction: Integer, exponent: Integer) -> Integer:
        """As `_reciprocal`; the exponent e becomes -1 - floor(e / 2)."""
        segment = (fraction >> self._other_shift) + (exponent & 1) * (SEGMENTS // 2)
        return self._interpolate(Function.RSQRT, segment, fraction & self._other_mask)

    def _sigmoid(self, t: Integer) -> Integer:
        """t: magnitude of the argument in units of 2**(4-p); the exponent is -1."""
        return self._interpolate(Function.SIGMOID, t >> self._other_shift, t & self._other_mask)

    def vector(self, function: Function, x: np.ndarray) -> np.ndarray:
        """Values for an array of at least one dimension."""
        if function is Function.EXP2:
            # What is clamped is too small or too large either way.
            t = np.floor(np.minimum(np.maximum(x, _EXP2_LOW), _EXP2_HIGH) * self._exp2_unit).astype(_INT)
            return self._exp2(t) * self._exp2_scale[t >> self._octave_bits]
        if function is Function.SIGMOID:
            t = np.floor(np.minimum(np.abs(x), _SIGMOID_LIMIT) * self._sigmoid_unit).astype(_INT)
            y = self._sigmoid(t) * self._half
            return np.where(x < _ZERO, _ONE - y, y)
        raw = np.ascontiguousarray(x, np.float64).view(_INT)
        fraction = (raw >> self._double_drop) & self._fraction_mask
        # A zero, which is outside the domain, becomes a small number: no later product overflows float64.
        exponent = np.maximum(((raw >> 52) & 2047) - 1023, -EXPONENT_BIAS)
        if function is Function.RECIPROCAL:
            return np.copysign(np.ldexp(self._reciprocal(fraction) / self._one, -1 - exponent), x)
        return np.ldexp(self._rsqrt(fraction, exponent) / self._one, -1 - (exponent >> 1))

    def scalar(self, function: Function, x: float) -> float:
        """The value for one argument, which must not be zero for RECIPROCAL and RSQRT."""
        if function is Function.EXP2:
            t = math.floor(min(max(x, -EXP2_LIMIT), EXP2_LIMIT) * self._one)
            exponent = t >> self._fraction_bits
            return math.ldexp(self._exp2(t), exponent - self._fraction_bits) if exponent > -EXPONENT_BIAS else 0.0
        if function is Function.SIGMOID:
            y = math.ldexp(self._sigmoid(int(min(abs(x), SIGMOID_LIMIT) * self._one / 8)), -1 - self._fraction_bits)
            return 1.0 - y if x < 0 else y
        significand, exponent = math.frexp(abs(x))
        fraction, exponent = int(significand * 2 * self._one) - self._one, exponent - 1
        if function is Function.RECIPROCAL:
            return math.copysign(math.ldexp(self._reciprocal(fraction), -1 - exponent - self._fraction_bits), x)
        return math.ldexp(self._rsqrt(fraction, exponent), -1 - (exponent >> 1) - self._fraction_bits)
