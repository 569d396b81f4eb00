"""One lane of the vector unit: the units of the chain, and who takes from whom."""

import operator
from collections.abc import Sequence
from typing import NamedTuple

from amaranth import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa import vxm
from lpu_isa.config import TileConfig
from lpu_isa.formats import ACCUMULATOR_BITS
from lpu_isa.tables import Function

from .float.add import Add
from .float.convert import Convert
from .float.encoding import EXPONENT, delayed, float_layout, flushed, gated
from .float.lookup import Lookup
from .float.multiply import Multiply
from .float.tree import balanced
from .primitives import Technology, replicated
from .vxm_operand import TAPS, Kind, start_layout

__all__ = ["Lane", "control_layout"]


class _Tap(NamedTuple):
    """A place in the chain: its value, and whether that counts."""

    valid: Value
    value: Value


def control_layout(config: TileConfig) -> data.StructLayout:
    """What all lanes are told, a cycle ahead. Taps are one-hot, by `TAPS`."""
    start = start_layout(config)
    return data.StructLayout({
        "multiply": start,
        "add": start,
        "gain": start,
        "function": data.StructLayout({"tap": len(TAPS), "function": range(max(Function) + 1)}),
        "result": data.StructLayout({"tap": len(TAPS), "relu": 1, "is_squared": 1}),
    })  # fmt: skip


def _chosen(enables: Sequence[Value], values: Sequence) -> Value:
    """The value whose enable is set; at most one is."""
    return balanced(operator.or_, [gated(value, enable) for enable, value in zip(enables, values, strict=True)])


