"""Golden arithmetic of single numbers: what each arithmetic unit of the tile computes.

Values are float64 that hold numbers of a float with ``p`` significand bits exactly. Every operation is one exact or
correctly rounded float64 operation, then `nearest` (the significand), then `settle` (the exponent).
"""

import numpy as np

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
)

from .compiled import compiled, lanewise

__all__ = ["add_vector", "align", "decode", "encode", "exponent_field", "find_largest", "finish_sum",
           "fits_accumulator", "is_clamped", "is_misaligned", "is_too_large", "nearest", "power_of_two",
           "quantise_block", "scale_sum", "settle", "start_sum", "to_integer"]  # fmt: skip

_SMALLEST = 2.0 ** (1 - EXPONENT_BIAS)
"""Smallest magnitude that is no zero."""
_TOO_LARGE = 2.0 ** (EXPONENT_MAX + 1 - EXPONENT_BIAS)
"""Smallest magnitude that no result may have."""
_ACCUMULATOR_LIMIT = 2.0 ** (ACCUMULATOR_BITS - 1)

# A float64, as the tile's floats, is a sign, an exponent and a fraction.
_DOUBLE_BITS, _DOUBLE_FRACTION_BITS, _DOUBLE_BIAS = 53, 52, 1023
_REBIAS = (_DOUBLE_BIAS - EXPONENT_BIAS) << _DOUBLE_FRACTION_BITS
"""What the bits of a float64 have more than those of a float of ours, shifted to its place."""
_MAGNITUDE = (1 << 63) - 1


@lanewise
def power_of_two(exponent):
    """2.0**exponent, for exponents from -1022 to 1023."""
    return np.int64((exponent + _DOUBLE_BIAS) << _DOUBLE_FRACTION_BITS).view(np.float64)


@lanewise
def exponent_field(magnitude):
    """The exponent field that a float of ours has for a magnitude; not above 0 for zero."""
    return (np.float64(magnitude).view(np.int64) >> _DOUBLE_FRACTION_BITS) - (_DOUBLE_BIAS - EXPONENT_BIAS)


# Rounding, in two steps.


@lanewise
def nearest(x, p):
    """Round to the significand, nearest even, as if exponents had no bounds. Keeps the sign of zero.

    Veltkamp's splitting (Dekker, Numer. Math. 18, 1971, section 5) rounds to nearest; that ties go to even is tested
    for every significand.
    """
    scaled = x * ((1 << (_DOUBLE_BITS - p)) + 1.0)
    return scaled - (scaled - x)


@lanewise
def settle(x):
    """Bring a rounded value into the exponent's range: a tiny one becomes zero of its sign. See `is_too_large`."""
    return x * (abs(x) >= _SMALLEST)


@lanewise
def is_too_large(x):
    """Whether a result is the fault ``FLOAT``."""
    return abs(x) >= _TOO_LARGE


@lanewise
def scale_sum(total, base):
    """The value of an accumulator's sum with its base code; not rounded yet."""
    return total * power_of_two(base - EXPONENT_BIAS - ACCUMULATOR_FRACTION_BITS)


# Scalar registers.


@compiled
def decode(word, p):
    """The float in the low bits of a register (of either sign)."""
    magnitude = (word & ((1 << (p + 7)) - 1)) << (_DOUBLE_BITS - p)
    value = 0.0
    if magnitude >> _DOUBLE_FRACTION_BITS:
        value = np.int64(magnitude + _REBIAS).view(np.float64)
    return -value if (word >> (p + 7)) & 1 else value


@compiled
def encode(x, p):
    """A value of the format as the low bits of a register."""
    raw = np.float64(x).view(np.int64)
    magnitude, sign = raw & _MAGNITUDE, (raw >> 63) & 1
    return sign << (p + 7) | ((magnitude - _REBIAS) >> (_DOUBLE_BITS - p) if magnitude else 0)


