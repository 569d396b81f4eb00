"""The functions of the vector unit, after the integer tables in `lpu_isa.tables`.

What is interpolated is written once, on integers: a Python integer for a scalar, an int64 array for vectors.
"""

import math
from collections.abc import Callable
from functools import cache, partial
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
TABULATED_BITS = 18
"""Significands up to here have so few arguments that every one is interpolated once, beforehand."""

_SIGMOID_LOW, _SIGMOID_HIGH = np.array(-SIGMOID_LIMIT), np.array(SIGMOID_LIMIT)
_EXP2_LOW, _EXP2_HIGH = np.array(-EXP2_LIMIT), np.array(EXP2_LIMIT)
_DROPPED_BITS = 10
_INT = np.dtype(np.int64)


class _Curve:
    """Significand of one function, in units of its last place, by the argument's field: the segment, then the rest.

    The field of SIGMOID has a sign, and one value more than there are segments, where it saturates.
    """

    def __init__(self, function: Function, p: int) -> None:
        self._is_signed = function is Function.SIGMOID
        has_octave = function in (Function.EXP2, Function.RECIPROCAL)
        self._shift = p - 9 if has_octave else p - 8
        self._mask = (1 << self._shift) - 1
        self._sum_of_signs = 1 << p
        knot = knots(function) + (1 << KNOT_FRACTION_BITS)
        self._knot = (knot << (p - 8)) + (1 << (_DROPPED_BITS - 1))
        self._slope = np.append(np.diff(knot), 0) << (1 if has_octave else 0)
        self._table: np.ndarray | None = None
        if p <= TABULATED_BITS:
            fields = np.arange(SEGMENTS << self._shift)
            if self._is_signed:  # negative ones from the end
                end = SEGMENTS << self._shift
                fields = np.concatenate([fields, [end], np.arange(-end, 0)])
            self._table = self._interpolate(fields).astype(np.float64)

    def calls(self, field: np.ndarray, out: np.ndarray) -> list[Callable[[], object]]:
        """What makes the integers in ``out``, float64, of an int64 array of fields."""
        if self._table is not None:
            # "wrap": negative fields are found from the table's end.
            return [partial(self._table.take, field, None, out, "wrap")]
        return [lambda: np.copyto(out, self._interpolate(field))]

    def scalar(self, field: int) -> float:
        """The same of one field."""
        return float(self._interpolate(field)) if self._table is None else self._table.item(field)

    def _interpolate(self, field: Integer) -> Integer:
        magnitude = abs(field) if self._is_signed else field
        segment, rest = magnitude >> self._shift, magnitude & self._mask
        significand = (self._knot[segment] + self._slope[segment] * rest) >> _DROPPED_BITS
        return np.where(field < 0, self._sum_of_signs - significand, significand) if self._is_signed else significand


