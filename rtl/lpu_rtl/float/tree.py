"""Balanced trees over lanes, and what is combined in them."""

from collections.abc import Callable, Sequence

from amaranth import Mux, Value

__all__ = ["balanced", "larger", "pairwise"]


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