# The sum of a reduction: vectors are aligned significand by significand with the largest one so far. The running sum
# has `REDUCE_FRACTION_BITS` below the last bit of that one's significand, and every shift to the right is a floor.
# A float64 holds it for up to 2**(45 - p) lanes.


@compiled
def _reduce_shift(field, p):
    """Binary digits between 1 and the unit of a running sum."""
    return p + REDUCE_FRACTION_BITS - (field - EXPONENT_BIAS + 1)


@compiled
def start_sum(start, p):
    """The running sum that is a start value, and the exponent field of the largest value in it."""
    field = max(exponent_field(abs(start)), 0)
    return start * power_of_two(_reduce_shift(field, p)), field


@compiled
def add_vector(running, field, vector, lanes, p):
    """The same with ``lanes`` of a vector."""
    largest = 0.0
    for lane in range(lanes):
        largest = max(largest, abs(vector[lane]))
    new_field = max(field, exponent_field(largest))
    running = np.floor(running * power_of_two(field - new_field))
    scale = power_of_two(_reduce_shift(new_field, p))
    for lane in range(lanes):
        running += np.floor(vector[lane] * scale)
    return running, new_field


@compiled
def finish_sum(running, field, p):
    """The sum, rounded once; see `is_too_large`."""
    return settle(nearest((running + 0.0) * power_of_two(-_reduce_shift(field, p)), p))


# The largest value of a reduction.


@compiled
def find_largest(best, index, vector, lanes, first):
    """The largest value so far and its index, and the same with ``lanes`` of a vector whose lane 0 is ``first``.

    Zeros are alike, and of equal values the first one stays.
    """
    for lane in range(lanes):
        if vector[lane] > best:
            best, index = vector[lane] + 0.0, first + lane
    return best, index


# Quantisers.


@lanewise
def to_integer(x, lowest):
    """The nearest integer, ties to even, clamped to ``lowest`` and `QUANTISED_MAX`."""
    return np.minimum(np.maximum(np.rint(x), lowest), QUANTISED_MAX)


@lanewise
def is_clamped(x):
    """Whether the quantiser with a scale of 1 clamps a value."""
    return abs(np.rint(x)) > QUANTISED_MAX


@compiled
def quantise_block(values, quantised, is_shared):
    """A block (n,) to integers, nearest even, written to ``quantised``, and its code, which is returned.

    is_shared : the exponent is that of the largest value, and integers go from -`QUANTISED_MAX` on; otherwise the scale
    is 1, and they go from `QUANTISED_MIN` on.
    """
    code, scale, lowest = INTEGER_CODE, 1.0, QUANTISED_MIN
    if is_shared:
        largest = 0.0
        for x in values:
            largest = max(largest, abs(x))
        code, scale, lowest = exponent_field(largest) - BLOCK_EXPONENT_OFFSET, 0.0, -QUANTISED_MAX
        if code < 2:
            code = 0
        else:
            scale = power_of_two(EXPONENT_BIAS - code)
    for i in range(len(values)):
        quantised[i] = to_integer(values[i] * scale, lowest)
    return code


# Accumulator.


@lanewise
def is_misaligned(code, base):
    """Whether a block's code lies too far above the accumulator's base code: the fault ``ACCUMULATOR``."""
    return (code - base > ACCUMULATOR_HEADROOM) & (code != 0)


@lanewise
def align(total, code, base):
    """A block's row sum, shifted by ``14 + code - base`` (right with floor), as it enters the accumulator.

    A block of code 0 gives 0. Exact unless it is misaligned.
    """
    return np.floor(total * power_of_two(ACCUMULATOR_FRACTION_BITS + code - base)) * (code != 0)


@lanewise
def fits_accumulator(total):
    """Whether an accumulator holds the sum; otherwise it is the fault ``ACCUMULATOR``."""
    return (total >= -_ACCUMULATOR_LIMIT) & (total < _ACCUMULATOR_LIMIT)
