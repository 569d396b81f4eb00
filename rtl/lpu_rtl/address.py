"""Nested-stride walks: the two loops of an operation, and the address of one of its operands."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import address_bits
from lpu_isa.mxm import COUNT_BITS

__all__ = ["NestedAddress", "NestedLoop"]

_OPERAND_BITS = 32


class NestedLoop(wiring.Component):
    """Counts the steps of an inner loop within an outer one, one step a cycle.

    Ports
    -----
    start : In(1)                               Cycle 0. Allowed while idle and in the last step of the walk before.
    inner_count, outer_count : In(signed(32))   Steps, sampled with ``start``; 1 to 1,023.
    stop : In(1)                                Ends the walk at once.
    active : Out(1)                             High in cycle 1 + k for step k.
    is_first : Out(1)                           Step 0.
    inner_is_first, outer_is_first : Out(1)     The index of that loop is 0.
    inner_is_last, is_last : Out(1)             Last step of the inner loop, of the walk.
    is_clash : Out(1)                           In cycle 0: started too early; the start is ignored.
    is_bad_count : Out(1)                       In cycle 1: a count out of range; no step is made.

    The outputs that describe a step are defined while ``active`` is high.
    """

    def __init__(self) -> None:
        super().__init__({
            "start": In(1),
            "inner_count": In(signed(_OPERAND_BITS)),
            "outer_count": In(signed(_OPERAND_BITS)),
            "stop": In(1),
            "active": Out(1),
            "is_first": Out(1),
            "inner_is_first": Out(1),
            "outer_is_first": Out(1),
            "inner_is_last": Out(1),
            "is_last": Out(1),
            "is_clash": Out(1),
            "is_bad_count": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        running = Signal()
        # Sums of field and register arrive late in the cycle, so that they are looked at in the next one.
        inner_q = Signal(_OPERAND_BITS, reset_less=True)
        outer_high = Signal(_OPERAND_BITS - COUNT_BITS, reset_less=True)
        inner_left = Signal(COUNT_BITS, reset_less=True)
        outer_left = Signal(COUNT_BITS, reset_less=True)

        is_bad = Signal()
        m.d.comb += [
            is_bad.eq(inner_q[COUNT_BITS:].any() | outer_high.any() | (inner_left == 0) | (outer_left == 0)),
            self.is_bad_count.eq(running & is_bad),
            self.active.eq(running & ~is_bad),
            self.is_first.eq(self.inner_is_first & self.outer_is_first),
            self.inner_is_last.eq(inner_left == 1),
            self.is_last.eq(self.inner_is_last & (outer_left == 1)),
            self.is_clash.eq(self.start & self.active & ~self.is_last),
        ]
        with m.If(self.start & ~self.is_clash):
            m.d.sync += [
                running.eq(1),
                inner_q.eq(self.inner_count),
                outer_high.eq(self.outer_count[COUNT_BITS:]),
                inner_left.eq(self.inner_count[:COUNT_BITS]),
                outer_left.eq(self.outer_count[:COUNT_BITS]),
                self.inner_is_first.eq(1),
                self.outer_is_first.eq(1),
            ]
        with m.Elif(running):
            m.d.sync += [
                running.eq(self.active & ~self.is_last),
                inner_left.eq(Mux(self.inner_is_last, inner_q[:COUNT_BITS], inner_left - 1)),
                self.inner_is_first.eq(self.inner_is_last),
            ]
            with m.If(self.inner_is_last):
                m.d.sync += [outer_left.eq(outer_left - 1), self.outer_is_first.eq(0)]
        with m.If(self.stop):
            m.d.sync += running.eq(0)
        return m


class NestedAddress(wiring.Component):
    """Address of one operand of a `NestedLoop`, checked at full precision.

    Parameters
    ----------
    depth : int
        Words of the memory, at least 1.
    first_bits : int
        Width of the signed first address.

    Ports
    -----
    start : In(1)                           With the loop's; samples the three below.
    first : In(signed(first_bits))          Address of step 0.
    inner_stride, outer_stride : In(...)    Added a step of that loop; signed, one bit more than an address.
    inner_is_last : In(1)                   The loop's.
    address : Out(...)                      In cycle 1 + k for step k.
    is_outside : Out(1)                     The address of this step is negative or past the end. From then on the
                                            address means nothing.
    """

    def __init__(self, depth: int, first_bits: int) -> None:
        self.depth, self.first_bits = depth, first_bits
        bits = address_bits(depth)
        super().__init__({
            "start": In(1),
            "first": In(signed(first_bits)),
            "inner_stride": In(signed(bits + 1)),
            "outer_stride": In(signed(bits + 1)),
            "inner_is_last": In(1),
            "address": Out(bits),
            "is_outside": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        # An address within the memory plus a stride needs two bits more than an address. Wider first addresses are
        # outside if any of their upper bits is set, which stays so for the whole walk.
        bits = address_bits(self.depth) + 2
        here = Signal(signed(bits), reset_less=True)
        row = Signal(signed(bits), reset_less=True)
        far = Signal(max(self.first_bits - bits, 0), reset_less=True)
        inner_stride = Signal.like(self.inner_stride, reset_less=True)
        outer_stride = Signal.like(self.outer_stride, reset_less=True)

        following = Signal(signed(bits))
        m.d.comb += [
            following.eq(Mux(self.inner_is_last, row, here) + Mux(self.inner_is_last, outer_stride, inner_stride)),
            self.address.eq(here),
            self.is_outside.eq(far.any() | (here.as_unsigned() >= self.depth)),
        ]
        with m.If(self.start):
            m.d.sync += [
                here.eq(self.first),
                row.eq(self.first),
                far.eq(self.first[bits:]),
                inner_stride.eq(self.inner_stride),
                outer_stride.eq(self.outer_stride),
            ]
        with m.Else():
            m.d.sync += here.eq(following)
            with m.If(self.inner_is_last):
                m.d.sync += row.eq(following)
        return m
