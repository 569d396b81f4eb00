"""Sequencer: judges and issues bundles, and executes the sequencer's own slot."""

from collections.abc import Iterable

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, PureInterface, Signature, connect, flipped

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import TileConfig, address_bits
from lpu_isa.faults import Fault
from lpu_isa.fields import Field
from lpu_isa.host import TIMING_BITS
from lpu_isa.icu import ALU, IcuOp
from lpu_isa.tables import Function

from .beats import BeatWrite
from .fetch import Fetch
from .float.encoding import gated
from .interfaces import (
    FAULT_BITS,
    FAULT_FLAGS,
    LATE_SCALARS,
    Issue,
    MemoryRead,
    RegisterRead,
    RegisterWrite,
    is_place,
    issue_operands,
    slot_layout,
    vector_layout,
)
from .lanes import LaneReader
from .loops import LoopStack
from .primitives import Technology
from .registers import RegisterFile
from .scalar_function import ScalarFunction

__all__ = ["Icu", "outbox_layout"]

_UNITS = ("mxm", "vxm", "sxm")
_WRITERS = 2
"""Of scalar registers: integer results, and what comes late."""

_Result = Signature({"is_due": Out(1), "write": Out(RegisterWrite)})
"""What is written in this cycle, and whether anything is: register 0 stays as it is."""

outbox_layout = data.StructLayout({"word": 32, "stamp": 32})
"""What SEND puts into the outbox: a register, and the low half of the cycle counter."""


