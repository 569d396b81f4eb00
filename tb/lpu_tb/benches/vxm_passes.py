"""Random legal sequences of vector passes, and what they do: the simulator's state, and every access cycle by cycle."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lpu_isa import sxm, vxm
from lpu_isa.config import TileConfig
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS, Slot, Use
from lpu_isa.formats import EXPONENT_BIAS
from lpu_isa.host import Window
from lpu_isa.sxm import SxmOp
from lpu_isa.tables import Function
from lpu_isa.vxm import TO_BLOCKS, Add, Gain, Multiply, Quantise, Reduce, Source, VxmOp, Write
from lpu_sw.schedule.dependences import dependences
from lpu_sw.schedule.reservation import ReservationTable, claims_of
from lpu_sw.sim.arithmetic import Arithmetic
from lpu_sw.sim.state import TileState, Trap
from lpu_sw.sim.sxm import Switch
from lpu_sw.sim.vxm import Pass

__all__ = ["Access", "Clash", "FaultyPass", "Issued", "PassSequence", "clash", "faulty_pass", "observable_accesses",
           "random_state"]  # fmt: skip

SPOILED_REGISTER = 1
"""Register that no pass names but one that is to fault."""
INTEGER_REGISTERS = range(2, 8)
"""Registers that hold small integers, for addresses and counts."""
FLOAT_REGISTERS = range(8, 24)
"""Registers that hold floats."""
RESULT_REGISTERS = range(24, REGISTERS)
"""Registers that reductions write."""


class Access(NamedTuple):
    """A word that is read or written in a cycle, as it is seen on the ports."""

    space: str
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    cycle: int
    is_write: bool


@dataclass
class Issued:
    """A pass, the switch operation of its bundle if any, its cycle of issue, and what it wrote to scalar registers."""

    op: dict[str, int]
    switch: dict[str, int] | None
    cycle: int = 0
    use: Use = field(default_factory=lambda: Use((), ()))
    reduced: dict[int, int] = field(default_factory=dict)


def random_floats(rng: np.random.Generator, config: TileConfig, shape, spread: int) -> np.ndarray:
    """Encoded floats of moderate size, among them zeros of both signs and zeros with a fraction; uint32."""
    p = config.significand_bits
    exponent = EXPONENT_BIAS + rng.integers(-spread, spread // 2, shape)
    exponent = np.where(rng.random(shape) < 0.06, 0, exponent)
    words = rng.integers(0, 2, shape) << (p + 7) | exponent << (p - 1) | rng.integers(0, 1 << (p - 1), shape)
    return words.astype(np.uint32)


def random_state(
    rng: np.random.Generator, config: TileConfig, spread: int = 12
) -> tuple[TileState, dict[str, np.ndarray]]:
    """A state, and the encoded words of vector and scale SRAM as they were loaded.

    spread : of the exponents; with the default few passes fault.
    """
    state = TileState(config)
    words = {
        "vmem": random_floats(rng, config, (config.vmem_words, config.rows), spread),
        "smem": random_floats(rng, config, (config.smem_words, config.rows), spread),
    }
    state.load(Window.VMEM, words["vmem"])
    state.load(Window.SMEM, words["smem"])
    state.wmem[:] = rng.integers(-128, 128, state.wmem.shape)
    state.acc[:] = rng.integers(-(1 << 43), 1 << 43, state.acc.shape) >> rng.integers(0, 44, state.acc.shape)
    state.acc_bases[:] = EXPONENT_BIAS - rng.integers(0, 16, state.acc_bases.shape)
    for register in INTEGER_REGISTERS:
        state.registers[register] = int(rng.integers(-2, 5))
    for register in FLOAT_REGISTERS:
        state.registers[register] = int(random_floats(rng, config, (), spread))
    return state, words


def _defaults(slot: Slot) -> dict[str, int]:
    return {f.name: f.default for f in slot.fields}


def _lengths(config: TileConfig) -> list[int]:
    """Numbers of values at which vectors and blocks are just full, just not, and just begun."""
    rows, cols = config.rows, config.cols
    return [1, rows - 1, rows, rows + 1, cols, cols + 1, 3 * cols - 1]


def random_pass(rng: np.random.Generator, config: TileConfig, registers: Sequence[int]) -> Issued:
    """A pass whose addresses are in range, whatever it computes."""
    op = _defaults(vxm.slot(config))

    def pick(choices) -> int:
        return int(rng.choice([int(choice) for choice in choices]))

    length = pick(_lengths(config)) if rng.random() < 0.7 else int(rng.integers(1, 6 * config.rows))
    count = -(-length // config.rows)
    lanes = length - (count - 1) * config.rows
    op.update(
        op=VxmOp.PASS,
        count_reg=pick([0, *INTEGER_REGISTERS]),
        lanes_reg=pick([0, *INTEGER_REGISTERS]),
        interval=1 if rng.random() < 0.6 else int(rng.integers(2, 16)),
        source=pick(Source),
        row_reg=pick(range(REGISTERS)),
        multiply=pick(Multiply),
        add=pick(Add),
        function=pick(Function) if rng.random() < 0.5 else Function.NONE,
        gain=pick(Gain),
        gain_step=pick([0, 1]),
        relu=pick([0, 1]),
        reduce=pick(Reduce) if rng.random() < 0.5 else Reduce.NONE,
        reduce_reg=pick(RESULT_REGISTERS),
        start_reg=pick([0, *FLOAT_REGISTERS]),
        write=pick(Write),
        quantise=pick(Quantise) if rng.random() < 0.6 else Quantise.NONE,
        block=int(rng.integers(1, config.words_per_block + 1)),
        index_reg=pick(range(REGISTERS)),
        tracker=int(rng.integers(4)),
    )
    for name in ("multiply", "add", "gain"):
        op[f"{name}_reg"] = pick(FLOAT_REGISTERS)
    if op["quantise"] != Quantise.NONE:
        op["interval"] = 1
    if op["reduce"] == Reduce.SUM_SQUARES:  # both need the second multiplier
        op["gain"] = Gain.NONE
    op["count"] = count - registers[op["count_reg"]]
    op["lanes"] = lanes - registers[op["lanes_reg"]]
    if op["count"] < 0:
        op.update(count=count, count_reg=0)
    if not 0 <= op["lanes"] <= config.rows:
        op.update(lanes=lanes, lanes_reg=0)

    depths = {
        "x": {Source.ACC: config.accumulators, Source.WMEM: config.wmem_words}.get(op["source"], config.vmem_words),
        "b": config.vmem_words,
        "c": config.smem_words,
        "d": config.smem_words if op["write"] == Write.SMEM else config.vmem_words,
        "q": config.act_blocks if op["quantise"] in TO_BLOCKS else config.wmem_words,
    }
    for name, depth in depths.items():
        step = int(rng.integers(-2, 3)) if rng.random() < 0.8 else int(rng.integers(-9, 10))
        reach = step * (count - 1)
        if abs(reach) >= depth:
            step = reach = 0
        first = int(rng.integers(max(0, -reach), depth - max(0, reach)))
        register = pick([0, *INTEGER_REGISTERS])
        if not 0 <= first - registers[register] < depth:
            register = 0
        op.update({name: first - registers[register], f"{name}_reg": register, f"{name}_step": step})

    switch = None
    if op["source"] == Source.SXM:
        switch = _defaults(sxm.slot(config))
        switch.update(
            op=pick([o for o in SxmOp if o is not SxmOp.NOP]),
            amount=int(rng.integers(config.rows)),
            amount_reg=pick([0, *INTEGER_REGISTERS]),
        )
    return Issued(op, switch)


def _is_consistent(use: Use) -> bool:
    """Whether the pass uses no port twice in a cycle, and reads every word before it writes it."""
    claimed = Counter((claim.resource, cycle) for claim in use.claims for cycle in claim.cycle.tolist())
    if claimed and max(claimed.values()) > 1:
        return False
    written: dict[tuple[str, int], int] = {}
    for access in use.accesses:
        if access.write:
            for index, cycle in zip(access.index.tolist(), access.cycle.tolist(), strict=True):
                written[access.space, index] = min(cycle, written.get((access.space, index), cycle))
    return all(
        cycle < written.get((access.space, index), cycle + 1)
        for access in use.accesses
        if not access.write
        for index, cycle in zip(access.index.tolist(), access.cycle.tolist(), strict=True)
    )


def observable_accesses(issued: Issued) -> Counter[Access]:
    """The accesses of a pass that a port shows with an enable."""
    seen: Counter[Access] = Counter()
    for access in issued.use.accesses:
        if access.space in ("vmem", "smem", "wmem", "act") or (access.space == "register" and access.write):
            for index, cycle in zip(access.index.tolist(), access.cycle.tolist(), strict=True):
                seen[Access(access.space, index, issued.cycle + cycle, access.write)] += 1
    return seen


def _prepare(config: TileConfig, state: TileState, issued: Issued) -> Pass:
    """Note what the pass touches, and bind it to the state."""
    issued.use = vxm.use(config, issued.op, state.registers)
    if issued.switch is not None:
        switched = sxm.use(config, issued.switch, state.registers)
        issued.use = Use(issued.use.accesses + switched.accesses, issued.use.claims)
    switch = None if issued.switch is None else Switch(state, issued.switch)
    return Pass(state, Arithmetic(state.float_format), issued.op, switch)


class PassSequence:
    """``n_passes`` random passes, each issued as soon as it may be, or some cycles later.

    Attributes
    ----------
    words : encoded floats of vector and scale SRAM at the start
    initial, final : the simulator's state before and after
    passes : with their cycles of issue, in order
    end : last cycle in which one of them accesses or holds anything
    """

    def __init__(self, config: TileConfig, seed: int, n_passes: int) -> None:
        rng = np.random.default_rng(seed)
        self.initial, self.words = random_state(np.random.default_rng(seed), config)
        self.final, _ = random_state(np.random.default_rng(seed), config)
        table = ReservationTable()
        self.passes: list[Issued] = []
        self.end = 0
        while len(self.passes) < n_passes:
            issued = random_pass(rng, config, self.final.registers)
            operation = _prepare(config, self.final, issued)
            if not _is_consistent(issued.use):
                continue
            try:
                operation.compute()
            except Trap:
                continue
            operation.commit()
            issued.reduced = {
                int(index): self.final.registers[index] & 0xFFFF_FFFF
                for access in issued.use.accesses
                if access.space == "register" and access.write
                for index in access.index
            }
            self._place(issued, table, int(rng.integers(0, 30)) if rng.random() < 0.2 else 0)

    def _place(self, issued: Issued, table: ReservationTable, extra: int) -> None:
        earlier = self.passes[-64:]
        distances = dependences([*(other.use for other in earlier), issued.use])[-1]
        cycle = earlier[-1].cycle + 1 if earlier else 1
        for other, distance in distances.items():
            cycle = max(cycle, earlier[other].cycle + distance)
        cycle += extra
        claims = claims_of(issued.use)
        while not table.is_free(claims, cycle):
            cycle += 1
        table.take(claims, cycle)
        issued.cycle = cycle
        self.passes.append(issued)
        held = [*issued.use.accesses, *issued.use.claims]
        self.end = max([self.end, *(cycle + int(holding.cycle.max()) for holding in held)])


class FaultyPass(NamedTuple):
    """A pass that faults, the state in which it does, and when the simulator says so (cycles after issue)."""

    issued: Issued
    state: TileState
    words: dict[str, np.ndarray]
    fault: Fault
    cycle: int


def _spoil(rng: np.random.Generator, config: TileConfig, issued: Issued, state: TileState) -> None:
    """Make one field of a pass illegal, or nothing when its values are to fault."""
    op = issued.op
    spoiled = str(rng.choice(["x", "b", "c", "d", "q", "count", "lanes", "interval", "block", "switch", "values"]))
    register = SPOILED_REGISTER
    if spoiled in ("x", "b", "c", "d", "q"):
        # Past the end at once, some steps later, or by a register that makes the address negative or huge.
        depth = 1 << vxm.slot(config).by_name[spoiled].bits
        first, step = int(rng.integers(depth - 3, depth)), int(rng.integers(1, 4))
        op.update({spoiled: first, f"{spoiled}_reg": 0, f"{spoiled}_step": step})
        if rng.random() < 0.5:
            state.registers[register] = int(rng.choice([-depth, -(1 << 31), (1 << 31) - 1, depth]))
            op[f"{spoiled}_reg"] = register
    elif spoiled == "count":
        state.registers[register] = int(rng.choice([-op["count"], 1024 - op["count"], -(1 << 31)]))
        op["count_reg"] = register
    elif spoiled == "lanes":
        state.registers[register] = int(rng.choice([-op["lanes"], config.rows + 1 - op["lanes"], 1 << 30]))
        op["lanes_reg"] = register
    elif spoiled == "interval":
        op["interval"] = 0 if op["quantise"] == Quantise.NONE else 2
    elif spoiled == "block":
        op["block"] = 0
    elif spoiled == "switch":
        issued.switch = None if issued.switch else _defaults(sxm.slot(config)) | {"op": SxmOp.ROTATE}


def faulty_pass(config: TileConfig, rng: np.random.Generator) -> FaultyPass:
    """A pass that the simulator lets fault, of any kind that a pass alone can cause."""
    while True:
        seed = int(rng.integers(1 << 30))
        state, words = random_state(np.random.default_rng(seed), config, spread=int(rng.choice([12, 120])))
        issued = random_pass(rng, config, state.registers)
        _prepare(config, state, issued)
        if not _is_consistent(issued.use):
            continue
        _spoil(rng, config, issued, state)
        switch = None if issued.switch is None else Switch(state, issued.switch)
        try:
            with np.errstate(all="ignore"):
                Pass(state, Arithmetic(state.float_format), issued.op, switch).compute()
        except Trap as trap:
            return FaultyPass(issued, state, words, trap.fault, trap.cycle)


_UNITS = ("vxm.convert", "vxm.multiply", "vxm.add", "vxm.function", "vxm.gain", "vxm.result", "vmem.b", "smem.c")
_WATCHED = {"vxm": Fault.ISSUE} | dict.fromkeys(_UNITS, Fault.CONFLICT)
"""Resources of which the hardware notices that two passes claim them in one cycle, and the fault that it raises."""


class Clash(NamedTuple):
    """Two passes, the second issued too early; the faults that must come, and the cycle in which they meet first."""

    passes: list[Issued]
    faults: set[Fault]
    cycle: int


def clash(config: TileConfig, state: TileState, rng: np.random.Generator) -> Clash:
    """Two passes, each legal, that claim a watched resource in one cycle."""
    while True:
        passes = [random_pass(rng, config, state.registers) for _ in range(2)]
        try:
            for issued in passes:
                _prepare(config, state, issued).compute()
        except Trap:
            continue
        if not all(_is_consistent(issued.use) for issued in passes):
            continue
        first, second = passes
        first.cycle, second.cycle = 1, 2 + int(rng.integers(0, 20))
        taken, wanted = (
            {(claim.resource, issued.cycle + cycle) for claim in issued.use.claims for cycle in claim.cycle.tolist()}
            for issued in passes
        )
        met = {(resource, cycle) for resource, cycle in taken & wanted if resource in _WATCHED}
        if met:
            earliest = max(second.cycle + 1, min(cycle for _, cycle in met))
            return Clash(passes, {_WATCHED[resource] for resource, _ in met}, earliest)
