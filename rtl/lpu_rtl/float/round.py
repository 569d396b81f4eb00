"""Rounding to nearest even, the last step of every unit: from a wide significand to the bits of a float."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.formats import EXPONENT_MAX

from .encoding import EXPONENT, float_layout

__all__ = ["Round"]


class Round(wiring.Component):
    """Round a significand in [1, 4) to nearest, ties to even; combinational.

    Golden model: ``lpu_sw.sim.arithmetic.Arithmetic.nearest`` and ``settle``.

    Ports
    -----
    sign : In(1)
    exponent : In(EXPONENT)             Exponent field of the result if its significand is below 2. A negative one makes
                                        a zero whatever the significand.
    significand : In(p + 1)             p - 1 fraction bits, two integer bits. Rounded it must be below 4.
    guard, sticky : In(1)               The next lower bit, and whether anything is below that.
    result : Out(float_layout(p))       Tiny results are zero of the same sign.
    overflow : Out(1)                   The exponent field is above `EXPONENT_MAX`; then ``result`` is undefined.
    """

    def __init__(self, significand_bits: int) -> None:
        self.significand_bits = significand_bits
        super().__init__({
            "sign": In(1),
            "exponent": In(EXPONENT),
            "significand": In(significand_bits + 1),
            "guard": In(1),
            "sticky": In(1),
            "result": Out(float_layout(significand_bits)),
            "overflow": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        # A half is rounded up, then made even by its lowest bit: so the adder does not wait for `sticky`. From 2 on the
        # lowest bit of `significand` is the guard bit. Rounding up adds at that bit in both cases: from 2 on it is only
        # done when the bit is set, so the carry arrives where it belongs. One adder serves both.
        top, lowest = self.significand[-1], self.significand[0]
        is_half = Mux(top, lowest & ~(self.guard | self.sticky), self.guard & ~self.sticky)
        rounded = Signal.like(self.significand)
        carry = rounded[-1]
        m.d.comb += rounded.eq(self.significand + Mux(top, lowest, self.guard))

        # Both outcomes of the exponent are ready before the carry is.
        above = Signal(EXPONENT)
        m.d.comb += above.eq(self.exponent + 1)
        is_tiny = Mux(carry, self.exponent < 0, self.exponent < 1)
        up = Mux(carry, rounded[1:-1], rounded[:-2])
        fraction = Cat(up[0] & ~is_half, up[1:])
        m.d.comb += [
            self.overflow.eq(Mux(carry, above > EXPONENT_MAX, self.exponent > EXPONENT_MAX)),
            self.result.eq(Cat(Mux(is_tiny, 0, Cat(fraction, Mux(carry, above[:8], self.exponent[:8]))), self.sign)),
        ]
        return m
