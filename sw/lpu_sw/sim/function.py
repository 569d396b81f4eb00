"""The functions of the vector unit, after the integer tables in `lpu_isa.tables`."""

import numpy as np

from lpu_isa.formats import EXPONENT_BIAS, SMALLEST_ARGUMENT
from lpu_isa.tables import KNOT_FRACTION_BITS, Function, knots

from .compiled import compiled, lanewise
from .scalar import exponent_field, power_of_two

__all__ = ["function_of", "is_outside_domain"]

_SIGMOID_LIMIT = 16.0
"""Where sigmoid saturates."""
_EXP2_LIMIT = 128.0
"""From here on exp2 is too large, and below minus this it is zero."""


def _knots(function: Function) -> np.ndarray:
    """Its 257 knots, the last one twice: SIGMOID interpolates from there on where it saturates."""
    offsets = knots(function)
    return np.append(offsets, offsets[-1]) + (1 << KNOT_FRACTION_BITS)


_EXP2, _RECIPROCAL = _knots(Function.EXP2), _knots(Function.RECIPROCAL)
_RSQRT, _SIGMOID = _knots(Function.RSQRT), _knots(Function.SIGMOID)


@lanewise
def is_outside_domain(function, x):
    """Whether the argument is the fault ``FUNCTION``."""
    if function == Function.RECIPROCAL:
        return abs(x) < SMALLEST_ARGUMENT
    return x < SMALLEST_ARGUMENT if function == Function.RSQRT else False


@compiled
def function_of(function, x, p):
    """exp2, reciprocal, reciprocal square root or sigmoid of a value with ``p`` significand bits.

    The result is a significand of the format, its exponent not yet brought into range; outside the function's domain it
    is some number. Largest error in units of the result's last place, against float64:

    | function   | p = 18 | p = 24 | of arguments                                                 |
    | ---------- | ------ | ------ | ------------------------------------------------------------ |
    | EXP2       | 2.3    | 36     | in its range                                                 |
    | RECIPROCAL | 1.8    | 81     | all                                                          |
    | RSQRT      | 2.2    | 106    | all                                                          |
    | SIGMOID    | 16     | 821    | from 0 on; below, the same absolute error, at most 6.1e-5    |
    """
    if function == Function.EXP2:
        return _exp2(x, p)
    if function == Function.SIGMOID:
        return _sigmoid(x, p)
    # Fraction, in units of the significand's last place, and exponent of the magnitude. A zero, which is outside the
    # domain, has one with which no later product overflows float64.
    magnitude = abs(x)
    fraction = (np.float64(magnitude).view(np.int64) >> (53 - p)) & ((1 << (p - 1)) - 1)
    exponent = max(exponent_field(magnitude), 0) - EXPONENT_BIAS
    if function == Function.RECIPROCAL:
        value = _interpolate(_RECIPROCAL, fraction, p - 9, p) * power_of_two(-exponent - p)
        return -value if x < 0 else value
    field = fraction + ((exponent & 1) << (p - 1))
    return _interpolate(_RSQRT, field, p - 8, p) * power_of_two(-(exponent >> 1) - p)


@compiled
def _interpolate(knot, field, bits, p):
    """The significand, in units of its last place, for an argument's field whose last ``bits`` lie between knots."""
    segment, rest = field >> bits, field & ((1 << bits) - 1)
    rest <<= p - 8 - bits
    return ((knot[segment] << (p - 8)) + (knot[segment + 1] - knot[segment]) * rest + 512) >> 10


@compiled
def _exp2(x, p):
    # What is clamped is too small or too large either way.
    t = np.int64(np.floor(min(max(x, -_EXP2_LIMIT), _EXP2_LIMIT) * (1 << (p - 1))))
    exponent = t >> (p - 1)
    if exponent < 1 - EXPONENT_BIAS:
        return 0.0
    return _interpolate(_EXP2, t & ((1 << (p - 1)) - 1), p - 9, p) * power_of_two(exponent - (p - 1))


@compiled
def _sigmoid(x, p):
    t = np.int64(min(abs(x), _SIGMOID_LIMIT) * (1 << (p - 4)))
    significand = _interpolate(_SIGMOID, t, p - 8, p)
    return ((1 << p) - significand if x < 0 else significand) * power_of_two(-p)
