"""Converter: an integer with an exponent to the nearest float."""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .encoding import EXPONENT, ZERO_EXPONENT, delayed, float_layout
from .round import Round
from .shift import leading_zeros

__all__ = ["Convert"]

_GROUP_BITS = 8  # the first shift moves whole groups, the second bits within one


class Convert(wiring.Component):
    """Two's complement integer times a power of two, rounded to a float; 0 becomes +0.

    Golden model: ``lpu_sw.sim.arithmetic.Arithmetic.convert``.

    Parameters
    ----------
    integer_bits : int
        Width of the integer, more than ``significand_bits``.
    significand_bits : int
        Of the result.

    Ports
    -----
    value : In(signed(integer_bits))
    unit : In(EXPONENT)                 Exponent field of the float that the integer 1 becomes.
    result : Out(float_layout(p))       Not registered: whoever takes it does so.
    overflow : Out(1)                   With ``result``: it is too large, and undefined.

    Timing: latency `lpu_isa.vxm.CONVERT` with the register that takes the result (magnitude, coarse shift, fine shift,
    round), a result each cycle.
    """

    def __init__(self, integer_bits: int, significand_bits: int) -> None:
        self.integer_bits = integer_bits
        self.significand_bits = significand_bits
        super().__init__({
            "value": In(signed(integer_bits)),
            "unit": In(EXPONENT),
            "result": Out(float_layout(significand_bits)),
            "overflow": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        p = self.significand_bits
        window_bits = p + _GROUP_BITS
        n_groups = -(-max(self.integer_bits, window_bits) // _GROUP_BITS)
        width = n_groups * _GROUP_BITS

        # Magnitude, its highest possible one in the highest bit of the highest group.
        is_negative = self.value[-1]
        magnitude = ((self.value ^ is_negative.replicate(self.integer_bits)) + is_negative)[: self.integer_bits]
        left = Cat(Const(0, width - self.integer_bits), delayed(m, magnitude, 1, name="magnitude"))
        top = Signal(EXPONENT)  # exponent field of a one in the highest bit
        m.d.comb += top.eq(self.unit + self.integer_bits - 1)
        top_q = delayed(m, top, 2, name="top")

        # Coarse shift: the highest group that is not zero comes first.
        coarse, lost, coarse_shift = left[-window_bits:], Const(0, 1), Const(0, (n_groups - 1).bit_length())
        for skipped in reversed(range(n_groups)):
            shifted = (left << (skipped * _GROUP_BITS))[:width]
            is_first = left[width - (skipped + 1) * _GROUP_BITS :].any()
            coarse = Mux(is_first, shifted[-window_bits:], coarse)
            lost = Mux(is_first, shifted[:-window_bits].any(), lost)
            coarse_shift = Mux(is_first, skipped, coarse_shift)
        coarse = delayed(m, coarse, 1, name="coarse")
        lost = delayed(m, lost, 1, name="lost")
        coarse_shift = delayed(m, coarse_shift, 1, name="coarse_shift")

        # Fine shift.
        group = coarse[-_GROUP_BITS:]
        zeros = leading_zeros(group)
        fine = (coarse << zeros)[:window_bits]
        exponent = Signal(EXPONENT)
        m.d.comb += exponent.eq(Mux(group.any(), top_q - Cat(zeros, coarse_shift), ZERO_EXPONENT))
        dropped = fine[: _GROUP_BITS - 1].any() | lost

        m.submodules.round = rounding = Round(p)
        m.d.comb += [
            rounding.sign.eq(delayed(m, is_negative, 3, name="is_negative")),
            rounding.exponent.eq(delayed(m, exponent, 1, name="exponent")),
            rounding.significand.eq(delayed(m, fine[-p:], 1, name="significand")),
            rounding.guard.eq(delayed(m, fine[_GROUP_BITS - 1], 1, name="guard")),
            rounding.sticky.eq(delayed(m, dropped, 1, name="sticky")),
            self.result.eq(rounding.result),
            self.overflow.eq(rounding.overflow),
        ]
        return m
