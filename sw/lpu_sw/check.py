"""Checker: proves that a timed run computes what the program says one operation after the other.

The program runs in the simulator, so that scalars, branches and loops are real. For every operation that issues, the
reads and writes that `BundleFormat.use` declares are held against those of all operations before it:

- a read comes after the last earlier write of its location, in a later cycle;
- a write comes no earlier than the last read that still needs the old value, and after the earlier write;
- a unit or port has one user a cycle.

Operations of one bundle all read what was there before the bundle. A run proves the paths that it takes: give it every
bucket of positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.fields import REGISTERS, Operation
from lpu_isa.icu import BRANCH, BRANCHES, LOOP_DEPTH, REFETCHES, IcuOp
from lpu_isa.mxm import TRACKERS
from lpu_isa.tables import Function
from lpu_isa.vxm import Gain, Quantise, Reduce, Source
from lpu_sw.sim.state import TileState
from lpu_sw.sim.tile import Simulator, Status

__all__ = ["Kind", "Report", "Violation", "check"]

NEVER = -1
"""Cycle of a location that nothing has touched."""

ENDS_A_PHASE = (IcuOp.RECV, IcuOp.HALT)
"""Operations during which nothing else may run."""


class Kind(Enum):
    """What is wrong."""

    READ_BEFORE_WRITE = "read before write"
    WRITE_BEFORE_READ = "write before read"
    WRITES_OUT_OF_ORDER = "writes out of order"
    CLAIMED_TWICE = "claimed twice"
    BUSY = "slot busy"
    RUNNING = "operation still running"
    COMPANION = "forbidden companion"
    OPERAND = "illegal operand"
    LOOP = "unbalanced loop"
    TARGET = "branch target"
    WAIT = "distance too short"
    FAULT = "fault"
    UNFINISHED = "unfinished run"


@dataclass(frozen=True)
class Violation:
    """One error. ``pc`` is the bundle that comes too early or is wrong, ``other_pc`` the one that it collides with."""

    kind: Kind
    pc: int
    text: str
    other_pc: int | None = None
    cycle: int | None = None

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.text}"


@dataclass
class Report:
    """Outcome of a check: each error once, in the order found, and how far the run got."""

    violations: list[Violation] = field(default_factory=list)
    cycles: int = 0
    bundles: int = 0
    """Bundles that issued."""
    status: Status = Status.RUNNING

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.violations


def check(
    config: TileConfig,
    program: Sequence[Bundle],
    timings: Sequence[int] = (),
    inbox: Sequence[int] = (),
    state: TileState | None = None,
    sources: Sequence[object] = (),
    max_cycles: int = 10_000_000,
) -> Report:
    """Check a program, first bundle by bundle, then by running it until it halts or waits for a word.

    state : memories and registers at start, changed by the run (default: zeros). inbox : words for RECV, behind those
    that ``state`` holds. sources : where each bundle comes from, put into the texts by ``str``.
    Raises ``ValueError`` for what no program memory can hold (see `Simulator`).
    """
    checker = _Checker(config, program, sources)
    checker.check_bundles()
    state = state or TileState(config)
    state.inbox.extend(inbox)
    simulator = Simulator(config, program, timings, state, observer=checker.issue)
    checker.state = state
    simulator.start()
    checker.finish(simulator.run(max_cycles), simulator.pc, max_cycles)
    return checker.report


@dataclass
class _Touches:
    """Accesses of one operation to one space, of one kind, in the order of their cycles."""

    space: str
    index: np.ndarray
    cycle: np.ndarray


@dataclass
class _Pattern:
    """What an operation touches for given register values, in cycles after its issue."""

    slot: str
    reads: list[_Touches]
    writes: list[_Touches]
    claims: list[tuple[str, np.ndarray]]
    end: int


@dataclass
class _History:
    """Last reads and writes of the locations of one space: cycle and bundle."""

    read: np.ndarray
    reader: np.ndarray
    write: np.ndarray
    writer: np.ndarray

    @classmethod
    def of(cls, depth: int) -> "_History":
        return cls(*(np.full(depth, NEVER) for _ in range(4)))


class _Claimed:
    """Holders of one resource by cycle, in a ring that is longer than any operation so far."""

    def __init__(self) -> None:
        self.cycle = np.full(1 << 12, NEVER)
        self.holder = np.full(1 << 12, NEVER)

    def take(self, cycle: np.ndarray, pc: int) -> tuple[int, int] | None:
        """Claim some cycles. Returns the first that is held already, and its holder."""
        while cycle[-1] - cycle[0] >= len(self.cycle) // 2:
            self._grow()
        at = cycle & (len(self.cycle) - 1)
        held = self.cycle[at] == cycle
        first = int(held.argmax())
        clash = (int(cycle[first]), int(self.holder[at[first]])) if held[first] else None
        self.cycle[at] = cycle
        self.holder[at] = pc
        return clash

    def _grow(self) -> None:
        old_cycle, old_holder = self.cycle, self.holder
        self.cycle = np.full(2 * len(old_cycle), NEVER)
        self.holder = np.full(2 * len(old_cycle), NEVER)
        at = old_cycle & (len(self.cycle) - 1)
        self.cycle[at], self.holder[at] = old_cycle, old_holder


class _Checker:
    """State of one check."""

    def __init__(self, config: TileConfig, program: Sequence[Bundle], sources: Sequence[object]) -> None:
        self.config = config
        self.program = program
        self.sources = sources
        self.report = Report()
        self.state = TileState(config)
        self._format = BundleFormat(config)
        self._seen: set[tuple] = set()
        self._patterns: dict[tuple, _Pattern] = {}
        self._operations = [self._operations_of(bundle) for bundle in program]
        depths = {"wmem": config.wmem_words, "vmem": config.vmem_words, "smem": config.smem_words,
                  "act": config.act_blocks, "acc": config.accumulators, "tracker": TRACKERS,
                  "register": REGISTERS}  # fmt: skip
        self._history = {space: _History.of(depth) for space, depth in depths.items()}
        self._claimed: dict[str, _Claimed] = {}
        self._busy_until = NEVER
        self._busy_pc = 0
        self._refetch: tuple[int, int] | None = None
        self._has_timing_base = False

    def _operations_of(self, bundle: Bundle) -> dict[str, dict[str, int]]:
        """All field values of the operations that are no NOP, by slot."""
        completed = {
            slot: self._format.complete(operation)
            for slot, operation in bundle.operations.items()
            if slot in self._format.slots
        }
        return {slot: values for slot, values in completed.items() if values["op"]}

    # Texts.

    def _at(self, pc: int) -> str:
        source = self.sources[pc] if pc < len(self.sources) else None
        return f"bundle {pc}" if source is None else f"bundle {pc} ({source})"

    def _add(self, kind: Kind, pc: int, text: str, other_pc: int | None = None, cycle: int | None = None) -> None:
        key = (kind, pc, other_pc)
        if key not in self._seen:
            self._seen.add(key)
            self.report.violations.append(Violation(kind, pc, text, other_pc, cycle))

    # Bundle by bundle, without running.

    def check_bundles(self) -> None:
        """Rules that concern one bundle, and the nesting of loops."""
        open_loops: list[int] = []
        for pc, (bundle, operations) in enumerate(zip(self.program, self._operations, strict=True)):
            where = self._at(pc)
            if not bundle.timed and bundle.wait < 1:
                self._add(Kind.WAIT, pc, f"{where} waits {bundle.wait} cycles, must be at least 1")
            for kind, text in self._bundle_errors(operations):
                self._add(kind, pc, f"{where}: {text}")
            icu = operations.get("icu", {"op": IcuOp.NOP, "imm": 0})
            if icu["op"] in BRANCHES and not 0 <= icu["imm"] < len(self.program):
                text = f"{where} branches to {icu['imm']}, the program has {len(self.program)} bundles"
                self._add(Kind.TARGET, pc, text)
            if icu["op"] == IcuOp.LOOP:
                open_loops.append(pc)
                if len(open_loops) > LOOP_DEPTH:
                    self._add(Kind.LOOP, pc, f"{where} opens loop {len(open_loops)}, at most {LOOP_DEPTH} can nest")
            elif icu["op"] == IcuOp.END:
                if open_loops:
                    open_loops.pop()
                else:
                    self._add(Kind.LOOP, pc, f"{where} ends a loop, none is open")
        for pc in open_loops:
            self._add(Kind.LOOP, pc, f"{self._at(pc)} begins a loop that has no end")

    def _bundle_errors(self, operations: dict[str, dict[str, int]]) -> Iterator[tuple[Kind, str]]:
        icu, vxm, sxm = (operations.get(slot) for slot in ("icu", "vxm", "sxm"))
        if icu and icu["op"] in ENDS_A_PHASE and len(operations) > 1:
            others = ", ".join(slot for slot in operations if slot != "icu")
            yield Kind.COMPANION, f"{IcuOp(icu['op']).name.lower()} must be alone, not beside an operation of {others}"
        if icu and icu["op"] == IcuOp.FUNCTION and icu["function"] == Function.NONE:
            yield Kind.OPERAND, "function names no function"
        if sxm and (vxm is None or vxm["source"] != Source.SXM):
            yield Kind.COMPANION, "a switch operation needs a pass with source sxm in its bundle"
        if vxm is None:
            return
        if vxm["source"] == Source.SXM and sxm is None:
            yield Kind.COMPANION, "source sxm needs a switch operation in its bundle"
        if vxm["interval"] < 1:
            yield Kind.OPERAND, "interval must be at least 1, not 0"
        if vxm["quantise"] != Quantise.NONE and vxm["interval"] > 1:
            yield Kind.OPERAND, f"interval must be 1 in a quantising pass, not {vxm['interval']}"
        parts = self.config.words_per_block
        if not 1 <= vxm["block"] <= parts:
            yield Kind.OPERAND, f"block must be from 1 to {parts}, not {vxm['block']}"
        if vxm["reduce"] == Reduce.SUM_SQUARES and vxm["gain"] != Gain.NONE:
            yield Kind.CLAIMED_TWICE, "gain and sum_squares both need the second multiplier"

    # Running.

    def issue(self, pc: int) -> None:
        """Take in a bundle that issues now; registers and memories are as before it."""
        now = self.state.cycles
        self.report.bundles += 1
        operations = self._operations[pc]
        self._check_distances(pc, now)
        if "icu" in operations and operations["icu"]["op"] in ENDS_A_PHASE:
            self._check_quiet(pc, now)
        patterns = [self._pattern(pc, slot, values) for slot, values in operations.items() if slot != "link"]
        for pattern in patterns:
            for touches in pattern.reads:
                self._check_reads(pc, pattern.slot, touches, now)
        for pattern in patterns:
            for touches in pattern.reads:
                # A matrix operation's accumulator is read and written step by step, in that order.
                if not (pattern.slot == "mxm" and touches.space == "acc"):
                    self._note_reads(pc, touches, now)
        for pattern in patterns:
            for touches in pattern.writes:
                self._check_writes(pc, pattern.slot, touches, now)
            for resource, cycle in pattern.claims:
                self._check_claim(pc, pattern.slot, resource, cycle + now)
            if now + pattern.end > self._busy_until:
                self._busy_until, self._busy_pc = now + pattern.end, pc
        for pattern in patterns:
            for touches in pattern.reads:
                if pattern.slot == "mxm" and touches.space == "acc":
                    self._note_reads(pc, touches, now)

    def _check_quiet(self, pc: int, now: int) -> None:
        """Nothing may run when a RECV or HALT issues."""
        if self._busy_until >= now:
            name = IcuOp(self._operations[pc]["icu"]["op"]).name.lower()
            text = f"{self._at(pc)} issues {name} in cycle {now}, {self._at(self._busy_pc)} runs until cycle "
            self._add(Kind.RUNNING, pc, f"{text}{self._busy_until}", self._busy_pc, now)

    def _check_distances(self, pc: int, now: int) -> None:
        """The distance after an operation of `REFETCHES`, at the bundle that comes next, and whether it is known."""
        if self._refetch is not None:
            issuer, cycle = self._refetch
            if now - cycle < BRANCH:
                name = IcuOp(self._operations[issuer]["icu"]["op"]).name.lower()
                text = f"{self._at(issuer)} issues {name} and the next bundle comes {now - cycle} cycles later, "
                self._add(Kind.WAIT, issuer, text + f"must be {BRANCH} or more", pc, now)
        icu_op = self._operations[pc].get("icu", {"op": IcuOp.NOP})["op"]
        self._refetch = (pc, now) if icu_op in REFETCHES else None
        if self.program[pc].timed and not self._has_timing_base:
            text = f"{self._at(pc)} takes its distance from timing memory, no timing operation comes before it"
            self._add(Kind.WAIT, pc, text)
        if icu_op == IcuOp.TIMING:
            self._has_timing_base = True

    def _pattern(self, pc: int, slot: str, values: dict[str, int]) -> _Pattern:
        """Made once for the values of the registers that the operation names."""
        registers = self.state.registers
        named = [registers[values[f.name]] for f in self._format.slots[slot].fields if f.register]
        key = (pc, slot, *named)
        pattern = self._patterns.get(key)
        if pattern is None:
            pattern = self._patterns[key] = self._make_pattern(slot, values)
        return pattern

    def _make_pattern(self, slot: str, values: dict[str, int]) -> _Pattern:
        use = self._format.use(Operation(slot, values), self.state.registers)
        touched: dict[tuple[str, bool], list[tuple[np.ndarray, np.ndarray]]] = {}
        for access in use.accesses:
            if access.space in self._history:
                # Register 0 is constant.
                keep = access.index > 0 if access.space == "register" else slice(None)
                touched.setdefault((access.space, access.write), []).append((access.index[keep], access.cycle[keep]))
        pattern = _Pattern(slot, [], [], [], 0)
        for (space, is_write), parts in touched.items():
            index, cycle = (np.concatenate(column) for column in zip(*parts, strict=True))
            if len(index):
                order = np.argsort(cycle, kind="stable")
                touches = _Touches(space, index[order], cycle[order])
                (pattern.writes if is_write else pattern.reads).append(touches)
                pattern.end = max(pattern.end, int(cycle.max()))
        claims: dict[str, list[np.ndarray]] = {}
        for claim in use.claims:
            claims.setdefault(claim.resource, []).append(claim.cycle)
            pattern.end = max(pattern.end, int(claim.cycle.max()))
        pattern.claims = [(resource, np.sort(np.concatenate(cycles))) for resource, cycles in claims.items()]
        return pattern

    def _check_reads(self, pc: int, slot: str, touches: _Touches, now: int) -> None:
        history = self._history[touches.space]
        early = history.write[touches.index] >= touches.cycle + now
        if early.any():
            k = int(early.argmax())
            index, cycle = int(touches.index[k]), int(touches.cycle[k]) + now
            writer, written = int(history.writer[index]), int(history.write[index])
            self._add(
                Kind.READ_BEFORE_WRITE,
                pc,
                f"{self._at(pc)} reads {touches.space} {index} in cycle {cycle} ({slot}), "
                f"{self._at(writer)} writes it in cycle {written}: {written - cycle + 1} cycles too early",
                writer,
                cycle,
            )

    def _note_reads(self, pc: int, touches: _Touches, now: int) -> None:
        history, index, cycle = self._history[touches.space], touches.index, touches.cycle + now
        latest = np.maximum(history.read[index], cycle)
        history.reader[index] = np.where(cycle >= latest, pc, history.reader[index])
        history.read[index] = latest

    def _check_writes(self, pc: int, slot: str, touches: _Touches, now: int) -> None:
        history, index, cycle = self._history[touches.space], touches.index, touches.cycle + now
        early = history.read[index] > cycle
        if early.any():
            k = int(early.argmax())
            at, reader = int(index[k]), int(history.reader[index[k]])
            text = f"{self._at(pc)} writes {touches.space} {at} in cycle {cycle[k]} ({slot}), {self._at(reader)} still "
            text += f"reads the old value in cycle {history.read[at]}: {history.read[at] - cycle[k]} cycles too early"
            self._add(Kind.WRITE_BEFORE_READ, pc, text, reader, int(cycle[k]))
        early = history.write[index] >= cycle
        if early.any():
            k = int(early.argmax())
            at, writer = int(index[k]), int(history.writer[index[k]])
            text = f"{self._at(pc)} writes {touches.space} {at} in cycle {cycle[k]} ({slot}), the earlier "
            text += f"{self._at(writer)} writes it in cycle {history.write[at]}"
            self._add(Kind.WRITES_OUT_OF_ORDER, pc, text, writer, int(cycle[k]))
        history.write[index] = cycle
        history.writer[index] = pc

    def _check_claim(self, pc: int, slot: str, resource: str, cycle: np.ndarray) -> None:
        twice = cycle[1:] == cycle[:-1]
        clash = (int(cycle[1:][twice][0]), pc) if twice.any() else None
        clash = self._claimed.setdefault(resource, _Claimed()).take(cycle, pc) or clash
        if clash is None:
            return
        at, holder = clash
        if resource == slot:
            text = f"{self._at(pc)} issues to {slot} in cycle {cycle[0]}, {self._at(holder)} still runs in it"
            self._add(Kind.BUSY, pc, text, holder, at)
        else:
            text = f"{self._at(pc)} and {self._at(holder)} both use {resource} in cycle {at} ({slot})"
            self._add(Kind.CLAIMED_TWICE, pc, text, holder, at)

    def finish(self, status: Status, pc: int, max_cycles: int) -> None:
        """Take in how the run ended; ``pc``: the bundle that would issue next."""
        state = self.state
        self.report.cycles, self.report.status = state.cycles, status
        if status is Status.FAULTED:
            text = f"{self._at(state.fault_pc)} is the last to issue before fault {state.fault.name.lower()} "
            text += f"({state.fault.text}) in cycle {state.cycles}"
            self._add(Kind.FAULT, state.fault_pc, text, cycle=state.cycles)
        elif status is Status.WAITING:
            self._check_quiet(pc, state.cycles)
        elif status is Status.RUNNING:
            text = f"the program still runs after {max_cycles} cycles"
            self._add(Kind.UNFINISHED, 0, text, cycle=max_cycles)
