"""Reductions over all lanes of all vectors of a pass."""

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from lpu_isa.config import TileConfig, address_bits
from lpu_isa.fields import REGISTERS

from amaranth import Module

from ..interfaces import RegisterWrite, vector_layout

__all__ = ["Reducer", "reduce_layout"]


def reduce_layout(config: TileConfig) -> data.StructLayout:
    """What comes with a vector; ``kind`` is a `lpu_isa.vxm.Reduce`."""
    return data.StructLayout({
        "kind": 3,
        "is_first": 1,
        "is_last": 1,
        "register": address_bits(REGISTERS),
        "start": config.float_bits,
    })  # fmt: skip


class Reducer(wiring.Component):
    """Stub."""

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        super().__init__({
            "event": In(reduce_layout(config)),
            "valid": In(config.rows),
            "vector": In(vector_layout(config)),
            "write": Out(RegisterWrite),
            "overflow": Out(1),
            "conflict": Out(1),
            "busy": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        return Module()
