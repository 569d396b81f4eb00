"""Bundle fetch: program and timing memory, the program counter and the countdown to the next issue.

The bundle at issue stands in a register, and so do its distance and what is decoded of it ahead: block RAM, decoding
and issue do not fit into one cycle. The cycle of an issue is known a cycle ahead, so the bundle that stands at issue in
two cycles is ``pc`` plus the issues of this cycle and of the next; the memories give the one behind it, and its
distance. Both are plain pipelines without clock enables. After a new timing base the next bundle is fetched anew, as
after a branch.
"""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import TileConfig, address_bits
from lpu_isa.host import TIMING_BITS
from lpu_isa.icu import BRANCH

from .beats import BeatMemory, BeatWrite
from .interfaces import MemoryRead, slot_layout
from .primitives import Technology

__all__ = ["Fetch"]

_START = 4
"""Cycles from a start to bundle 0: one for ``pc``, two for the memory, one for the bundle's register."""


class Fetch(wiring.Component):
    """Presents each bundle in its cycle of issue.

    Parameters
    ----------
    config : TileConfig
    technology : Technology
        What the memories are built from.

    Ports
    -----
    start : In(1)                   Bundle 0 comes to issue some cycles later.
    running : In(1)                 High from the cycle after ``start`` on; while low, the host has the memories.
    stop : In(1)                    No issue in the next cycle.
    hold : In(1)                    This cycle does not count towards the next issue.
    delay : In(1)                   Nor does this one, towards that of bundle 0.
    redirect, target : In           The bundle after the one that was issued a cycle ago is ``target``, at least BRANCH
                                    cycles after it; ``bundles`` means past the end.
    timing_base : In                A change comes with a redirection.
    issue : Out(1)                  ``bundle`` is to be issued in this cycle.
    pc, past_end : Out              Its number, or that there is no such bundle.
    bundle : Out                    Its bits.
    loads, coming : Out             ``coming`` is ``bundle`` from the next cycle on.
    comes_past_end : Out(1)         With ``loads``: there is no such bundle.
    distance : Out(12)              Cycles from it to the next issue.
    program_read, timing_read : In(MemoryRead)          For the host.
    program_write, timing_write : In(BeatWrite)         Likewise.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        assert BRANCH >= 4  # redirect, two cycles of memory, register
        self.config = config
        self.technology = technology
        self.format = BundleFormat(config)
        beats = self.format.beats
        super().__init__({
            "start": In(1),
            "running": In(1),
            "stop": In(1),
            "hold": In(1),
            "delay": In(1),
            "redirect": In(1),
            "target": In(range(config.bundles + 1)),
            "timing_base": In(address_bits(config.timings)),
            "issue": Out(1),
            "pc": Out(address_bits(config.bundles)),
            "past_end": Out(1),
            "bundle": Out(self.format.bits),
            "loads": Out(1),
            "coming": Out(self.format.bits),
            "comes_past_end": Out(1),
            "distance": Out(TIMING_BITS),
            "program_read": In(MemoryRead(config.bundles, 32 * beats)),
            "program_write": In(BeatWrite(config.bundles, beats, 32)),
            "timing_read": In(MemoryRead(config.timings, TIMING_BITS)),
            "timing_write": In(BeatWrite(config.timings, 1, TIMING_BITS)),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self.config
        m.submodules.program = program = BeatMemory(config.bundles, self.format.beats, 32, self.technology)
        m.submodules.timing = timing = BeatMemory(config.timings, 1, TIMING_BITS, self.technology)
        wiring.connect(m, wiring.flipped(self.program_write), program.write)
        wiring.connect(m, wiring.flipped(self.timing_write), timing.write)

        pc = Signal(range(config.bundles + 1))  # `bundles` is the one past the end
        issue_next = Signal()
        advances = Signal()  # the same while nothing stops, after which it does not matter
        # After a start or a redirection the memory gives the bundle itself, and only then those behind it.
        begins = Signal()
        refills = begins | self.redirect
        refilled = Signal(2)
        m.d.sync += [begins.eq(self.start), refilled.eq(Cat(refills, refilled))]
        m.d.comb += [self.loads.eq(self.issue | refilled[-1]), self.coming.eq(program.read.data)]
        with m.If(self.loads):
            m.d.sync += self.bundle.eq(self.coming)

        first = Mux(begins, 0, self.target)
        for memory, host, at_first in (
            (program, self.program_read, first),
            (timing, self.timing_read, self.timing_base + first),
        ):
            # `advances` comes late: all else is ready, so that one choice is left.
            behind, behind_next, then = (Signal.like(host.address, name=name) for name in ("behind", "next", "then"))
            elsewhere = Mux(self.running, at_first, host.address)
            m.d.sync += behind.eq(Mux(refills, at_first + 1, then))
            m.d.comb += [
                behind_next.eq(behind + 1),
                then.eq(Mux(advances, behind_next, behind)),
                memory.read.enable.eq(1),
                memory.read.address.eq(Mux(refills | ~self.running, elsewhere, then)),
                host.data.eq(memory.read.data),
            ]

        header = Signal(slot_layout(self.format.header))
        distance = Signal(TIMING_BITS)
        distance_is_1 = Signal()
        m.d.comb += [
            header.eq(self.coming[: self.format.header.bits]),
            distance.eq(Mux(header.timed, timing.read.data, header.wait)),
        ]
        with m.If(self.loads):
            m.d.sync += [self.distance.eq(distance), distance_is_1.eq(distance == 1)]

        remaining = Signal(TIMING_BITS)  # from this cycle to the next issue, unless one is taking place
        remaining_is_1 = Signal()
        left = Signal(TIMING_BITS)
        left_is_1 = Signal()
        m.d.comb += [
            left.eq(Mux(self.issue, self.distance, remaining)),
            left_is_1.eq(Mux(self.issue, distance_is_1, remaining_is_1)),
            advances.eq(~self.hold & left_is_1),
            issue_next.eq(self.running & advances & ~self.stop),
            self.pc.eq(pc),
            self.past_end.eq(pc[-1]),  # `bundles` is a power of two
            self.comes_past_end.eq(pc[-1] | (self.issue & pc[:-1].all())),
        ]
        m.d.sync += [
            self.issue.eq(issue_next),
            remaining.eq(Mux(self.hold | self.delay, left, left - 1)),
            remaining_is_1.eq(Mux(self.hold | self.delay, left_is_1, left == 2)),
        ]
        with m.If(self.issue):
            m.d.sync += pc.eq(pc + 1)
        with m.If(self.redirect):
            m.d.sync += pc.eq(self.target)
        with m.If(self.start):
            m.d.sync += [pc.eq(0), remaining.eq(_START), remaining_is_1.eq(0)]
        return m
