"""Agenda: an event put down now comes due a given number of cycles later."""

from collections.abc import Collection

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import ShapeLike
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["Agenda"]


class Agenda(wiring.Component):
    """Delay line whose delay each event chooses for itself.

    Parameters
    ----------
    event : shape of an event.
    delays : the delays that occur, in cycles, 0 or more.

    Ports
    -----
    put : In(1)         Put down ``event``, due ``delay`` cycles later.
    delay, event : In
    due : Out(1)        An event is due now: ``now``, which is undefined otherwise.
    now : Out(event)
    conflict : Out(1)   Two events would be due in one cycle; the second replaces the first.
    pending : Out(1)    Events are still to come, this cycle's aside.

    The events lie in distributed memory, by the cycle in which they are due; which cycles have one is a shift register.
    What is due next is read a cycle ahead, so ``now`` comes from a register, or, with a delay of 0, from ``event``.
    """

    def __init__(self, event: ShapeLike, delays: Collection[int]) -> None:
        self.delays = sorted(set(delays))
        super().__init__({
            "put": In(1),
            "delay": In(range(self.delays[-1] + 1)),
            "event": In(event),
            "due": Out(1),
            "now": Out(event),
            "conflict": Out(1),
            "pending": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        size = ceil_log2(self.delays[-1] + 1)
        time = Signal(size)
        taken = Signal(self.delays[-1] + 1)  # bit k: an event is due in k cycles
        wanted = Signal.like(taken)
        m.d.comb += [wanted[delay].eq(self.put & (self.delay == delay)) for delay in self.delays]
        m.d.sync += [time.eq(time + 1), taken.eq((taken | wanted) >> 1)]

        m.submodules.events = events = memory.Memory(shape=self.event.shape(), depth=1 << size, init=[])
        write, read = events.write_port(), events.read_port(domain="comb")
        is_now = wanted[0]
        next_due = Signal.like(self.event, reset_less=True)
        m.d.sync += Value.cast(next_due).eq(Mux(wanted[1], self.event, read.data))
        m.d.comb += [
            write.en.eq(self.put),
            write.addr.eq(time + self.delay),
            write.data.eq(self.event),
            read.addr.eq(time + 1),
            self.due.eq(taken[0] | is_now),
            Value.cast(self.now).eq(Mux(is_now, self.event, next_due)),
            self.conflict.eq((taken & wanted).any()),
            self.pending.eq(taken[1:].any()),
        ]
        return m
