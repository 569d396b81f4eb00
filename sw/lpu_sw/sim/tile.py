"""The tile: issues one bundle after the other and carries out each operation at once.

That is exact because a legal program means what it says one operation after the other, and takes the sum of its
bundles' distances; `lpu_sw.check` proves both. The faults that only an illegal timing causes (``ISSUE``, ``SYNC``, and
``CONFLICT`` but for a switch operation without its vector operation) are left to it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.faults import Fault
from lpu_isa.fields import Operation
from lpu_isa.icu import IcuOp
from lpu_isa.mxm import MxmOp
from lpu_isa.sxm import SxmOp
from lpu_isa.vxm import VxmOp

from .arithmetic import Arithmetic
from .icu import Sequencer
from .mxm import Matmul
from .state import TileState, Trap
from .sxm import Switch
from .vxm import Pass

__all__ = ["Event", "Simulator", "Status"]


_OPERATIONS = {"icu": IcuOp, "mxm": MxmOp, "vxm": VxmOp, "sxm": SxmOp}


class Status(Enum):
    """Why a run returned."""

    RUNNING = "running"  # the limit of cycles was reached
    WAITING = "waiting"  # in RECV, and the inbox is empty
    HALTED = "halted"
    FAULTED = "faulted"


@dataclass(frozen=True)
class Event:
    """One issued operation, as a trace holds it. ``count``: steps of a matmul, vectors of a pass, else 1."""

    cycle: int
    pc: int
    slot: str
    op: str
    count: int


@dataclass(slots=True)
class _Step:
    """A bundle, ready to run."""

    wait: int
    timed: bool
    units: list[Matmul | Pass]
    scalar: Callable[[], int] | None = None
    destination: int = 0
    control: Callable[[int], int] | None = None
    receives: bool = False
    halts: bool = False
    names: tuple[tuple[str, str], ...] = ()


class Simulator:
    """Runs a program on a `TileState`.

    program : bundles, from bundle 0 on. timings : distances in timing memory, from word 0 on; the rest is 0.
    state : made if not given. trace : a list to which every issued operation is added as an `Event`. observer : called
    with the number of every bundle that issues without a fault, before its operations write anything.
    Raises ``ValueError`` for a program or timing memory that is too long, and for an operation with an unknown slot,
    unknown field, or a value that its field cannot hold.
    """

    def __init__(
        self,
        config: TileConfig,
        program: Sequence[Bundle],
        timings: Sequence[int] = (),
        state: TileState | None = None,
        trace: list[Event] | None = None,
        observer: Callable[[int], None] | None = None,
    ) -> None:
        for name, given, depth in (("program", program, config.bundles), ("timing memory", timings, config.timings)):
            if len(given) > depth:
                raise ValueError(f"the {name} has {len(given)} words, more than the {depth} of the tile")
        self.config = config
        self.state = state or TileState(config)
        self.trace = trace
        self.observer = observer
        self.arithmetic = Arithmetic(self.state.float_format)
        self.sequencer = Sequencer(self.state, self.arithmetic)
        self.pc = 0
        """The bundle that issues next."""
        self._timings = [*timings, *[0] * (config.timings - len(timings))]
        self._format = BundleFormat(config)
        self._steps = [self._prepare(bundle) for bundle in program]
        self._issued = 0
        self._trap: Trap | None = None

    def start(self) -> None:
        """Clear faults, counters and outbox, and begin at bundle 0 with the next `run`."""
        self.state.clear()
        self.sequencer.loops.clear()
        self.pc = 0
        self._trap = None

    def run(self, max_cycles: int | None = None) -> Status:
        """Go on until the program halts, faults or waits for a word, or ``max_cycles`` are counted since start."""
        state, steps, registers = self.state, self._steps, self.state.registers
        limit = float("inf") if max_cycles is None else max_cycles
        if state.fault or state.halted:
            return Status.FAULTED if state.fault else Status.HALTED
        while state.cycles < limit:
            pc = self.pc
            if self._trap and self._trap.cycle < state.cycles:
                return self._stop(self._trap)
            if not 0 <= pc < len(steps):
                return self._stop(self._note(Trap(Fault.PROGRAM, state.cycles)))
            step = steps[pc]
            if step.receives and not state.inbox:
                return self._stop(self._trap) if self._trap else Status.WAITING
            self._issued = pc
            following = pc + 1
            try:
                # All read the state as it is now, then all write.
                value = step.scalar() if step.scalar else 0
                if step.control:
                    following = step.control(pc)
                for unit in step.units:
                    unit.compute()
                if self.observer:
                    self.observer(pc)
                for unit in step.units:
                    unit.commit()
                if step.destination:
                    registers[step.destination] = value
            except Trap as trap:
                self._note(trap)
                self._note_others(step)
            if self.trace is not None:
                self.trace.extend(self._events(step, pc))
            if step.halts:
                if self._trap:
                    return self._stop(self._trap)
                state.halted = True
                return Status.HALTED
            distance = self._timings[(state.timing_base + pc) % len(self._timings)] if step.timed else step.wait
            if not distance:
                return self._stop(self._note(Trap(Fault.COUNT, state.cycles)))
            self.pc = following
            state.cycles += distance
        return Status.RUNNING

    def _note_others(self, step: _Step) -> None:
        """After the fault of one operation, note those of the units beside it: theirs may come first."""
        for unit in step.units:
            try:
                unit.compute()
            except Trap as trap:
                self._note(trap)

    def _note(self, trap: Trap) -> Trap:
        """Keep and return the fault that comes first; the program goes on until the cycle in which it shows."""
        if self._trap is None or (trap.cycle, trap.fault) < (self._trap.cycle, self._trap.fault):
            self._trap = trap
        return self._trap

    def _stop(self, trap: Trap) -> Status:
        self.state.fault = trap.fault
        self.state.fault_pc = self._issued
        self.state.cycles = trap.cycle
        return Status.FAULTED

    def _events(self, step: _Step, pc: int) -> Iterator[Event]:
        counts = {"mxm" if isinstance(unit, Matmul) else "vxm": unit.count for unit in step.units}
        for slot, op in step.names:
            yield Event(self.state.cycles, pc, slot, op, counts.get(slot, 1))

    def _prepare(self, bundle: Bundle) -> _Step:
        """Bind a bundle's operations to the state."""
        step = _Step(bundle.wait, bundle.timed, [])
        operations = {}
        for slot, operation in bundle.operations.items():
            values = self._complete(slot, operation)
            if values is None:
                step.control = self._faulting(Fault.OPCODE)
                return step
            if values["op"]:
                operations[slot] = values
        state = self.state
        step.names = tuple((slot, _OPERATIONS[slot](values["op"]).name.lower()) for slot, values in operations.items())
        if (values := operations.get("icu")) is not None:
            code = IcuOp(values["op"])
            step.scalar = self.sequencer.scalar(values)
            step.destination = values["rd"] if step.scalar else 0
            step.control = self.sequencer.control(values)
            step.receives = code is IcuOp.RECV
            step.halts = code is IcuOp.HALT
        if "mxm" in operations:
            step.units.append(Matmul(state, operations["mxm"]))
        switch = Switch(state, operations["sxm"]) if "sxm" in operations else None
        if "vxm" in operations:
            step.units.append(Pass(state, self.arithmetic, operations["vxm"], switch))
        elif switch:
            step.control = self._faulting(Fault.CONFLICT)
        return step

    def _faulting(self, fault: Fault) -> Callable[[int], NoReturn]:
        """The control of a bundle that cannot be carried out."""

        def control(_: int) -> NoReturn:
            raise Trap(fault, self.state.cycles)

        return control

    def _complete(self, slot: str, operation: Operation) -> dict[str, int] | None:
        """All field values; None if an enumeration holds none of its members. Raises ``ValueError``."""
        if slot not in self._format.slots:
            raise ValueError(f"a slot must be one of {', '.join(self._format.slots)}, not {slot!r}")
        fields = self._format.slots[slot].by_name
        for name, value in operation.values.items():
            if name not in fields:
                raise ValueError(f"{slot} has no field {name!r}")
            field = fields[name]
            if not field.low <= value <= field.high:
                raise ValueError(f"{slot}: {name} must be from {field.low} to {field.high}, not {value}")
        values = self._format.complete(operation)
        legal = all(f.enum is None or values[f.name] in list(f.enum) for f in fields.values())
        return values if legal and not values.get("reserved") else None
