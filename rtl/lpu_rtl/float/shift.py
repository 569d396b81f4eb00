"""Shifters and the count that steers them; all combinational."""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.hdl import ValueLike

__all__ = ["leading_zeros", "shift_right"]


def leading_zeros(value: ValueLike) -> Value:
    """Zeros above the highest one; undefined for a value of zero."""
    value = Value.cast(value)
    if len(value) == 1:
        return Const(0, 0)
    half = 1 << ((len(value) - 1).bit_length() - 1)
    # Ones below the last bit make the width a power of two and change no count.
    missing = 2 * half - len(value)
    padded = Cat(Const(-1, missing), value) if missing else value
    low, high = padded[:half], padded[half:]
    is_low = ~high.any()
    return Cat(Mux(is_low, leading_zeros(low), leading_zeros(high)), is_low)


def shift_right(m: Module, value: Value, amount: Value, *, name: str) -> tuple[Value, Value]:
    """``value >> amount``, and whether a one was lost. Amounts past the width give 0."""
    lost = Const(0, 1)
    for bit in range(len(amount)):
        distance = 1 << bit
        shifted = Signal(len(value), name=f"{name}_by{distance}")
        m.d.comb += shifted.eq(Mux(amount[bit], value >> distance, value))
        lost |= amount[bit] & value[:distance].any()
        value = shifted
    return value, lost
