"""Matrix unit against the simulator's matmul: random and extreme operations, faults, and each access in its cycle."""

from collections.abc import Mapping

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from lpu_isa import mxm
from lpu_isa.config import TileConfig
from lpu_isa.faults import Fault
from lpu_isa.fields import Operation
from lpu_isa.formats import ACCUMULATOR_BITS, ACCUMULATOR_FRACTION_BITS, ACCUMULATOR_HEADROOM
from lpu_isa.mxm import Base, Clear
from lpu_rtl.interfaces import WEIGHT_READ_LATENCY, issue_operands
from lpu_rtl.mxm import SIDES
from lpu_sw.sim.mxm import Matmul
from lpu_sw.sim.state import TileState, Trap

from ..clock import start_clock
from ..runner import parameters
from .faults import lowest_fault

_FAULT_LATENCY = 1  # from an access to the cycle in which its fault shows
_COUNT_LATENCY = 2  # the simulator notes a bad count in the cycle of issue


class MxmDriver:
    """Drives the ports, plays the weight SRAM, and keeps the simulator's state beside the unit's.

    Cycles are counted at falling edges: inputs change in the middle of a cycle and are taken at the end of it.
    """

    def __init__(self, dut, config: TileConfig, rng: np.random.Generator) -> None:
        self.dut, self.config, self.rng = dut, config, rng
        self.slot = mxm.slot(config)
        self.operands = issue_operands(self.slot)
        self.state = TileState(config)
        self.cycle = 0
        self.fault: tuple[Fault, int] | None = None
        self._reads: dict[int, int] = {}

    async def start(self) -> None:
        """Reset the unit and bring the accumulators of both sides to zero."""
        dut = self.dut
        for name in ("issue__start", "stop", "block_write__enable", "act__address", "acc__address",
                     "acc_host__enable"):  # fmt: skip
            getattr(dut, name).value = 0
        dut.rst.value = 1
        start_clock(dut.clk)
        for _ in range(2):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        await self.write_block(0, np.zeros(self.config.cols, int), 0)
        await self.run(self.whole_bank())

    def whole_bank(self) -> dict[str, int]:
        """Fields of an operation that replaces every accumulator by the product of word 0 and block 0."""
        return {"inner": self.config.accumulators, "acc_inner": 1, "clear": Clear.OUTER}

    def summed(self) -> dict[str, int]:
        """Fields of an operation that adds that product to every accumulator that takes it."""
        return {"inner": self.config.summed, "acc_inner": 1, "clear": Clear.NEVER}

    async def tick(self) -> None:
        """To the next cycle; the weight SRAM answers, with garbage when it was not asked."""
        dut = self.dut
        await FallingEdge(dut.clk)
        self.cycle += 1
        word = self._reads.pop(self.cycle, None)
        if word is None:
            data = self.rng.bytes(self.config.multipliers)
        else:
            data = self.state.wmem[word].astype(np.int8).tobytes()
        dut.weights__data.value = int.from_bytes(data, "little")
        if dut.weights__enable.value:
            word = dut.weights__address.value.to_unsigned()
            self._reads[self.cycle + WEIGHT_READ_LATENCY] = min(word, self.config.wmem_words - 1)
        if fault := lowest_fault(dut, SIDES):
            self.fault = self.fault or (fault, self.cycle)

    def present_block(self, block: int, part: int, values: np.ndarray, code: int, tracker: int, first: bool) -> None:
        """Put a part of a block on the port for the cycle at hand."""
        dut, rows = self.dut, self.config.rows
        dut.block_write__enable.value = 1
        dut.block_write__block.value = block
        dut.block_write__part.value = part
        part_values = values[part * rows : (part + 1) * rows].astype(np.int8)
        dut.block_write__data.value = int.from_bytes(part_values.tobytes(), "little")
        dut.block_write__code.value = code
        dut.block_write__first.value = int(first)
        dut.block_write__tracker.value = tracker

    async def write_block(
        self, block: int, values: np.ndarray, code: int, *, parts: int = 0, tracker: int = 0, first: bool = True
    ) -> None:
        """Write an activation block, or its first ``parts`` parts, whereupon the others must be zero."""
        parts = parts or self.config.words_per_block
        for part in range(parts):
            self.present_block(block, part, values, code, tracker, first)
            await self.tick()
        self.dut.block_write__enable.value = 0
        state = self.state
        state.act[block] = np.where(np.arange(self.config.cols) < parts * self.config.rows, values, 0)
        state.act_codes[block] = code
        state.trackers[tracker] = code if first else max(code, state.trackers[tracker])

    def present(self, values: Mapping[str, int]) -> None:
        """Put an operation on the issue port for the cycle at hand."""
        word = self.slot.encode({"op": mxm.MxmOp.MATMUL, **values})
        op = self.slot.decode(word)
        operands = 0
        for index, name in enumerate(self.operands):
            operands |= (self.state.registers[op[name]] & 0xFFFF_FFFF) << (32 * index)
        self.dut.issue__op.value = word
        self.dut.issue__operands.value = operands
        self.dut.issue__start.value = 1

    def expect(self, values: Mapping[str, int]) -> tuple[Fault, int] | None:
        """The simulator's answer: new accumulators, or a fault and the cycle in which the unit shows it."""
        values = {f.name: values.get(f.name, f.default) for f in self.slot.fields} | {"op": mxm.MxmOp.MATMUL}
        self.state.cycles = self.cycle
        matmul = Matmul(self.state, Operation("mxm", values).values)
        try:
            matmul.compute()
        except Trap as trap:
            latency = _COUNT_LATENCY if trap.fault is Fault.COUNT else _FAULT_LATENCY
            return trap.fault, trap.cycle + latency
        matmul.commit()
        return None

    async def idle(self) -> None:
        """Wait until the unit is idle, and for a fault of its last cycle."""
        self.dut.issue__start.value = 0
        for _ in range(2_000):
            await self.tick()
            if not self.dut.busy.value:
                await self.tick()
                return
        raise AssertionError("busy does not fall")

    async def run(self, *operations: Mapping[str, int]) -> None:
        """Issue operations as soon as the one before allows, and compare faults and the whole bank."""
        expected = None
        for values in operations:
            self.present(values)
            expected = expected or self.expect(values)
            await self.tick()
            self.dut.issue__start.value = 0
            if expected:
                break
            for _ in range(self.count(values) - 1):
                await self.tick()
        await self.idle()
        assert self.fault == expected, f"{self.fault} instead of {expected}: {operations}"
        if expected:
            await self.recover()
        else:
            await self.compare(operations)

    def count(self, values: Mapping[str, int]) -> int:
        """Steps of an operation."""
        registers = self.state.registers
        inner = values.get("inner", 1) + registers[values.get("inner_reg", 0)]
        return inner * (values.get("outer", 1) + registers[values.get("outer_reg", 0)])

    async def recover(self) -> None:
        """After a fault: the bank means nothing, so begin anew; the fault must not come again."""
        self.dut.stop.value = 1
        await self.tick()
        self.dut.stop.value = 0
        self.fault = None
        await self.write_block(0, np.zeros(self.config.cols, int), 0)
        await self.run(self.whole_bank())

    async def entry(self, index: int) -> tuple[list[int], int]:
        """Sums and base code of an accumulator, as the vector unit reads them."""
        self.dut.acc__address.value = index
        await self.tick()
        await self.tick()
        return self.entry_on_port()

    def entry_on_port(self) -> tuple[list[int], int]:
        """What the accumulator port shows in this cycle."""
        rows = self.config.rows
        value = self.dut.acc__data.value.to_unsigned()
        limit, full = 1 << (ACCUMULATOR_BITS - 1), 1 << ACCUMULATOR_BITS
        sums = [(((value >> (ACCUMULATOR_BITS * row)) + limit) % full) - limit for row in range(rows)]
        return sums, value >> (ACCUMULATOR_BITS * rows)

    def golden_entry(self, index: int) -> tuple[list[int], int]:
        """The simulator's accumulator."""
        return [int(total) for total in self.state.acc[index]], int(self.state.acc_bases[index])

    async def compare(self, context: object) -> None:
        """The whole bank against the simulator's."""
        for index in range(self.config.accumulators):
            assert await self.entry(index) == self.golden_entry(index), f"accumulator {index}: {context}"

    async def compare_blocks(self) -> None:
        """The activation buffer, through the host's port."""
        for block in range(self.config.act_blocks):
            self.dut.act__address.value = block
            await self.tick()
            await self.tick()
            value = self.dut.act__data.value.to_unsigned()
            raw = value.to_bytes(self.config.cols + 1, "little")
            values = np.frombuffer(raw[:-1], np.int8)
            assert (values == self.state.act[block]).all() and raw[-1] == self.state.act_codes[block], block


