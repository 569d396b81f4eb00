"""The vector unit between memories that are modelled here."""

from collections import Counter, deque
from itertools import product
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from lpu_isa import sxm, vxm
from lpu_isa.config import TileConfig
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS, Slot
from lpu_isa.mxm import TRACKERS
from lpu_rtl.interfaces import WEIGHT_ROW_LATENCY, issue_operands
from lpu_rtl.vxm import N_FAULTS
from lpu_sw.sim.state import TileState

from ..clock import start_clock
from ..runner import parameters
from .faults import lowest_fault
from .vxm_passes import Access, Issued, PassSequence, clash, faulty_pass, observable_accesses, random_state

_ACCUMULATOR_BITS = 44
_READ_LATENCY = 2


def _pack(values, bits: int) -> int:
    mask = (1 << bits) - 1
    return sum((int(value) & mask) << (bits * i) for i, value in enumerate(values))


def _unpack(word: int, bits: int, n: int) -> list[int]:
    return [(word >> (bits * i)) & ((1 << bits) - 1) for i in range(n)]


def _int8(values: list[int]) -> list[int]:
    return [value - 256 if value > 127 else value for value in values]


class _Surroundings:
    """Memories and registers around the vector unit, and the record of what it does to them."""

    def __init__(self, dut, config: TileConfig, state: TileState, words: dict[str, np.ndarray]) -> None:
        self.dut = dut
        self.config = config
        self.vmem = [row.tolist() for row in words["vmem"]]
        self.smem = [row.tolist() for row in words["smem"]]
        self.wmem = state.wmem.astype(np.int64).copy()
        self.act = state.act.astype(np.int64).copy()
        self.act_codes = state.act_codes.copy()
        self.acc = list(zip(state.acc.astype(np.int64).tolist(), state.acc_bases.tolist(), strict=True))
        self.registers = [value & 0xFFFF_FFFF for value in state.registers]
        self.trackers = [0] * TRACKERS
        self.register_writes: dict[int, int] = {}
        self._late: dict[int, int] = {}
        self.clamped = 0
        self.accesses: Counter[Access] = Counter()
        self.faults: list[tuple[int, Fault]] = []
        self.busy: set[int] = set()
        self._data: deque[dict[str, int]] = deque({} for _ in range(WEIGHT_ROW_LATENCY))
        self._acc_data = self._acc_read = 0  # of this cycle, and what the next one gives

    def drive(self) -> None:
        """After the clock edge: what was addressed some cycles ago."""
        for name, word in self._data.popleft().items():
            getattr(self.dut, f"{name}__data").value = word
        self.dut.acc__data.value = self._acc_data

    def observe(self, cycle: int) -> None:
        """Within the cycle: reads of the state as it is, then writes."""
        dut, config = self.dut, self.config
        self._data.append({})  # what the slowest memory is to give; the data of the next cycle come first
        data = self._data[_READ_LATENCY - 1]
        for name, space in (("vmem_a", "vmem"), ("vmem_b", "vmem"), ("smem_c", "smem")):
            if self._is_on(name):
                memory = self.vmem if space == "vmem" else self.smem
                data[name] = _pack(memory[self._note(name, space, cycle, is_write=False)], config.float_bits)
        if self._is_on("weights"):
            word = self.wmem[self._note("weights", "wmem", cycle, is_write=False)]
            first = int(dut.weights__part.value) * config.rows
            values = word[int(dut.weights__row.value), first : first + config.rows]
            self._data[-1]["weights"] = _pack(values, 8)
        sums, base = self.acc[int(dut.acc__address.value)]
        self._acc_data = self._acc_read
        self._acc_read = _pack(sums, _ACCUMULATOR_BITS) | base << (_ACCUMULATOR_BITS * config.rows)
        for name in ("multiply", "add", "gain"):
            index = int(getattr(dut, f"scalars__{name}__index").value)
            getattr(dut, f"scalars__{name}__data").value = self.registers[index]
        self._take_writes(cycle)
        if fault := lowest_fault(dut, N_FAULTS):
            self.faults.append((cycle, fault))
        if dut.busy.value:
            self.busy.add(cycle)

    def _is_on(self, name: str) -> bool:
        return int(getattr(self.dut, f"{name}__enable").value) != 0

    def _note(self, name: str, space: str, cycle: int, *, is_write: bool, field: str = "address") -> int:
        index = int(getattr(self.dut, f"{name}__{field}").value)
        self.accesses[Access(space, index, cycle, is_write)] += 1
        return index

    def _take_writes(self, cycle: int) -> None:
        dut, config = self.dut, self.config
        rows = config.rows
        for space, memory in (("vmem", self.vmem), ("smem", self.smem)):
            name = f"{space}_write"
            if self._is_on(name):
                assert int(getattr(dut, f"{name}__enable").value) == (1 << rows) - 1
                data = int(getattr(dut, f"{name}__data").value)
                memory[self._note(name, space, cycle, is_write=True)] = _unpack(data, config.float_bits, rows)
        if self._is_on("block_write"):
            block = self._note("block_write", "act", cycle, is_write=True, field="block")
            part = int(dut.block_write__part.value)
            if part == 0:
                self.act[block] = 0
                self.act_codes[block] = int(dut.block_write__code.value)
            values = _unpack(int(dut.block_write__data.value), 8, rows)
            self.act[block, part * rows :][:rows] = _int8(values)
            code, tracker = int(dut.block_write__code.value), int(dut.block_write__tracker.value)
            self.trackers[tracker] = code if dut.block_write__first.value else max(code, self.trackers[tracker])
        if self._is_on("weight_write"):
            word = self._note("weight_write", "wmem", cycle, is_write=True)
            values = _int8(_unpack(int(dut.weight_write__data.value), 8, rows))
            by_column = dut.weight_write__by_column.value
            in_rows, in_columns = int(dut.weight_write__rows.value), int(dut.weight_write__columns.value)
            for row, column in product(range(rows), range(config.cols)):
                if in_rows >> row & 1 and in_columns >> column & 1:
                    self.wmem[word, row, column] = values[row if by_column else column % rows]
        self.clamped += int(dut.clamped.value)
        for index, value in self._late.items():
            self.registers[index] = value
        self._late = {}
        if self._is_on("register_write"):  # the sequencer takes it in this cycle and writes it in the next
            index = self._note("register_write", "register", cycle + 1, is_write=True, field="index")
            self.register_writes[cycle + 1] = value = int(dut.register_write__data.value)
            if index:
                self._late = {index: value}


