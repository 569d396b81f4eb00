"""The four functions of the vector unit, defined by their integer tables and the interpolation between knots.

Each function has 256 segments between knots of 17 fraction bits. A knot value lies in [1, 2] and is stored as its
offset from 1 in units of 2**-17 (18 bits, since 2.0 is stored as 2**17). With p significand bits the remaining argument
bits ``r`` have p - 8 bits and the significand (p - 1 fraction bits, in [1, 2]) is::

    knot = 2**17 + offset[i]; next = 2**17 + offset[i + 1]
    y = ((knot << (p - 8)) + (next - knot) * r + 512) >> 10

| function   | argument bits                                           | result                                     |
| ---------- | ------------------------------------------------------- | ------------------------------------------ |
| EXP2       | t = floor(x * 2**(p-1)); i, r from t mod 2**(p-1)       | y * 2**(t >> (p-1)); tiny is 0             |
| RECIPROCAL | x = +-1.f * 2**e; i, r from f                           | +-y * 2**(-1 - e)                          |
| RSQRT      | x = 1.f * 2**e; i from (e mod 2, top 7 bits of f)       | y * 2**(-1 - floor(e / 2))                 |
| SIGMOID    | t = floor(abs(x) * 2**(p-4)), 16 and more saturate      | x >= 0: y / 2; x < 0: 1 - y / 2, exact     |

``i`` is the top 8 bits of the argument field, ``r`` the rest; where the field has p - 1 bits (EXP2, RECIPROCAL, one
octave of 8 index bits) ``r`` has p - 9 bits and is used shifted left by one. RSQRT takes 7 index bits of f and has
p - 8 bits left; SIGMOID's t has p bits, 8 of index and p - 8 left.
"""

from enum import IntEnum

import numpy as np

__all__ = ["KNOT_FRACTION_BITS", "SEGMENTS", "Function", "knots", "rom"]

SEGMENTS = 256
KNOT_FRACTION_BITS = 17


class Function(IntEnum):
    """Functions of the vector unit and of the sequencer's scalar port."""

    NONE = 0
    EXP2 = 1
    RECIPROCAL = 2
    RSQRT = 3
    SIGMOID = 4


def _values(function: Function) -> np.ndarray:
    u = np.arange(SEGMENTS + 1) / SEGMENTS
    if function is Function.EXP2:
        return np.exp2(u)
    if function is Function.RECIPROCAL:
        return 2 / (1 + u)
    if function is Function.RSQRT:  # first half: e even, m in [1, 2); second half: e odd, m in [2, 4)
        m = np.where(u < 0.5, 1 + 2 * u, 4 * u)
        return 2 / np.sqrt(m)
    if function is Function.SIGMOID:
        return 2 / (1 + np.exp(-16 * u))
    raise ValueError(f"{function!r} has no table")


def knots(function: Function) -> np.ndarray:
    """The 257 knot offsets of a function, integers from 0 to 2**17.

    >>> knots(Function.EXP2)[[0, 128, 256]].tolist()
    [0, 54292, 131072]
    """
    one = 1 << KNOT_FRACTION_BITS
    return np.rint((_values(function) - 1) * one).astype(np.int64)


def rom() -> np.ndarray:
    """The 1,024-word function memory: 256 knots of each function in the order of ``Function``, without the last one.

    The 257th knot is the constant ``knots(function)[256]``: 2**17 for EXP2 and SIGMOID, 0 for the other two.
    """
    return np.concatenate([knots(f)[:SEGMENTS] for f in Function if f is not Function.NONE])