async def _started(dut) -> MxmDriver:
    config = TileConfig(**parameters()["config"])
    driver = MxmDriver(dut, config, np.random.default_rng(parameters()["seed"]))
    await driver.start()
    return driver


async def _fill(driver: MxmDriver, code: int = 127, spread: int = 5) -> None:
    """Random weights, every activation block (some written in part), trackers."""
    config, rng = driver.config, driver.rng
    driver.state.wmem[:] = rng.integers(-128, 128, driver.state.wmem.shape)
    for block in range(config.act_blocks):
        values = rng.integers(-127, 128, config.cols)
        parts = int(rng.integers(1, config.words_per_block + 1))
        codes = int(rng.integers(code - spread, code + spread + 1)) if rng.random() < 0.9 else 0
        tracker, first = int(rng.integers(mxm.TRACKERS)), bool(rng.random() < 0.3)
        await driver.write_block(block, values, codes, parts=parts, tracker=tracker, first=first)


def _walk(driver: MxmDriver, depth: int, inner: int, outer: int) -> tuple[int, int, int]:
    """First address and strides that stay inside a memory: any signs, often zero."""
    rng = driver.rng
    strides = []
    for count in (inner, outer):
        reach = (depth - 1) // (2 * max(count - 1, 1))
        strides.append(int(rng.integers(-reach, reach + 1)) if rng.random() < 0.8 else 0)
    low = sum(min(0, stride * (count - 1)) for stride, count in zip(strides, (inner, outer), strict=True))
    high = sum(max(0, stride * (count - 1)) for stride, count in zip(strides, (inner, outer), strict=True))
    return int(rng.integers(-low, depth - high)), *strides


