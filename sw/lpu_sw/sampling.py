"""Choosing the next token on the host: greedy, or by temperature with the same result on every machine.

NumPy's and the C library's ``exp`` differ in the last bit between processors, and sums between their vector widths.
So the exponential is computed here from additions, multiplications and a scaling by a power of two, which IEEE 754
fixes to the bit, the sum is a running one, and the random numbers are the raw output of PCG64.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Sampler", "portable_exp"]

# ln 2 in two parts: the first has 21 trailing zero bits, so that its product with a small integer is exact.
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
TAYLOR = [1 / math.factorial(order) for order in range(14)]
SMALLEST_EXPONENT = -800.0


def portable_exp(values: np.ndarray) -> np.ndarray:
    """exp of float64 numbers <= 0, equal to the bit on every IEEE 754 machine; relative error below 1e-15.

    Below -800 the result is 0, as it is in float64 anyway.
    """
    values = np.maximum(values, SMALLEST_EXPONENT)
    powers = np.rint(values / math.log(2))
    rest = (values - powers * LN2_HIGH) - powers * LN2_LOW
    result = np.full_like(rest, TAYLOR[-1])
    for coefficient in reversed(TAYLOR[:-1]):
        result = result * rest + coefficient
    return np.ldexp(result, powers.astype(np.int32))


class Sampler:
    """Chooses tokens from logits.

    temperature: 0 takes the largest logit, the lowest id of equals; above 0, a token is drawn with probability
    proportional to exp(logit / temperature). seed: of PCG64; the same seed gives the same choices.
    Raises ValueError for a negative or infinite temperature or a negative seed.
    """

    def __init__(self, temperature: float = 0.0, seed: int = 0) -> None:
        if not 0 <= temperature < math.inf:
            raise ValueError(f"the temperature must be 0 or a positive number, not {temperature}")
        if seed < 0:
            raise ValueError(f"the seed must be 0 or a positive number, not {seed}")
        self.temperature = temperature
        self._bits = np.random.PCG64(seed)

    def choose(self, logits: np.ndarray) -> int:
        """Draw a token. logits: (vocab,), the padded ids cut off. Raises ValueError when one is not a number."""
        if np.isnan(logits).any():
            raise ValueError(f"the logit of token {int(np.argmax(np.isnan(logits)))} is not a number")
        if self.temperature == 0:
            return int(np.argmax(logits))
        below_best = logits.astype(np.float64) - float(logits.max())
        with np.errstate(over="ignore"):
            cumulative = np.cumsum(portable_exp(below_best / self.temperature))
        uniform = (int(self._bits.random_raw()) >> 11) * 2.0**-53
        # uniform * total rounds to less than total, so the place found is always a token of positive probability.
        return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
