"""Multiplier: two floats to their rounded product."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.formats import EXPONENT_BIAS

from ..primitives import Multiplier18, Technology
from .encoding import EXPONENT, ZERO_EXPONENT, delayed, float_layout, significand
from .round import Round

__all__ = ["Multiply"]


class Multiply(wiring.Component):
    """Rounded product of two floats.

    Golden model: ``lpu_sw.sim.arithmetic.Arithmetic.multiply``.

    Parameters
    ----------
    significand_bits : int
        18 takes one multiplier of the chip; any other width is left to the tools.
    technology : Technology
        What the multiplier is built from.

    Ports
    -----
    a, b : In(float_layout(p))
    result : Out(float_layout(p))
    overflow : Out(1)                   With ``result``: it is too large, and undefined.

    Timing: latency `lpu_isa.vxm.MULTIPLY` (factors registered, product registered, rounded), a product each cycle.
    """

    def __init__(self, significand_bits: int, technology: Technology = Technology.GENERIC) -> None:
        self.significand_bits = significand_bits
        self.technology = technology
        layout = float_layout(significand_bits)
        super().__init__({"a": In(layout), "b": In(layout), "result": Out(layout), "overflow": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        p = self.significand_bits
        is_zero = delayed(m, (self.a.exponent == 0) | (self.b.exponent == 0), 1, name="is_zero")
        exponents = delayed(m, self.a.exponent + self.b.exponent, 1, name="exponents")
        exponent = Signal(EXPONENT)
        m.d.comb += exponent.eq(Mux(is_zero, ZERO_EXPONENT, exponents - EXPONENT_BIAS))

        product = Signal(2 * p)
        m.d.comb += product.eq(self._product(m, significand(self.a), significand(self.b)))

        m.submodules.round = rounding = Round(p)
        m.d.comb += [
            rounding.sign.eq(delayed(m, self.a.sign ^ self.b.sign, 2, name="sign")),
            rounding.exponent.eq(delayed(m, exponent, 1, name="exponent")),
            rounding.significand.eq(product[p - 1 :]),
            rounding.guard.eq(product[p - 2]),
            rounding.sticky.eq(product[: p - 2].any()),
            self.result.eq(delayed(m, rounding.result, 1, name="result")),
            self.overflow.eq(delayed(m, rounding.overflow, 1, name="overflow")),
        ]
        return m

    def _product(self, m: Module, a, b):
        """Product of two significands, two cycles later."""
        if self.significand_bits == 18:
            m.submodules.multiplier = multiplier = Multiplier18(is_signed=False, technology=self.technology)
            m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b)]
            return multiplier.product
        a_q, b_q = delayed(m, a, 1, name="a"), delayed(m, b, 1, name="b")
        return delayed(m, a_q * b_q, 1, name="product")