def _random_operation(driver: MxmDriver) -> dict[str, int]:
    config, rng, registers = driver.config, driver.rng, driver.state.registers
    inner, outer = int(rng.integers(1, 7)), int(rng.integers(1, 7))
    op: dict[str, int] = {
        "clear": int(rng.choice(list(Clear))),
        "base": int(rng.choice(list(Base))),
        "exponent": int(rng.integers(122, 133)),
        "tracker": int(rng.integers(mxm.TRACKERS)),
    }
    # Half of the walks keep to what can be added to; of the others, those that add are faults now and then.
    acc = config.summed if rng.random() < 0.5 else config.accumulators
    for name, depth in (("weights", config.wmem_words), ("act", config.act_blocks), ("acc", acc)):
        op[name], op[f"{name}_inner"], op[f"{name}_outer"] = _walk(driver, depth, inner, outer)
    for name, value, limit in (("inner", inner, 1 << mxm.COUNT_BITS), ("outer", outer, 1 << mxm.COUNT_BITS),
                               ("weights", op["weights"], config.wmem_words)):  # fmt: skip
        field = int(rng.integers(limit)) if rng.random() < 0.5 else value
        register = int(rng.integers(1, 32))
        if field != value and not any(op.get(other) == register for other in ("inner_reg", "outer_reg")):
            op[name], op[f"{name}_reg"], registers[register] = field, register, value - field
        else:
            op[name] = value
    return op


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def random_operations(dut) -> None:
    """Any walk, any base, any clearing, one operation after the other without a gap."""
    driver = await _started(dut)
    await _fill(driver)
    await driver.compare_blocks()
    for _ in range(parameters()["rounds"]):
        driver.state.registers[:] = [0] * len(driver.state.registers)
        op = _random_operation(driver)
        other = {**op, "clear": Clear.NEVER, "exponent": int(driver.rng.integers(122, 133))}
        await driver.run(op, other)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def extremes(dut) -> None:
    """Largest and smallest products, every shift from far right to the headroom, floors of negative sums."""
    driver = await _started(dut)
    cols = driver.config.cols
    bank = driver.whole_bank()
    for weight in (-128, 127, 1, -1, 0):
        for value in (-127, 127, 1):
            driver.state.wmem[0] = weight
            for lane, row in enumerate(driver.state.wmem[0]):
                row[: lane + 1] = -weight if weight > -128 else 127
            for block, base in ((255, 255), (135, 127), (127, 127), (120, 127), (113, 127), (112, 127), (1, 255),
                                (1, 20), (96, 127), (0, 0), (0, 255), (8, 0), (255, 247)):  # fmt: skip
                await driver.write_block(0, np.full(cols, value), block)
                await driver.run({**bank, "inner": 3, "exponent": base})
                await driver.run({**driver.summed(), "inner": 3, "exponent": base})


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def one_entry_step_after_step(dut) -> None:
    """Consecutive steps on one accumulator, up to the overflow: the first step that does not fit is the fault."""
    driver = await _started(dut)
    cols, base = driver.config.cols, 100
    largest = cols * 127 * 127 << (ACCUMULATOR_FRACTION_BITS + ACCUMULATOR_HEADROOM)
    n_fit = ((1 << (ACCUMULATOR_BITS - 1)) - 1) // largest
    for sign in (1, -1):
        driver.state.wmem[0] = 127 * sign
        await driver.write_block(0, np.full(cols, 127), base + ACCUMULATOR_HEADROOM)
        for steps in (1, 2, n_fit, n_fit + 1):
            for walk in ({"inner": steps, "clear": Clear.INNER}, {"outer": steps, "clear": Clear.OUTER}):
                await driver.write_block(0, np.full(cols, 127), base + ACCUMULATOR_HEADROOM)
                await driver.run({**walk, "exponent": base})


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def faults(dut) -> None:
    """Each fault with its code, in its cycle, and none of them at the edge just before."""
    driver = await _started(dut)
    config, registers = driver.config, driver.state.registers
    await _fill(driver)
    registers[1], registers[2], registers[3], registers[4] = 1, -1, -(1 << 31), 1 << 30
    last = {"weights": config.wmem_words - 1, "act": config.act_blocks - 1, "acc": config.accumulators - 1}
    plain = {"clear": Clear.INNER, "exponent": 130}
    counts: list[dict[str, int]] = [
        {"inner": 0}, {"outer": 0}, {"inner": 1, "inner_reg": 2}, {"inner": 1023, "inner_reg": 1},
        {"inner": 1022, "inner_reg": 1}, {"inner": 1, "inner_reg": 3}, {"outer": 1, "outer_reg": 4},
        {"outer": 2, "outer_reg": 2},
    ]  # fmt: skip
    addresses: list[dict[str, int]] = [
        {"weights": last["weights"]},
        {"weights": last["weights"], "weights_reg": 1},
        {"weights": last["weights"], "weights_reg": 3},
        {"weights": 0, "weights_reg": 2},
        {"weights": 5, "weights_reg": 4},
    ]
    for name, edge in last.items():
        low = -(1 << driver.slot.by_name[f"{name}_inner"].bits - 1)
        addresses += [
            {name: edge - 3, "inner": 4, f"{name}_inner": 1},
            {name: edge - 3, "inner": 5, f"{name}_inner": 1},
            {name: 3, "inner": 4, f"{name}_inner": -1},
            {name: 3, "inner": 5, f"{name}_inner": -1},
            {name: edge - 2, "outer": 3, f"{name}_outer": 1},
            {name: edge - 2, "outer": 4, "inner": 2, f"{name}_outer": 1},
            {name: edge, "inner": 2, f"{name}_inner": -low - 1},
            {name: edge, "inner": 2, f"{name}_inner": low},
            {name: 0, "inner": 2, f"{name}_inner": low},
        ]
    end = config.summed
    addresses += [
        {"acc": end - 1, "clear": Clear.NEVER},
        {"acc": end - 2, "inner": 2, "acc_inner": 1, "outer": 2, "clear": Clear.OUTER},
    ]
    if end < config.accumulators:
        addresses += [
            {"acc": end, "clear": Clear.NEVER},
            {"acc": end, "inner": 5},
            {"acc": end, "outer": 5, "clear": Clear.OUTER},
            {"acc": end - 1, "inner": 2, "acc_inner": 1, "outer": 2, "clear": Clear.OUTER},
            {"acc": end - 1, "inner": 2, "outer": 2, "acc_outer": 1, "clear": Clear.NEVER},
        ]
    sizes: list[dict[str, int]] = [{"act": 1, "exponent": 100 + gap} for gap in (0, 1, 2)]
    for op in counts + addresses + sizes:
        values = driver.rng.integers(-127, 128, config.cols)
        await driver.write_block(1, values, 101 + ACCUMULATOR_HEADROOM)
        await driver.run({**plain, **op})


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def issue_while_busy(dut) -> None:
    """The next operation may issue when the walk has made its last step, and not a cycle before."""
    driver = await _started(dut)
    await _fill(driver)
    op = {"inner": 3, "outer": 2, "acc_inner": 1, "clear": Clear.OUTER, "exponent": 130}
    steps = driver.count(op)
    for gap in range(1, steps + 1):
        issued = driver.cycle
        driver.present(op)
        driver.expect(op)
        for _ in range(gap):
            await driver.tick()
            driver.dut.issue__start.value = 0
        driver.present(op)
        await driver.tick()
        await driver.idle()
        assert driver.fault == ((Fault.ISSUE, issued + gap + 1) if gap < steps else None)
        if gap < steps:
            await driver.recover()
        else:
            await driver.compare(op)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def accesses_in_their_cycles(dut) -> None:
    """Block and tracker are read, and the accumulator is written, in the cycle that the ISA states; busy covers it."""
    driver = await _started(dut)
    config = driver.config
    old, new = np.full(config.cols, 3), np.full(config.cols, 5)
    accumulate = mxm.accumulate_cycle(config)
    for written in range(mxm.ACT_READ - 2, mxm.ACT_READ + 3):
        driver.state.wmem[7] = driver.rng.integers(-127, 128, (config.rows, config.cols))
        await driver.write_block(2, old, 120, tracker=1)
        op = {"weights": 7, "act": 2, "acc": 9, "base": Base.TRACKER, "tracker": 1, "clear": Clear.INNER}
        before = await driver.entry(9)
        driver.dut.acc__address.value = 9
        driver.present(op)
        if written >= mxm.ACT_READ:  # a read in the cycle of a write sees what was there before
            driver.expect(op)
        for cycle in range(accumulate + 3):
            if cycle:
                await driver.tick()
                driver.dut.issue__start.value = 0
                assert bool(driver.dut.busy.value) == (cycle <= accumulate)
            if cycle == accumulate + 1:
                assert driver.entry_on_port() == before
            driver.dut.block_write__enable.value = 0
            if cycle == written:
                driver.present_block(2, 0, new, 122, 1, first=True)
        driver.state.act[2] = np.where(np.arange(config.cols) < config.rows, new, 0)
        driver.state.act_codes[2] = driver.state.trackers[1] = 122
        if written < mxm.ACT_READ:
            driver.expect(op)
        assert driver.entry_on_port() == driver.golden_entry(9) != before, written
    assert driver.fault is None


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stop_drops_what_is_under_way(dut) -> None:
    """Whenever it comes, the unit is idle in the next cycle and raises nothing, and the next operation is right."""
    driver = await _started(dut)
    await _fill(driver)
    op = {"inner": 4, "acc_inner": 1, "clear": Clear.OUTER, "exponent": 130}
    for at in range(1, mxm.accumulate_cycle(driver.config) + 6):
        driver.present({**op, "exponent": 1})  # every step would be the fault ACCUMULATOR
        for _ in range(at):
            await driver.tick()
            driver.dut.issue__start.value = 0
        driver.dut.stop.value = 1
        driver.fault = None
        await driver.tick()
        driver.dut.stop.value = 0
        assert not driver.dut.busy.value
        for _ in range(20):
            await driver.tick()
        assert driver.fault is None
        await driver.recover()