@cache
def _curve(function: Function, p: int) -> _Curve:
    """Made once, since every simulator needs them."""
    return _Curve(function, p)


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
        self._exp2_unit = np.array(2.0 ** (p - 1))
        self._sigmoid_unit = np.array(2.0 ** (p - 4))
        self._half = np.array(2.0**-p)
        # Value of a significand's last bit by exponent, negative ones from the end; zero where exp2 is.
        exponent = np.roll(np.arange(-int(EXP2_LIMIT), int(EXP2_LIMIT) + 1), int(EXP2_LIMIT) + 1)
        self._exp2_scale = np.where(exponent < 1 - EXPONENT_BIAS, 0.0, np.ldexp(2.0 ** (1 - p), exponent))
        curves = {function: _curve(function, p) for function in Function if function is not Function.NONE}
        self._exp2, self._sigmoid = curves[Function.EXP2], curves[Function.SIGMOID]
        self._reciprocal, self._rsqrt = curves[Function.RECIPROCAL], curves[Function.RSQRT]

    def outside_domain(self, function: Function, x: Any) -> Any:
        """Where the argument, a number or an array, is the fault ``FUNCTION`` (bool); None where no argument is."""
        if function is Function.RECIPROCAL:
            return abs(x) < SMALLEST_ARGUMENT
        if function is Function.RSQRT:
            return x < SMALLEST_ARGUMENT
        return None

    def calls(self, function: Function, x: np.ndarray, out: np.ndarray) -> list[Callable[[], object]]:
        """What makes the values of an array of at least one dimension in ``out``, another array, when it is called."""
        calls = {
            Function.EXP2: self._exp2_calls,
            Function.RECIPROCAL: self._reciprocal_calls,
            Function.RSQRT: self._rsqrt_calls,
            Function.SIGMOID: self._sigmoid_calls,
        }
        return calls[function](x, out)

    # Clamped by fmax and fmin, since maximum and minimum take their output by keyword, which takes as long again.

    def _exp2_calls(self, x: np.ndarray, out: np.ndarray) -> list[Callable[[], object]]:
        t, exponent, scale = np.empty(x.shape, _INT), np.empty(x.shape, _INT), np.empty(x.shape)
        return [
            # What is clamped is too small or too large either way.
            partial(np.fmax, x, _EXP2_LOW, out),
            partial(np.fmin, out, _EXP2_HIGH, out),
            partial(np.multiply, out, self._exp2_unit, out),
            partial(np.floor, out, out),
            partial(np.copyto, t, out, "unsafe"),
            partial(np.right_shift, t, self._octave_bits, exponent),
            partial(self._exp2_scale.take, exponent, None, scale, "wrap"),
            partial(np.bitwise_and, t, self._fraction_mask, t),
            *self._exp2.calls(t, out),
            partial(np.multiply, out, scale, out),
        ]

    def _sigmoid_calls(self, x: np.ndarray, out: np.ndarray) -> list[Callable[[], object]]:
        t = np.empty(x.shape, _INT)
        return [
            partial(np.fmax, x, _SIGMOID_LOW, out),
            partial(np.fmin, out, _SIGMOID_HIGH, out),
            partial(np.multiply, out, self._sigmoid_unit, out),
            # Towards zero: the floor of the magnitude.
            partial(np.copyto, t, out, "unsafe"),
            *self._sigmoid.calls(t, out),
            partial(np.multiply, out, self._half, out),
        ]

    def _reciprocal_calls(self, x: np.ndarray, out: np.ndarray) -> list[Callable[[], object]]:
        fraction, exponent = np.empty(x.shape, _INT), np.empty(x.shape, _INT)
        return [
            lambda: self._split(x, fraction, exponent),
            *self._reciprocal.calls(fraction, out),
            lambda: np.copysign(np.ldexp(out / self._one, -1 - exponent), x, out),
        ]

    def _rsqrt_calls(self, x: np.ndarray, out: np.ndarray) -> list[Callable[[], object]]:
        field, exponent = np.empty(x.shape, _INT), np.empty(x.shape, _INT)
        return [
            lambda: self._split(x, field, exponent),
            lambda: np.add(field, (exponent & 1) * self._one, field),
            *self._rsqrt.calls(field, out),
            lambda: np.ldexp(out / self._one, -1 - (exponent >> 1), out),
        ]

    def _split(self, x: np.ndarray, fraction: np.ndarray, exponent: np.ndarray) -> None:
        """Fraction, in units of the significand's last place, and exponent of a magnitude."""
        raw = np.ascontiguousarray(x, np.float64).view(_INT)
        np.bitwise_and(raw >> self._double_drop, self._fraction_mask, fraction)
        # A zero, which is outside the domain, becomes a small number: no later product overflows float64.
        np.maximum(((raw >> 52) & 2047) - 1023, -EXPONENT_BIAS, out=exponent)

    def scalar(self, function: Function, x: float) -> float:
        """The value for one argument, which must not be zero for RECIPROCAL and RSQRT."""
        if function is Function.EXP2:
            t = math.floor(min(max(x, -EXP2_LIMIT), EXP2_LIMIT) * self._one)
            exponent = t >> self._fraction_bits
            significand = self._exp2.scalar(t & (self._one - 1))
            return math.ldexp(significand, exponent - self._fraction_bits) if exponent > -EXPONENT_BIAS else 0.0
        if function is Function.SIGMOID:
            t = int(min(max(x, -SIGMOID_LIMIT), SIGMOID_LIMIT) * self._one / 8)
            return math.ldexp(self._sigmoid.scalar(t), -1 - self._fraction_bits)
        significand, exponent = math.frexp(abs(x))
        fraction, exponent = int(significand * 2 * self._one) - self._one, exponent - 1
        if function is Function.RECIPROCAL:
            return math.copysign(math.ldexp(self._reciprocal.scalar(fraction), -1 - exponent - self._fraction_bits), x)
        significand = self._rsqrt.scalar(fraction + (exponent & 1) * self._one)
        return math.ldexp(significand, -1 - (exponent >> 1) - self._fraction_bits)
