"""Stack of the hardware loops that are running, the innermost on top."""

from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig
from lpu_isa.icu import LOOP_DEPTH

__all__ = ["LoopStack"]


class LoopStack(wiring.Component):
    """LOOP pushes where the loop begins and how often it runs, END counts down and pops.

    Ports
    -----
    clear : In(1)                   Empty the stack.
    push, body, count : In          A loop of ``count`` iterations begins at bundle ``body``.
    end : In(1)                     The end of the innermost loop.
    again, top : Out                It runs once more, from bundle ``top``; valid while ``end`` is high.
    failed : Out(1)                 This push or end is the fault LOOP: too deep, no loop, or no iterations.

    All effects are visible in the next cycle.
    """

    def __init__(self, config: TileConfig) -> None:
        super().__init__({
            "clear": In(1),
            "push": In(1),
            "body": In(range(config.bundles + 1)),
            "count": In(signed(32)),
            "end": In(1),
            "again": Out(1),
            "top": Out(range(config.bundles + 1)),
            "failed": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        bodies = [Signal.like(self.body, name=f"body{level}", reset_less=True) for level in range(LOOP_DEPTH)]
        counts = [Signal(32, name=f"count{level}", reset_less=True) for level in range(LOOP_DEPTH)]
        depth = Signal(range(LOOP_DEPTH + 1))
        m.d.comb += [
            self.top.eq(bodies[0]),
            self.again.eq(counts[0] != 1),
            self.failed.eq((self.push & ((self.count <= 0) | (depth == LOOP_DEPTH))) | (self.end & (depth == 0))),
        ]
        with m.If(self.push):
            m.d.sync += [bodies[0].eq(self.body), counts[0].eq(self.count), depth.eq(depth + 1)]
            for stack in (bodies, counts):
                m.d.sync += [lower.eq(upper) for upper, lower in zip(stack, stack[1:], strict=False)]
        with m.Elif(self.end & self.again):
            m.d.sync += counts[0].eq(counts[0] - 1)
        with m.Elif(self.end):
            m.d.sync += depth.eq(depth - 1)
            for stack in (bodies, counts):
                m.d.sync += [upper.eq(lower) for upper, lower in zip(stack, stack[1:], strict=False)]
        with m.If(self.clear):
            m.d.sync += depth.eq(0)
        return m
