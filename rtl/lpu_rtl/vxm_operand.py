"""Start of a unit of the vector unit with two operands: the second is addressed ahead, both are there at the start."""

from collections.abc import Collection
from enum import IntEnum

from amaranth import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.fields import REGISTERS
from lpu_isa.vxm import OPERAND_READ, SCALAR_READ

from .agenda import Agenda
from .float.encoding import delayed, float_layout, gated
from .interfaces import RegisterRead

__all__ = ["AHEAD", "TAPS", "Kind", "Operand", "operand_layout", "start_layout"]

TAPS = ("source", "multiply", "add", "function", "gain")
"""Where vectors come from, in the order of the chain."""

AHEAD = 1
"""Cycles from what is due to its operand's address."""


class Kind(IntEnum):
    """What a second operand is."""

    B = 0
    C = 1
    SCALAR = 2
    SELF = 3  # what went into the function
    SQUARE = 4  # the first operand


def _place_bits(config: TileConfig) -> int:
    """Bits of the word or register of a second operand."""
    return max(address_bits(config.vmem_words), address_bits(config.smem_words), address_bits(REGISTERS))


def operand_layout(config: TileConfig) -> data.StructLayout:
    """A start to come: which of `TAPS` the first operand is at, and the second one's kind and place."""
    second = data.StructLayout({
        "kind": len(Kind),  # one-hot
        "place": _place_bits(config),
        "is_outside": 1,
        "is_negated": 1,
    })  # fmt: skip
    return data.StructLayout({"tap": range(len(TAPS)), "second": second})


def start_layout(config: TileConfig) -> data.StructLayout:
    """What the lanes are told of a start; tap and kind are one-hot, and zero when nothing starts."""
    return data.StructLayout({
        "tap": len(TAPS),
        "kind": len(Kind),
        "is_negated": 1,
        "scalar": float_layout(config.significand_bits),
    })  # fmt: skip


class Operand(wiring.Component):
    """Starts one unit, and reads its second operand.

    Parameters
    ----------
    config : TileConfig
    delays : those that occur of ``delay``, the cycles from a step to `AHEAD` before the operand's address.

    Ports
    -----
    put, delay, event : In                  As in `Agenda`; ``event`` is an `operand_layout`.
    read_b, read_c, address : Out           `AHEAD` and `OPERAND_READ` cycles before the unit's start.
    is_outside : Out(1)                     With them: the address is past the end of the memory.
    conflict : Out(1)                       The unit would start twice in one cycle.
    scalar : Out(RegisterRead)              `SCALAR_READ` cycles before the unit's start.
    start : Out(start_layout(config))       A cycle before the start: each lane has a register of its own for it.
    """

    def __init__(self, config: TileConfig, delays: Collection[int]) -> None:
        self.delays = delays
        layout = operand_layout(config)
        super().__init__({
            "put": In(1),
            "delay": In(range(max(delays) + 1)),
            "event": In(layout),
            "read_b": Out(1),
            "read_c": Out(1),
            "address": Out(_place_bits(config)),
            "is_outside": Out(1),
            "conflict": Out(1),
            "scalar": Out(RegisterRead),
            "start": Out(start_layout(config)),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.agenda = agenda = Agenda(self.event.shape(), self.delays)
        due, second = agenda.due, agenda.now.second
        taps = Cat(due & (agenda.now.tap == tap) for tap in range(len(TAPS)))
        kinds = gated(second.kind, due)
        until_start = AHEAD + OPERAND_READ - 1
        m.d.comb += [
            agenda.put.eq(self.put),
            agenda.delay.eq(self.delay),
            agenda.event.eq(self.event),
            self.read_b.eq(kinds[Kind.B]),
            self.read_c.eq(kinds[Kind.C]),
            self.address.eq(second.place),
            self.is_outside.eq((self.read_b | self.read_c) & second.is_outside),
            self.conflict.eq(agenda.conflict),
            self.scalar.index.eq(delayed(m, second.place, AHEAD + OPERAND_READ - SCALAR_READ, name="register")),
            self.start.scalar.eq(delayed(m, self.scalar.data, SCALAR_READ - 1, name="scalar")),
            self.start.tap.eq(delayed(m, taps, until_start, name="tap", reset_less=False)),
            self.start.kind.eq(delayed(m, kinds, until_start, name="kind", reset_less=False)),
            self.start.is_negated.eq(
                delayed(m, due & second.is_negated, until_start, name="is_negated", reset_less=False)
            ),
        ]
        return m