class Lane(wiring.Component):
    """Converter, multiplier, adder, function and second multiplier of one lane.

    Golden model: ``lpu_sw.sim.vxm``.

    Parameters
    ----------
    config : TileConfig
    technology : Technology
        What multipliers and the function's table are built from.

    Ports
    -----
    control : In(control_layout(config))    What starts in the next cycle.
    valid : In                              Whether ``moved`` and ``integer`` hold a value that counts.
    moved : In(float)                       Source that the switch unit brings, a cycle before it enters the chain.
    integer, unit : In                      Source that is converted, as in `lpu_rtl.float.convert`.
    b, c : In(float)                        Second operands.
    result, result_valid : Out              `lpu_isa.vxm.RESULT` cycles after its control starts it; +0 when it does not
                                            count.
    square, square_valid : Out              Square of the result, `lpu_isa.vxm.MULTIPLY` cycles later, and whether it
                                            counts; if not, it stands for +0.
    overflow, outside_domain : Out(1)       A unit's result of this cycle that counts is too large, or its function not
                                            defined.

    A value that does not count goes through the units like any other, but raises nothing.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        self.config = config
        self.technology = technology
        lane = float_layout(config.significand_bits)
        super().__init__({
            "control": In(control_layout(config)),
            "valid": In(data.StructLayout({"moved": 1, "integer": 1})),
            "moved": In(lane),
            "integer": In(signed(ACCUMULATOR_BITS)),
            "unit": In(EXPONENT),
            "b": In(lane),
            "c": In(lane),
            "result": Out(lane),
            "result_valid": Out(1),
            "square": Out(lane),
            "square_valid": Out(1),
            "overflow": Out(1),
            "outside_domain": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        p = self.config.significand_bits
        control = self.control.shape()(replicated(m, "control_here", self.control.as_value(), self.technology))
        m.submodules.convert = convert = Convert(ACCUMULATOR_BITS, p)
        m.submodules.multiply = multiply = Multiply(p, self.technology)
        m.submodules.add = add = Add(p)
        m.submodules.function = lookup = Lookup(p, self.technology)
        m.submodules.gain = gain = Multiply(p, self.technology)

        m.d.comb += [convert.value.eq(self.integer), convert.unit.eq(self.unit)]
        is_converted = delayed(m, self.valid.integer, vxm.CONVERT - 1, name="is_converted", reset_less=False)
        source = _chosen([self.valid.moved, is_converted], [flushed(self.moved), convert.result])
        is_source = delayed(m, self.valid.moved | is_converted, 1, name="source_valid", reset_less=False)
        taps = {"source": _Tap(is_source, self.moved.shape()(delayed(m, source, 1, name="source")))}
        overflow = delayed(m, is_converted & convert.overflow, 1, name="source_overflow", reset_less=False)

        first = taps["source"]
        is_first = first.valid & control.multiply.tap[0]
        m.d.comb += [multiply.a.eq(first.value), multiply.b.eq(self._second(control.multiply))]
        taps["multiply"] = self._tap(m, "multiply", is_first, multiply.result, vxm.MULTIPLY)

        first = self._take(m, "add", control.add.tap, taps)
        second = self._second(control.add)
        m.d.comb += [add.a.eq(first.value), add.b.eq(Cat(second[:-1], second[-1] ^ control.add.is_negated))]
        taps["add"] = self._tap(m, "add", first.valid, add.result, vxm.ADD)

        argument = self._take(m, "function", control.function.tap, taps)
        m.d.comb += [lookup.argument.eq(argument.value), lookup.function.eq(control.function.function)]
        taps["function"] = self._tap(m, "function", argument.valid, lookup.result, vxm.FUNCTION)

        # The second multiplier stands before the result, and beside it when it squares results.
        squares = control.result.is_squared
        first = self._take(m, "gain", control.gain.tap | gated(control.result.tap, squares), taps)
        passed_by = delayed(m, argument.value, vxm.FUNCTION, name="argument")
        own = control.gain.kind[Kind.SQUARE] | squares
        others = _chosen([control.gain.kind[Kind.SELF], own], [passed_by, first.value])
        m.d.comb += [gain.a.eq(first.value), gain.b.eq(self._second(control.gain) | others)]
        is_cut = control.result.relu & first.value.sign & squares
        taps["gain"] = self._tap(m, "gain", first.valid & ~is_cut, gain.result, vxm.MULTIPLY)

        is_wanted = [enable & tap.valid for enable, tap in zip(control.result.tap, taps.values(), strict=True)]
        is_cut = [control.result.relu & tap.value.sign for tap in taps.values()]
        result = _chosen(
            [is_it & ~is_off for is_it, is_off in zip(is_wanted, is_cut, strict=True)],
            [tap.value for tap in taps.values()],
        )
        m.d.comb += [
            self.result.eq(delayed(m, result, vxm.RESULT, name="result")),
            self.result_valid.eq(delayed(m, Cat(is_wanted).any(), vxm.RESULT, name="result_valid", reset_less=False)),
            self.square.eq(delayed(m, gain.result, vxm.RESULT, name="square")),
            self.square_valid.eq(delayed(m, taps["gain"].valid, vxm.RESULT, name="square_valid", reset_less=False)),
            self.overflow.eq(
                Cat(
                    overflow,
                    *(taps[name].valid & unit.overflow
                      for name, unit in [("multiply", multiply), ("add", add), ("function", lookup), ("gain", gain)]),
                ).any()
            ),
            self.outside_domain.eq(taps["function"].valid & lookup.is_outside_domain),
        ]  # fmt: skip
        return m

    def _tap(self, m: Module, name: str, valid: Value, value: Value, latency: int) -> _Tap:
        """The output of a unit."""
        return _Tap(delayed(m, valid, latency, name=f"{name}_valid", reset_less=False), value)

    def _take(self, m: Module, name: str, enables: Value, taps: dict[str, _Tap]) -> _Tap:
        """What a unit takes as its first operand, from those before it."""
        valid = Signal(name=f"{name}_takes")
        value = Signal(float_layout(self.config.significand_bits), name=f"{name}_taken")
        enables = list(enables)[: len(taps)]
        m.d.comb += [
            valid.eq(_chosen(enables, [tap.valid for tap in taps.values()])),
            value.eq(_chosen(enables, [tap.value for tap in taps.values()])),
        ]
        return _Tap(valid, value)

    def _second(self, start: data.View) -> Value:
        """Second operand: a vector's lane or a scalar."""
        kinds = (Kind.B, Kind.C, Kind.SCALAR)
        return _chosen([start.kind[kind] for kind in kinds], [self.b, self.c, start.scalar])
