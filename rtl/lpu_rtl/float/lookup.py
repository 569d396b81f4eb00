"""Functions of one float, by a table of knots and interpolation between them."""

import math

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.formats import EXPONENT_BIAS, SMALLEST_ARGUMENT
from lpu_isa.tables import KNOT_FRACTION_BITS, SEGMENTS, Function, rom

from ..primitives import Multiplier18, TableRom, Technology
from .encoding import EXPONENT, ZERO_EXPONENT, delayed, float_layout, gated
from .shift import leading_zeros, shift_right

__all__ = ["Lookup"]

_INDEX_BITS = SEGMENTS.bit_length() - 1
_ROUND_DROP = 10  # bits that the interpolation drops, by the definition in `lpu_isa.tables`
_EXP2_LIMIT = EXPONENT_BIAS + 7  # exponent field of 128
_SIGMOID_LIMIT = EXPONENT_BIAS + 4  # exponent field of 16
_SMALLEST_FIELD = EXPONENT_BIAS + int(math.log2(SMALLEST_ARGUMENT))
_FINE_BITS = 3  # of the count of zeros; the higher ones shift a cycle earlier
_FALLING = (Function.RECIPROCAL, Function.RSQRT)


def _is_one_of(function, functions) -> Const:
    return Cat(function == member for member in functions).any()