def _issue(port: str, dut, slot: Slot, op: dict[str, int] | None, registers: list[int]) -> None:
    """Put an operation on an issue port, or none."""
    getattr(dut, f"{port}__start").value = int(op is not None)
    if op is not None:
        getattr(dut, f"{port}__op").value = slot.encode(op)
        operands = [registers[op[name]] for name in issue_operands(slot)]
        getattr(dut, f"{port}__operands").value = _pack(operands, 32)


async def _run(dut, around: _Surroundings, passes: list[Issued], n_cycles: int) -> None:
    """Reset, then cycle 0 and those that follow."""
    slots = {"issue": vxm.slot(around.config), "switch": sxm.slot(around.config)}
    starts = {issued.cycle: issued for issued in passes}
    dut.rst.value = 1
    for port, slot in slots.items():
        _issue(port, dut, slot, None, around.registers)
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    for cycle in range(n_cycles):
        issued = starts.get(cycle)
        _issue("issue", dut, slots["issue"], issued and issued.op, around.registers)
        _issue("switch", dut, slots["switch"], issued and issued.switch, around.registers)
        around.drive()
        await FallingEdge(dut.clk)
        around.observe(cycle)
        await RisingEdge(dut.clk)


def _equal(what: str, found: Any, wanted: Any) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    where = np.argwhere(found != wanted)
    assert not len(where), f"{what}{where[0].tolist()}: {found[tuple(where[0])]}, not {wanted[tuple(where[0])]}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def passes_do_what_the_simulator_does(dut) -> None:
    """Overlapping passes: all memories at the end, and each access in its cycle."""
    config = TileConfig(**parameters()["config"])
    start_clock(dut.clk)
    for seed in parameters()["seeds"]:
        sequence = PassSequence(config, seed, parameters()["n_passes"])
        around = _Surroundings(dut, config, sequence.initial, sequence.words)
        await _run(dut, around, sequence.passes, sequence.end + 10)
        _compare(around, sequence)


