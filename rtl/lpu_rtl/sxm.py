"""Switch unit: moves the lanes of vectors on their way from vector SRAM to the vector unit."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.sxm import SxmOp

from .interfaces import vector_layout

__all__ = ["Switch", "switch_layout"]


def switch_layout(config: TileConfig) -> data.StructLayout:
    """What is done to a vector: ``op`` is a `SxmOp`, ``amount`` its distance, mask or lane."""
    return data.StructLayout({"op": 2, "amount": address_bits(config.rows)})


class Switch(wiring.Component):
    """Moves lanes.

    Golden model: ``lpu_sw.sim.sxm``.

    Ports
    -----
    move : In(switch_layout(config))        In the cycle before ``vector``.
    vector : In(vector_layout(config))
    moved : Out(vector_layout(config))      In the cycle of ``vector``.

    A butterfly: at level k a lane takes its own value or that of the lane whose number differs in bit k, after which
    bit k of what it holds is right. That suffices because in all moves bit k of a lane's source depends on no higher
    bit of the lane.
    """

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        super().__init__({
            "move": In(switch_layout(config)),
            "vector": In(vector_layout(config)),
            "moved": Out(vector_layout(config)),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        op, amount = self.move.op, self.move.amount
        rows = range(self.config.rows)
        sources = []
        for row in rows:
            source = Signal(range(self.config.rows), name=f"source{row}", reset_less=True)
            with m.Switch(op):
                with m.Case(SxmOp.ROTATE):
                    m.d.sync += source.eq(amount + row)
                with m.Case(SxmOp.EXCHANGE):
                    m.d.sync += source.eq(amount ^ row)
                with m.Default():
                    m.d.sync += source.eq(amount)
            sources.append(source)
        lanes = [self.vector[row] for row in rows]
        for level in range(address_bits(self.config.rows)):
            lanes = [Mux(sources[row][level] ^ (row >> level & 1), lanes[row ^ 1 << level], lanes[row]) for row in rows]
        m.d.comb += [self.moved[row].eq(lane) for row, lane in enumerate(lanes)]
        return m