class Lookup(wiring.Component):
    """exp2, reciprocal, reciprocal square root or sigmoid of a float, after the tables in `lpu_isa.tables`.

    Golden model: ``lpu_sw.sim.arithmetic.Arithmetic.function``.

    Parameters
    ----------
    significand_bits : int
    technology : Technology
        What the table and the multiplier are built from.

    Ports
    -----
    function : In                       A `Function`, with its argument.
    argument : In(float_layout(p))
    result : Out(float_layout(p))       Undefined where one of the next two is set.
    overflow : Out(1)                   With ``result``: it is too large.
    is_outside_domain : Out(1)          With ``result``: the argument's magnitude, or sign, is not in the domain.

    Timing: latency `lpu_isa.vxm.FUNCTION` (argument registered, fixed point, two for the table, two for the
    multiplier, sum, shift), one a cycle.
    """

    def __init__(self, significand_bits: int, technology: Technology = Technology.GENERIC) -> None:
        self.significand_bits = significand_bits
        self.technology = technology
        super().__init__({
            "function": In(range(max(Function) + 1)),
            "argument": In(float_layout(significand_bits)),
            "result": Out(float_layout(significand_bits)),
            "overflow": Out(1),
            "is_outside_domain": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        p = self.significand_bits
        rest_bits = p - _INDEX_BITS
        x = delayed(m, self.argument, 1, name="argument")
        function = delayed(m, self.function, 1, name="function_taken")

        # Fixed point: |x| in units of 2**(1 - p), nine bits before the point. `distance` is chosen such that its low
        # bits are those of the exponent, inverted.
        distance_origin = 135
        assert distance_origin % 8 == 7
        wide = Cat(Const(0, 8), Mux(x.exponent == 0, 0, Cat(x.fraction, 1)))
        fine, fine_lost = shift_right(m, wide, ~x.exponent[:3], name="fixed")
        fixed, lost = Const(0, len(wide)), wide.any()
        for octets in reversed(range(-(-len(wide) // 8))):
            is_octets = x.exponent[3:] == distance_origin // 8 - octets
            fixed = Mux(is_octets, fine >> (8 * octets), fixed)
            lost = Mux(is_octets, fine_lost | fine[: 8 * octets].any(), lost)
        is_exp2 = function == Function.EXP2
        is_sigmoid = function == Function.SIGMOID
        is_inverted = is_exp2 & x.sign
        # floor(-x) is the complement of floor(x), plus one if nothing was lost. That one goes to `rest` alone: a rest
        # of a whole segment gives the next knot.
        floored = fixed ^ is_inverted.replicate(len(wide))

        index = Signal(_INDEX_BITS)
        rest = Signal(rest_bits)
        with m.Switch(function):
            with m.Case(Function.EXP2):
                m.d.comb += Cat(rest[1:], index).eq(floored)
            with m.Case(Function.RECIPROCAL):
                m.d.comb += Cat(rest[1:], index).eq(x.fraction)
            with m.Case(Function.RSQRT):
                m.d.comb += Cat(rest, index).eq(Cat(x.fraction, ~x.exponent[0]))
            with m.Case(Function.SIGMOID):
                m.d.comb += Cat(rest, index).eq(fixed[3:])
        exponent_field = delayed(m, x.exponent, 1, name="exponent")
        octave = delayed(m, floored[p - 1 :].as_signed(), 1, name="octave")
        function = delayed(m, function, 1, name="function")
        index = delayed(m, index, 1, name="index")
        rest = delayed(m, rest, 1, name="rest")
        carries = delayed(m, is_inverted & ~lost, 1, name="carries")
        is_saturated = delayed(m, is_sigmoid & (x.exponent >= _SIGMOID_LIMIT), 1, name="is_saturated")
        is_too_large = delayed(m, is_exp2 & (x.exponent >= _EXP2_LIMIT), 1, name="is_too_large")
        x_sign = delayed(m, x.sign, 1, name="x_sign")

        # Table. A saturated sigmoid is the end of the last segment.
        m.submodules.table = table = TableRom(rom().tolist(), self.technology)
        block = (function - 1)[:2]
        is_last = is_saturated | index.all()
        whole = Mux(is_saturated, 1 << rest_bits, rest + Cat(Const(0, 1), carries))
        m.d.comb += [
            table.address_a.eq(Cat(index | is_saturated.replicate(_INDEX_BITS), block)),
            table.address_b.eq(Cat((index + 1)[:_INDEX_BITS], block)),
        ]
        exponent = Signal(EXPONENT)
        with m.Switch(function):
            with m.Case(Function.EXP2):
                m.d.comb += exponent.eq(Mux(is_too_large, ZERO_EXPONENT, EXPONENT_BIAS + octave))
            with m.Case(Function.RECIPROCAL):
                m.d.comb += exponent.eq(2 * EXPONENT_BIAS - 1 - exponent_field)
            with m.Case(Function.RSQRT):
                half = (exponent_field + 1) >> 1
                m.d.comb += exponent.eq(EXPONENT_BIAS - 1 + (EXPONENT_BIAS + 1) // 2 - half)
            with m.Case(Function.SIGMOID):
                m.d.comb += exponent.eq(EXPONENT_BIAS - 1)
        is_mirrored = (function == Function.SIGMOID) & x_sign
        sign = (function == Function.RECIPROCAL) & x_sign
        is_outside = _is_one_of(function, _FALLING) & (exponent_field < _SMALLEST_FIELD)
        is_outside |= (function == Function.RSQRT) & x_sign

        # Slope times rest.
        is_falling = delayed(m, _is_one_of(function, _FALLING), 2, name="is_falling")
        is_last = delayed(m, is_last, 2, name="is_last")
        offset = table.data_a
        following = Mux(is_last, Mux(is_falling, 0, 1 << KNOT_FRACTION_BITS), table.data_b)
        m.submodules.multiplier = multiplier = Multiplier18(is_signed=True, technology=self.technology)
        m.d.comb += [
            multiplier.a.eq(following - offset),
            multiplier.b.eq(delayed(m, whole, 2, name="rest_of_segment")),
        ]

        # 2 - y, for sigmoid of a negative number, is the complement of y less one unit.
        is_mirrored = delayed(m, is_mirrored, 3, name="is_mirrored")
        offset = delayed(m, offset, 1, name="offset")
        knot = Cat(offset[:KNOT_FRACTION_BITS], ~offset[KNOT_FRACTION_BITS], offset[KNOT_FRACTION_BITS])
        knot_less = (offset + ((1 << KNOT_FRACTION_BITS) - 1))[: KNOT_FRACTION_BITS + 1]
        half = 1 << (_ROUND_DROP - 1)
        below = Mux(is_mirrored, (1 << rest_bits) - half, half)[:rest_bits]
        start = delayed(m, Cat(below, Mux(is_mirrored, knot_less, knot)), 1, name="start")
        exponent = delayed(m, exponent, 3, name="exponent_knot")
        # The mirrored result has as many leading zeros as the mirrored knot, or a few more.
        zeros = delayed(m, gated(leading_zeros(~knot_less), is_mirrored), 1, name="zeros")
        is_mirrored = delayed(m, is_mirrored, 1, name="is_mirrored_sum")
        exponent = delayed(m, exponent, 1, name="exponent_sum")

        # Sum, and the coarse part of the shift.
        total = (start + multiplier.product)[_ROUND_DROP : len(start)]
        is_two = delayed(m, ~is_mirrored & (exponent >= 0) & total[p], 1, name="is_two")
        is_tiny = ~is_mirrored & (exponent < 1)
        kept = total[:p] ^ is_mirrored.replicate(p)
        coarse = (kept << Cat(Const(0, _FINE_BITS), zeros[_FINE_BITS:]))[:p]
        coarse = delayed(m, Mux(is_tiny, 0, coarse), 1, name="coarse")
        fine_zeros = delayed(m, zeros[:_FINE_BITS], 1, name="fine_zeros")
        above = delayed(m, (exponent + 1)[:8], 1, name="exponent_above")
        exponent = delayed(m, Mux(is_mirrored, EXPONENT_BIAS - 1 - zeros, exponent)[:8], 1, name="exponent_shift")

        # Fine shift. Without a one it is zero, or 2, of which the fraction is zero.
        fine = (coarse << fine_zeros)[:p]
        ahead = fine[-max(2, p - KNOT_FRACTION_BITS) :]
        more = leading_zeros(ahead)
        fraction = (fine << more)[: p - 1]
        field = Mux(is_two, above, gated((exponent - more)[:8], ahead.any()))
        m.d.comb += [
            self.result.eq(delayed(m, Cat(fraction, field, delayed(m, sign, 5, name="sign")), 1, name="result")),
            self.overflow.eq(delayed(m, is_too_large & ~x_sign, 6, name="overflow")),
            self.is_outside_domain.eq(delayed(m, is_outside, 6, name="is_outside_domain")),
        ]
        return m