def _compare(around: _Surroundings, sequence: PassSequence) -> None:
    assert not around.faults
    wanted: Counter[Access] = Counter()
    for issued in sequence.passes:
        wanted += observable_accesses(issued)
    # A pass that reads one word through both ports in one cycle reads it twice.
    missing, extra = wanted - around.accesses, around.accesses - wanted
    assert not missing and not extra, f"missing {sorted(missing)[:3]}, extra {sorted(extra)[:3]}"
    for issued in sequence.passes:
        for access in observable_accesses(issued):
            if access.space == "register" and access.index:
                assert around.register_writes[access.cycle] == issued.reduced[access.index], access
    final, floats = sequence.final, sequence.final.float_format
    _equal("register", around.registers[:REGISTERS], [value & 0xFFFF_FFFF for value in final.registers])
    _equal("vmem", floats.encode(floats.decode(around.vmem)), floats.encode(final.vmem))
    _equal("smem", floats.encode(floats.decode(around.smem)), floats.encode(final.smem))
    _equal("wmem", around.wmem, final.wmem)
    _equal("act", around.act, final.act)
    _equal("act code", around.act_codes, final.act_codes)
    _equal("tracker", around.trackers, final.trackers)
    assert around.clamped == final.clamped
    for issued in sequence.passes:
        last = max((access.cycle for access in observable_accesses(issued)), default=issued.cycle)
        assert around.busy.issuperset(range(issued.cycle + 1, last + 1))
    assert max(around.busy) <= sequence.end


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def faults_come_when_the_simulator_says(dut) -> None:
    """One pass at a time; those that look at the operation alone come a cycle after issue."""
    config = TileConfig(**parameters()["config"])
    rng = np.random.default_rng(parameters()["seeds"][0])
    start_clock(dut.clk)
    seen: Counter[Fault] = Counter()
    for _ in range(parameters()["n_passes"]):
        faulty = faulty_pass(config, rng)
        around = _Surroundings(dut, config, faulty.state, faulty.words)
        faulty.issued.cycle = 1
        await _run(dut, around, [faulty.issued], faulty.cycle + 4)
        wanted = max(faulty.cycle, 1) + faulty.issued.cycle
        assert around.faults, faulty
        assert around.faults[0] == (wanted, faulty.fault), faulty
        seen[faulty.fault] += 1
    assert set(seen) == {Fault.CONFLICT, Fault.ADDRESS, Fault.COUNT, Fault.FLOAT, Fault.FUNCTION}, seen


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def clashes_are_faults(dut) -> None:
    """A pass that is issued too early for a unit, a port or the slot is noticed before it could do harm."""
    config = TileConfig(**parameters()["config"])
    rng = np.random.default_rng(parameters()["seeds"][0])
    start_clock(dut.clk)
    for _ in range(parameters()["n_passes"]):
        state, words = random_state(rng, config)
        met = clash(config, state, rng)
        around = _Surroundings(dut, config, state, words)
        await _run(dut, around, met.passes, met.cycle + 2)
        faults = {fault for cycle, fault in around.faults if cycle <= met.cycle}
        assert faults & met.faults, (met, around.faults)