class Icu(wiring.Component):
    """Program, scalar registers, loops, branches, cycle counter and fault register.

    Golden model: ``lpu_sw.sim.icu``.

    Parameters
    ----------
    config : TileConfig
    technology : Technology
        What the memories are built from.
    n_faults : int
        Sources of faults outside the sequencer.

    Ports
    -----
    start, stop, reset : In(1)          From the host, one cycle each. ``start`` is ignored while ``running``.
    running, waiting, halted : Out(1)   As `lpu_isa.host.Status`; after HALT, ``running`` until ``was_busy`` has fallen.
    cancels, cancel : Out(1)            The units drop what they are doing in the next cycle, and in this one: in that
                                        after a start, a stop, a reset or a fault.
    was_busy : In(1)                    A cycle ago a unit's operation was running, or its result on the way.
    faults : In(FAULT_FLAGS) array      Faults from outside, one cycle each. No later bundle is executed.
    fault, fault_pc, cycles : Out       Fault register, NONE while ``running``; the bundle issued last before it; cycle
                                        counter.
    mxm, vxm, sxm : Out(Issue)          Operations, in their cycle of issue.
    scalars : In(RegisterRead) array    The vector unit's late scalars, in the order of `LATE_SCALARS`.
    reduction : In(RegisterWrite)       The vector unit's reduction, written in the next cycle.
    vlane, slane : Out(MemoryRead)      Lane reads from vector and scale SRAM.
    inbox, outbox : streams             RECV takes a word, SEND gives one.
    register_read : In(RegisterRead)                    For the host; its data come a cycle after the index.
    program_read, timing_read : In(MemoryRead)          Likewise, while not running.
    program_write, timing_write : In(BeatWrite)         Likewise.
    clearing : Out(1)                   Registers are being zeroed; a start waits for the end of it.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC, *, n_faults: int = 1) -> None:
        self.config = config
        self.technology = technology
        self.format = BundleFormat(config)
        beats = self.format.beats
        vector = vector_layout(config)
        super().__init__({
            "start": In(1),
            "stop": In(1),
            "reset": In(1),
            "running": Out(1),
            "waiting": Out(1),
            "halted": Out(1),
            "cancels": Out(1),
            "cancel": Out(1),
            "was_busy": In(1),
            "faults": In(FAULT_FLAGS).array(n_faults),
            "fault": Out(FAULT_BITS),
            "fault_pc": Out(address_bits(config.bundles)),
            "cycles": Out(64),
            **{name: Out(Issue(self.format.slots[name])) for name in _UNITS},
            "scalars": In(RegisterRead).array(len(LATE_SCALARS)),
            "reduction": In(RegisterWrite),
            "vlane": Out(MemoryRead(config.vmem_words, vector)),
            "slane": Out(MemoryRead(config.smem_words, vector)),
            "inbox": In(stream.Signature(32)),
            "outbox": Out(stream.Signature(outbox_layout)),
            "register_read": In(RegisterRead),
            "program_read": In(MemoryRead(config.bundles, 32 * beats)),
            "program_write": In(BeatWrite(config.bundles, beats, 32)),
            "timing_read": In(MemoryRead(config.timings, TIMING_BITS)),
            "timing_write": In(BeatWrite(config.timings, 1, TIMING_BITS)),
            "clearing": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.fetch = fetch = Fetch(self.config, self.technology)
        for name in ("program_read", "program_write", "timing_read", "timing_write"):
            connect(m, flipped(getattr(self, name)), getattr(fetch, name))
        slots, coming = self._slots(m, fetch.bundle, "slot"), self._slots(m, fetch.coming, "coming")

        rs, rt, registers = self._read_registers(m, fetch, slots, coming)
        faults: dict[Fault, list[Value]] = {}
        faulting, drop = Signal(), Signal()
        does = self._judge(m, fetch, slots, coming, faults, faulting)

        self._branch(m, fetch, does, slots["icu"].imm, rs, rt, drop, faults)
        rd_is_some = Signal()  # not register 0, which stays as it is
        with m.If(fetch.loads):
            m.d.sync += rd_is_some.eq(coming["icu"].rd.any())
        alu = self._compute(m, does, slots["icu"], rd_is_some, rs, rt)
        lanes = self._read_lanes(m, does, slots["icu"], rs, rt, drop)
        functions = self._apply_functions(m, does, slots["icu"], rs, drop)
        self._send(m, does, rs, faults)
        hold = self._receive(m, does, alu, slots["icu"].rd, rd_is_some, drop)

        late = self._late_results(m, [lanes.result, functions.result, self.reduction], drop, faults)
        for write, writer in zip(registers.writes, (alu, late), strict=True):
            m.d.comb += [
                getattr(write, field).eq(getattr(writer.write, field)) for field in ("enable", "index", "data")
            ]
        faults[Fault.CONFLICT].append(alu.is_due & late.is_due)
        self._latch_fault(m, fetch, faults, [lanes.fault, functions.fault], does[IcuOp.RECV], faulting)
        self._run(m, fetch, does[IcuOp.HALT], faulting, drop, hold)
        return m

    def _read_registers(
        self, m: Module, fetch: Fetch, slots: dict, coming: dict
    ) -> tuple[Signal, Signal, RegisterFile]:
        """A read port for each register that a bundle names, for the late scalars and for the host.

        The sequencer's own operands are read ahead, since what it does with them takes the whole cycle of issue.
        """
        named = [(name, field) for name in _UNITS for field in issue_operands(self.format.slots[name])]
        places = {(name, field) for name, field in named if is_place(self.format.slots[name], field)}
        widest = max(self.format.slots[name].by_name[field.removesuffix("_reg")].bits for name, field in places)
        m.submodules.registers = registers = RegisterFile(
            len(named) - len(places) + len(self.scalars), len(places), 3, widest + 1, _WRITERS
        )
        reads, place_reads = iter(registers.reads), iter(registers.places)
        for name, field in named:
            read = next(place_reads if (name, field) in places else reads)
            m.d.comb += [read.index.eq(slots[name][field]), getattr(self, name).operands[field].eq(read.data)]
        rs, rt = Signal(signed(32)), Signal(signed(32))
        for field, value, read in (("rs", rs, registers.ahead[0]), ("rt", rt, registers.ahead[1])):
            index = Mux(fetch.loads, coming["icu"][field], slots["icu"][field])
            m.d.comb += [read.index.eq(index), value.eq(read.data)]
        for port, read in (*zip(self.scalars, reads, strict=True), (self.register_read, registers.ahead[2])):
            m.d.comb += [read.index.eq(port.index), port.data.eq(read.data)]
        m.d.comb += [registers.clear.eq(self.reset), self.clearing.eq(registers.clearing)]
        return rs, rt, registers

    def _slots(self, m: Module, bundle: Value, kind: str) -> dict[str, data.View]:
        """The slots of a bundle, header included, by name."""
        slots = {}
        for name, slot in {"header": self.format.header, **self.format.slots}.items():
            slots[name] = Signal(slot_layout(slot), name=f"{name}_{kind}")
            at = self.format.offsets[name]
            m.d.comb += slots[name].eq(bundle[at : at + slot.bits])
        return slots

    def _judge(
        self,
        m: Module,
        fetch: Fetch,
        slots: dict,
        coming: dict,
        faults: dict[Fault, list[Value]],
        faulting: Signal,
    ) -> dict[IcuOp, Signal]:
        """Starts the units' operations; returns what the sequencer does in this cycle.

        Whether a bundle may be executed, and what it holds, is found out while it comes, except for a distance of 0
        from the timing memory: such a bundle is executed before the fault stops everything.
        """
        formats = {"header": self.format.header, **self.format.slots}
        legal = Cat(_is_legal(f, coming[name][f.name]) for name, slot in formats.items() for f in slot.fields).all()
        nameless = (coming["icu"].op == IcuOp.FUNCTION) & (coming["icu"].function == Function.NONE)
        is_bad, may_execute, may_receive = Signal(), Signal(), Signal()
        holds = {name: Signal(name=f"holds_{name}") for name in _UNITS}
        codes = [code for code in IcuOp if code is not IcuOp.NOP]
        holds_code = {code: Signal(name=f"holds_{code.name.lower()}") for code in codes}
        with m.If(fetch.loads):
            bad = ~legal | nameless
            may = ~bad & (coming["header"].timed | coming["header"].wait.any()) & ~fetch.comes_past_end
            m.d.sync += [is_bad.eq(bad), may_execute.eq(may), may_receive.eq(may & (coming["icu"].op == IcuOp.RECV))]
            m.d.sync += [signal.eq(coming[name].op.any()) for name, signal in holds.items()]
            m.d.sync += [signal.eq(coming["icu"].op == code) for code, signal in holds_code.items()]

        present, execute = Signal(), Signal()
        m.d.comb += [
            present.eq(fetch.issue & ~fetch.past_end),
            execute.eq(fetch.issue & may_execute & ~faulting),
            # As RECV's own, without looking whether a fault stops everything anyway: the next address waits for it.
            fetch.hold.eq(((fetch.issue & may_receive) | self.waiting) & ~self.inbox.valid),
            fetch.delay.eq(self.clearing),
        ]
        for name in _UNITS:
            port = getattr(self, name)
            m.d.comb += [port.op.eq(slots[name]), port.start.eq(execute & holds[name])]
        does = {code: Signal(name=f"does_{code.name.lower()}") for code in codes}
        m.d.comb += [does[code].eq(execute & holds_code[code]) for code in codes]
        faults[Fault.OPCODE] = [present & is_bad]
        faults[Fault.COUNT] = [present & (fetch.distance == 0)]
        faults[Fault.PROGRAM] = [fetch.issue & fetch.past_end]
        return does

    def _branch(
        self,
        m: Module,
        fetch: Fetch,
        does: dict,
        imm: Value,
        rs: Signal,
        rt: Signal,
        drop: Signal,
        faults: dict[Fault, list[Value]],
    ) -> None:
        """Loops, branches and the timing base."""
        total = Signal(signed(32))
        m.submodules.loops = loops = LoopStack(self.config)
        m.d.comb += [
            total.eq(rs + imm),
            loops.push.eq(does[IcuOp.LOOP]),
            loops.body.eq(fetch.pc + 1),
            loops.count.eq(total),
            loops.end.eq(does[IcuOp.END]),
            loops.clear.eq(drop),
        ]
        faults[Fault.LOOP] = [loops.failed]
        taken = {
            IcuOp.JUMP: Const(1),
            IcuOp.BEQ: rs == rt,
            IcuOp.BNE: rs != rt,
            IcuOp.BLT: rs < rt,
            IcuOp.BGE: rs >= rt,
        }
        branches = Cat(does[code] & condition for code, condition in taken.items()).any()
        # A target outside the program becomes the bundle past the end, which is a fault when it comes to issue.
        outside = imm[address_bits(self.config.bundles) :].any()
        m.d.sync += [
            fetch.redirect.eq(branches | (does[IcuOp.END] & loops.again) | does[IcuOp.TIMING]),
            fetch.target.eq(Mux(outside, self.config.bundles, imm.as_unsigned())),
        ]
        with m.If(does[IcuOp.END]):
            m.d.sync += fetch.target.eq(loops.top)
        with m.If(does[IcuOp.TIMING]):
            m.d.sync += [fetch.timing_base.eq(total), fetch.target.eq(fetch.pc + 1)]

    def _compute(
        self, m: Module, does: dict, icu: data.View, rd_is_some: Signal, rs: Signal, rt: Signal
    ) -> PureInterface:
        """Integer results: computed in the cycle of issue, written in the next."""
        assert ALU == 1
        results = {
            IcuOp.LI: icu.imm,
            IcuOp.ADDI: rs + icu.imm,
            IcuOp.ADD: rs + rt,
            IcuOp.SUB: rs - rt,
            IcuOp.ANDI: rs & icu.imm,
            IcuOp.SHL: rs << icu.imm[:5],
            IcuOp.SHR: rs.as_unsigned() >> icu.imm[:5],
        }
        alu = _Result.create(path=("alu",))
        is_due = Cat(does[code] for code in results).any()
        m.d.sync += [alu.is_due.eq(is_due), alu.write.enable.eq(is_due & rd_is_some), alu.write.index.eq(icu.rd)]
        with m.Switch(icu.op):
            for code, result in (results | {IcuOp.RECV: self.inbox.payload}).items():
                with m.Case(code):
                    m.d.sync += alu.write.data.eq(result)
        return alu

    def _read_lanes(self, m: Module, does: dict, icu: data.View, rs: Signal, rt: Signal, drop: Signal) -> LaneReader:
        """VLANE and SLANE."""
        m.submodules.lanes = lanes = LaneReader(self.config)
        m.d.comb += [
            lanes.vector.eq(does[IcuOp.VLANE]),
            lanes.scale.eq(does[IcuOp.SLANE]),
            lanes.address.eq(rs + icu.imm),
            lanes.lane.eq(rt),
            lanes.destination.eq(icu.rd),
            lanes.cancel.eq(drop),
        ]
        connect(m, flipped(self.vlane), lanes.vmem)
        connect(m, flipped(self.slane), lanes.smem)
        return lanes

    def _late_results(self, m: Module, writers: list, drop: Signal, faults: dict[Fault, list[Value]]) -> PureInterface:
        """Results that come from far away, registered for the next cycle."""
        late = _Result.create(path=("late",))
        enables = [writer.enable for writer in writers]
        faults[Fault.CONFLICT] = [a & b for i, a in enumerate(enables) for b in enables[:i]]
        some = [writer.enable & writer.index.any() for writer in writers]
        m.d.sync += [late.is_due.eq(Cat(enables).any() & ~drop), late.write.enable.eq(Cat(some).any() & ~drop)]
        for field in ("index", "data"):
            value = _any([gated(getattr(one, field), one.enable) for one in writers])
            m.d.sync += getattr(late.write, field).eq(value)
        return late

    def _apply_functions(self, m: Module, does: dict, icu: data.View, rs: Signal, drop: Signal) -> ScalarFunction:
        """FUNCTION."""
        m.submodules.functions = functions = ScalarFunction(self.config, self.technology)
        m.d.comb += [
            functions.start.eq(does[IcuOp.FUNCTION]),
            functions.function.eq(icu.function),
            functions.argument.eq(rs),
            functions.destination.eq(icu.rd),
            functions.cancel.eq(drop),
        ]
        return functions

    def _send(self, m: Module, does: dict, rs: Signal, faults: dict[Fault, list[Value]]) -> None:
        m.d.comb += [
            self.outbox.valid.eq(does[IcuOp.SEND]),
            self.outbox.payload.word.eq(rs),
            self.outbox.payload.stamp.eq(self.cycles[:32]),
        ]
        faults[Fault.MAILBOX] = [does[IcuOp.SEND] & ~self.outbox.ready]

    def _receive(
        self, m: Module, does: dict, alu: PureInterface, rd: Value, rd_is_some: Signal, drop: Signal
    ) -> Signal:
        """RECV: leaves issue to stand when the inbox is empty; returns whether this cycle is spent waiting."""
        hold = Signal()
        wants = Signal()
        destination = Signal.like(rd)
        m.d.comb += [
            wants.eq(does[IcuOp.RECV] | self.waiting),
            self.inbox.ready.eq(wants),
            hold.eq(wants & ~self.inbox.valid),
        ]
        m.d.sync += self.waiting.eq(hold & ~drop)
        with m.If(does[IcuOp.RECV]):
            m.d.sync += destination.eq(rd)
        with m.If(wants & self.inbox.valid):
            m.d.sync += [alu.is_due.eq(1), alu.write.enable.eq(Mux(self.waiting, destination.any(), rd_is_some))]
        with m.If(self.waiting):
            m.d.sync += [alu.write.index.eq(destination), alu.write.data.eq(self.inbox.payload)]
        return hold

    def _latch_fault(
        self,
        m: Module,
        fetch: Fetch,
        faults: dict[Fault, list[Value]],
        codes: list[Value],
        receives: Signal,
        faulting: Signal,
    ) -> None:
        """Keep the first fault, the lowest code if there are several. It is registered before anything else is done
        about it, since faults come from all of the chip."""
        issued = Signal.like(self.fault_pc)
        issued_before = Signal.like(self.fault_pc)
        drops = self.start | self.reset
        own = Signal(FAULT_FLAGS)
        received = Signal()
        raised = Signal(FAULT_FLAGS)
        now = Signal(FAULT_FLAGS)
        for fault in set(Fault) - {Fault.NONE}:
            m.d.sync += own[fault].eq(_any([*faults.get(fault, []), *(code == fault for code in codes)]))
            syncs = [received & self.was_busy] if fault is Fault.SYNC else []
            m.d.comb += now[fault].eq(_any([own[fault], *syncs, *(flags[fault] for flags in self.faults)]))
        # What a unit raises until it is cancelled comes here up to a cycle later.
        was_cancelled = Signal(init=1)
        is_off = drops | self.cancel | was_cancelled
        m.d.sync += [
            was_cancelled.eq(self.cancel),
            received.eq(receives),
            raised.eq(Mux(is_off, 0, now)),
            faulting.eq(now.any() & ~is_off),
            issued_before.eq(issued),
        ]
        with m.If(fetch.issue & ~fetch.past_end):
            m.d.sync += issued.eq(fetch.pc)
        first = Signal.like(self.fault)
        m.d.comb += self.fault.eq(Mux(self.running, Fault.NONE, first))
        with m.If(drops):
            m.d.sync += first.eq(Fault.NONE)
        with m.Elif(faulting & (first == Fault.NONE)):
            m.d.sync += self.fault_pc.eq(issued_before)
            for fault in sorted(set(Fault) - {Fault.NONE}, reverse=True):
                with m.If(raised[fault]):
                    m.d.sync += first.eq(fault)

    def _run(self, m: Module, fetch: Fetch, halts: Signal, faulting: Signal, drop: Signal, hold: Signal) -> None:
        """Start, stop and the cycle counter."""
        active = Signal()  # bundles are being issued
        was_active = Signal()
        lingers = Signal()  # they, or operations, were a cycle ago: known late, since all units have a say in it
        counting = Signal()  # bundle 0 has been
        halted = Signal()
        begins = Signal()
        ends = Signal()
        m.d.comb += [
            lingers.eq(was_active | self.was_busy),
            begins.eq(self.start & ~self.running),
            ends.eq(halts | self.stop | self.reset | faulting),
            drop.eq(begins | self.stop | self.reset | faulting),
            self.running.eq(active | lingers),
            self.halted.eq(halted & ~lingers),
            fetch.start.eq(begins),
            fetch.running.eq(active),
            fetch.stop.eq(ends),
        ]
        m.d.comb += self.cancels.eq(drop)
        m.d.sync += [was_active.eq(active), self.cancel.eq(drop)]
        with m.If(active & (counting | fetch.issue) & ~hold & ~ends):
            m.d.sync += [self.cycles.eq(self.cycles + 1), counting.eq(1)]
        with m.If(active & ends):
            m.d.sync += [active.eq(0), halted.eq((halts & fetch.distance.any()) | self.stop)]
        with m.If(begins | self.reset):
            m.d.sync += [active.eq(begins & ~self.reset), halted.eq(0), self.cycles.eq(0), counting.eq(0)]
        with m.If(self.reset):
            m.d.sync += self.fault_pc.eq(0)


def _any(values: Iterable[Value]) -> Value:
    """Bitwise or."""
    result: Value = Const(0)
    for value in values:
        result = result | value
    return result


def _is_legal(field: Field, value: Value) -> Value:
    """Whether a field holds a value that the ISA defines."""
    if field.name == "reserved":
        return value == 0
    if field.enum is None:
        return Const(1, 1)
    members = sorted({int(member) for member in field.enum})
    if members == list(range(1 << field.bits)):
        return Const(1, 1)
    if members == list(range(len(members))):
        return value < len(members)
    return _any([value == member for member in members])
