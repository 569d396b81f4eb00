"""The bits of a float, and a value some cycles later."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.hdl import ValueLike
from amaranth.lib import data

from lpu_isa.formats import EXPONENT_BIAS, FloatFormat

__all__ = ["EXPONENT", "ZERO_EXPONENT", "delayed", "float_layout", "flushed", "gated", "significand"]

EXPONENT = signed(11)
"""Shape of an exponent field before it is checked: sums of two fields and a shift count fit."""

ZERO_EXPONENT = -2 * EXPONENT_BIAS
"""Exponent that stands for zero until `lpu_rtl.float.round` makes a zero of it."""


def float_layout(significand_bits: int) -> data.StructLayout:
    """Bits of an encoded float, as in `lpu_isa.formats.FloatFormat`."""
    return data.StructLayout({"fraction": FloatFormat(significand_bits).fraction_bits, "exponent": 8, "sign": 1})


def significand(value):
    """Significand of a float with its leading one; not that of a zero."""
    return Cat(value.fraction, 1)


def flushed(value):
    """Bits of a float in which an exponent field of 0 makes the fraction 0."""
    return Cat(Mux(value.exponent == 0, 0, value.fraction), value.exponent, value.sign)


def gated(value: ValueLike, enable: Value) -> Value:
    """A value's bits, or zeros."""
    value = Value.cast(value)
    return value & enable.replicate(len(value))


def delayed(m: Module, value, cycles: int, *, name: str, reset_less: bool = True):
    """``value`` as it was ``cycles`` cycles ago; registers are called ``name_q1``, ``name_q2``, ..."""
    for cycle in range(1, cycles + 1):
        register = Signal.like(value, name=f"{name}_q{cycle}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value
