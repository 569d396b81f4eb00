"""Adder: two floats to their rounded sum."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .encoding import EXPONENT, delayed, float_layout
from .round import Round
from .shift import leading_zeros, shift_right

__all__ = ["Add"]


class Add(wiring.Component):
    """Rounded sum of two floats; x + -x is +0.

    Golden model: ``lpu_sw.sim.arithmetic.Arithmetic.add``.

    Rounding and a long shift to the left never meet: after a shift by two or more the operands' exponents differed by
    at most one, so that the sum is exact. The last cycle rounds and shifts side by side and takes one of the two
    (Farmwald, "On the design of high performance digital arithmetic units", 1981).

    Ports
    -----
    a, b : In(float_layout(p))
    result : Out(float_layout(p))
    overflow : Out(1)                   With ``result``: it is too large, and undefined.

    Timing: latency `lpu_isa.vxm.ADD` (operands registered, swap, align, add, count zeros, round or shift), a sum each
    cycle.
    """

    def __init__(self, significand_bits: int) -> None:
        self.significand_bits = significand_bits
        layout = float_layout(significand_bits)
        super().__init__({"a": In(layout), "b": In(layout), "result": Out(layout), "overflow": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        p = self.significand_bits

        # Swap: `big` has the larger magnitude.
        a, b = delayed(m, self.a, 1, name="a"), delayed(m, self.b, 1, name="b")
        is_swapped = Signal()
        big, small = Signal.like(a), Signal.like(a)
        m.d.comb += [
            is_swapped.eq(Cat(b.fraction, b.exponent) > Cat(a.fraction, a.exponent)),
            big.eq(Mux(is_swapped, b, a)),
            small.eq(Mux(is_swapped, a, b)),
        ]
        distance = delayed(m, Mux(is_swapped, b.exponent - a.exponent, a.exponent - b.exponent)[:8], 1, name="distance")
        is_difference = delayed(m, a.sign ^ b.sign, 2, name="is_difference")
        big_q = delayed(m, big, 1, name="big")
        small_q = delayed(m, small, 1, name="small")

        # Align: a guard bit and one more below the last bit of `big`, then a sticky bit.
        small_significand = Mux(small_q.exponent == 0, 0, Cat(small_q.fraction, 1))
        near_distance = (p + 1).bit_length()
        shifted, lost = shift_right(m, Cat(Const(0, 2), small_significand), distance[:near_distance], name="aligned")
        is_far_off = distance[near_distance:].any()
        aligned = Cat(Mux(is_far_off, small_significand.any(), lost), Mux(is_far_off, 0, shifted))
        aligned_q = delayed(m, aligned, 1, name="aligned")
        big_significand = delayed(m, Mux(big_q.exponent == 0, 0, Cat(big_q.fraction, 1)), 1, name="big_significand")

        # Add, or subtract by adding the complement: the lowest bit carries the one in.
        width = p + 4
        term = Cat(aligned_q, Const(0, 1)) ^ is_difference.replicate(width)
        total = delayed(
            m, (Cat(Const(1, 1), Const(0, 3), big_significand, Const(0, 1)) + Cat(is_difference, term))[1 : width + 1],
            1, name="total",
        )  # fmt: skip
        big_exponent = delayed(m, big_q.exponent, 2, name="big_exponent")
        big_sign = delayed(m, big_q.sign, 2, name="big_sign")
        is_difference_q = delayed(m, is_difference, 1, name="is_difference_total")

        # Count zeros. From 1 on nothing moves; below 1 a shift by one is taken here, more are left to the last cycle.
        is_from_one = total[-2:].any()
        far = delayed(m, Mux(is_from_one, total, total << 1)[:width], 1, name="far")
        far_exponent = Signal(EXPONENT)
        m.d.comb += far_exponent.eq(big_exponent - ~is_from_one)
        is_near = delayed(m, ~total[-3:].any(), 1, name="is_near")
        near = total[2:-1]
        near_q = delayed(m, near, 1, name="near")
        zeros = delayed(m, leading_zeros(near), 1, name="zeros")
        is_zero = delayed(m, ~total.any(), 1, name="is_zero")
        sign = delayed(m, big_sign & ~(is_difference_q & ~total.any()), 1, name="sign")
        near_exponent = Signal(EXPONENT)
        m.d.comb += near_exponent.eq(delayed(m, big_exponent, 1, name="near_exponent") - zeros)

        # Round, or shift.
        m.submodules.round = rounding = Round(p)
        m.d.comb += [
            rounding.sign.eq(sign),
            rounding.exponent.eq(delayed(m, far_exponent, 1, name="far_exponent")),
            rounding.significand.eq(far[3:]),
            rounding.guard.eq(far[2]),
            rounding.sticky.eq(far[:2].any()),
        ]
        shifted_left = (near_q << zeros)[1:p]
        near_result = Cat(Mux(is_zero | (near_exponent < 1), 0, Cat(shifted_left, near_exponent[:8])), sign)
        m.d.comb += [
            self.result.eq(delayed(m, Mux(is_near, near_result, rounding.result), 1, name="result")),
            self.overflow.eq(delayed(m, ~is_near & rounding.overflow, 1, name="overflow")),
        ]
        return m
