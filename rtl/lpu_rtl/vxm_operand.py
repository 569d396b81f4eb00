"""Second operand of a unit of the vector unit: addressed ahead of the unit's start, there in the cycle of the start."""

from collections.abc import Collection
from enum import IntEnum

from amaranth import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.fields import REGISTERS
from lpu_isa.vxm import OPERAND_READ, SCALAR_READ

from .agenda import Agenda
from .float.encoding import delayed, float_layout
from .interfaces import RegisterRead

__all__ = ["TAPS", "Kind", "Operand", "operand_layout"]

TAPS = ("vmem", "switch", "convert", "multiply", "add", "function", "gain")
"""Where vectors come from, in the order of the chain: sources first, then the outputs of units."""


class Kind(IntEnum):
    """What a second operand is."""

    B = 0
    C = 1
    SCALAR = 2
    SELF = 3  # what went into the function
    SQUARE = 4  # the first operand


def operand_layout(config: TileConfig) -> data.StructLayout:
    """A unit's start: which tap its first operand comes from, and its second operand's kind and place."""
    place = max(address_bits(config.vmem_words), address_bits(config.smem_words), address_bits(REGISTERS))
    return data.StructLayout({
        "tap": range(len(TAPS)),
        "kind": range(len(Kind)),
        "place": place,  # word or register
        "is_outside": 1,
        "is_negated": 1,
    })  # fmt: skip


class Operand(wiring.Component):
    """Brings the second operand of one unit.

    Parameters
    ----------
    config : TileConfig
    delays : cycles from a step to the operand's address, those that occur.

    Ports
    -----
    put, delay, event : In                  As in `Agenda`; ``event`` is an `operand_layout`.
    read_b, read_c, address : Out           `OPERAND_READ` cycles before the unit's start.
    is_outside : Out(1)                     With them: the address is past the end of the memory.
    conflict : Out(1)                       The unit would start twice in one cycle.
    scalar : Out(RegisterRead)              `SCALAR_READ` cycles before the unit's start.
    tap : Out(len(TAPS))                    In the cycle of the start: where the first operand is, one-hot.
    kind : Out(len(Kind))                   In that cycle: what the second operand is, one-hot.
    is_negated : Out(1)                     In that cycle, and only if the unit starts.
    scalar_value : Out(float_layout)        In that cycle.
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
            "address": Out(layout["place"].shape),
            "is_outside": Out(1),
            "conflict": Out(1),
            "scalar": Out(RegisterRead),
            "tap": Out(len(TAPS)),
            "kind": Out(len(Kind)),
            "is_negated": Out(1),
            "scalar_value": Out(float_layout(config.significand_bits)),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.agenda = agenda = Agenda(self.event.shape(), self.delays)
        event = agenda.now
        taps = Cat(agenda.due & (event.tap == tap) for tap in range(len(TAPS)))
        kinds = Cat(agenda.due & (event.kind == kind) for kind in Kind)
        m.d.comb += [
            agenda.put.eq(self.put),
            agenda.delay.eq(self.delay),
            agenda.event.eq(self.event),
            self.read_b.eq(kinds[Kind.B]),
            self.read_c.eq(kinds[Kind.C]),
            self.address.eq(event.place),
            self.is_outside.eq((self.read_b | self.read_c) & event.is_outside),
            self.conflict.eq(agenda.conflict),
            self.scalar.index.eq(delayed(m, event.place, OPERAND_READ - SCALAR_READ, name="register")),
            self.scalar_value.eq(delayed(m, self.scalar.data, SCALAR_READ, name="scalar")),
            self.tap.eq(delayed(m, taps, OPERAND_READ, name="tap", reset_less=False)),
            self.kind.eq(delayed(m, kinds, OPERAND_READ, name="kind", reset_less=False)),
            self.is_negated.eq(
                delayed(m, agenda.due & event.is_negated, OPERAND_READ, name="is_negated", reset_less=False)
            ),
        ]
        return m
