"""Balanced trees over lanes, and what is combined in them."""

import operator
from collections.abc import Callable, Sequence
from itertools import combinations

from amaranth import Cat, Mux, Value

__all__ = ["balanced", "larger", "largest", "pairwise"]

_FEW = 5


def larger(a: Value, b: Value) -> Value:
    """The larger of two numbers of the same signedness."""
    return Mux(b > a, b, a)


def pairwise(combine: Callable, values: Sequence) -> list:
    """Each two neighbours combined; the last value alone if their number is odd."""
    pairs = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
    return pairs + list(values[len(pairs) * 2 :])


def balanced(combine: Callable, values: Sequence):
    """All values combined, in a tree of the least depth."""
    while len(values) > 1:
        values = pairwise(combine, values)
    return values[0]


def largest(values: Sequence[Value]) -> Value:
    """The largest of unsigned numbers of one width.

    The last few are compared each with each, which takes the time of one comparison: a tree of them would be the
    longest path of its unit.
    """
    while len(values) > _FEW:
        values = pairwise(larger, values)
    is_less = {(i, j): values[i] < values[j] for i, j in combinations(range(len(values)), 2)}
    chosen = []
    for i, value in enumerate(values):
        others = [j for j in range(len(values)) if j != i]
        wins = Cat(is_less[j, i] if j < i else ~is_less[i, j] for j in others).all()
        chosen.append(value & wins.replicate(len(value)))
    return balanced(operator.or_, chosen)
