"""Steps of a pass: which vector it is now, where its operands lie and how long it takes to each unit."""

from collections.abc import Mapping
from itertools import product

from amaranth import Array, Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa import sxm, vxm
from lpu_isa.config import TileConfig, address_bits
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.mxm import COUNT_BITS
from lpu_isa.sxm import SxmOp
from lpu_isa.vxm import Quantise, Reduce, Source, Stages

from .float.encoding import gated
from .interfaces import FAULT_BITS, Issue, slot_layout
from .sxm import switch_layout

__all__ = ["PassSteps", "is_outside", "stage_cycles", "step_layout"]

_STEP_BITS = 8


_UNITS = ("multiply", "add", "function", "gain")


def _stage_table() -> list[Stages]:
    """`lpu_isa.vxm.stages` of every pass, by source (lowest bits of the index) and by which of `_UNITS` it uses."""
    return [
        vxm.stages({"source": source, **dict(zip(reversed(_UNITS), uses, strict=True)), "reduce": Reduce.SUM})
        for *uses, source in product(*[range(2)] * len(_UNITS), range(len(Source)))
    ]


def stage_cycles(stage: str) -> set[int]:
    """The cycles after issue in which the first vector of some pass enters ``stage``, a field of `Stages`."""
    return {cycle for stages in _stage_table() if (cycle := getattr(stages, stage)) >= 0}


def _walk_bits(depth: int) -> int:
    """Bits of a signed address that one step past either end of a memory still shows where it is."""
    return max(address_bits(depth), _STEP_BITS) + 2


def is_outside(position, depth: int):
    """Whether a walk's position is past the end of a memory of ``depth`` words."""
    return (position < 0) | (position >= depth)


class _Walk(wiring.Component):
    """Addresses ``first + register + step * stride``.

    Ports
    -----
    load : In(1)            Takes ``first`` and ``register``; the sum wraps at 32 bits and is signed.
    advance : In(1)         Adds ``stride``.
    position : Out(signed)  Right as long as it is in range or was so a step before; see `is_outside`.
    """

    def __init__(self, position: Shape, first_bits: int) -> None:
        super().__init__({
            "load": In(1),
            "first": In(first_bits),
            "register": In(32),
            "advance": In(1),
            "stride": In(signed(_STEP_BITS)),
            "position": Out(position),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        position = Signal.like(self.position, reset_less=True)
        sum_ = (self.first + self.register.as_signed())[:32]
        in_reach = ~sum_[len(position) - 1 :].any()
        with m.If(self.load):
            m.d.sync += position.eq(Mux(in_reach, sum_[: len(position)].as_signed(), -1))
        with m.Elif(self.advance):
            m.d.sync += position.eq(position + self.stride)
        m.d.comb += self.position.eq(position)
        return m


def step_layout(config: TileConfig) -> data.StructLayout:
    """A step of a pass."""
    part = address_bits(config.words_per_block)
    delay = range(max(stage_cycles("result")) + 1)
    return data.StructLayout({
        "op": slot_layout(vxm.slot(config)),
        "delays": data.StructLayout(dict.fromkeys((*_UNITS, "result"), delay)),  # from the step, less the stage's lead
        "is_first": 1,
        "is_last": 1,
        "mask": config.rows,  # valid lanes
        "x": signed(_walk_bits(max(config.vmem_words, config.wmem_words, config.accumulators))),
        "b": signed(_walk_bits(config.vmem_words)),
        "c": signed(_walk_bits(config.smem_words)),
        "d": signed(_walk_bits(max(config.vmem_words, config.smem_words))),
        "q": signed(_walk_bits(max(config.act_blocks, config.wmem_words))),
        "row": address_bits(config.rows),  # source WMEM: row, and which part of it
        "row_part": part,
        "gain_reg": address_bits(REGISTERS),
        "start": config.float_bits,
        "block_part": part,
        "closes_block": 1,
        "is_first_block": 1,
        "index": address_bits(config.cols),
        "move": switch_layout(config),
    })  # fmt: skip


class PassSteps(wiring.Component):
    """Walks through the steps of the pass that was issued last.

    Parameters
    ----------
    config : TileConfig
    leads : by unit, and for "result": cycles by which ``step.delays`` are less than those from issue to the stage.

    Ports
    -----
    issue : In(Issue)           Vector slot.
    switch : In(Issue)          Switch slot.
    active : Out(1)             ``step`` is one; the first is a cycle after issue, the others ``interval`` cycles apart.
    step : Out(step_layout)     The positions in it may be outside their memories.
    running : Out(1)            There are steps to come.
    fault : Out(FAULT_BITS)     ISSUE, CONFLICT or COUNT, a cycle after issue; the pass then has no steps.
    """

    def __init__(self, config: TileConfig, leads: Mapping[str, int]) -> None:
        self.config, self.leads = config, leads
        super().__init__({
            "issue": In(Issue(vxm.slot(config))),
            "switch": In(Issue(sxm.slot(config))),
            "active": Out(1),
            "step": Out(step_layout(config)),
            "running": Out(1),
            "fault": Out(FAULT_BITS),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        config, step = self.config, self.step
        start, issued, operands = self.issue.start, self.issue.op, self.issue.operands
        moved, move_operands = self.switch.op, self.switch.operands
        op = Signal.like(issued, reset_less=True)
        remaining = Signal(COUNT_BITS, reset_less=True)
        timer = Signal.like(op.interval, reset_less=True)
        running = Signal()
        is_last = remaining == 1
        advance = self.active
        m.d.comb += [
            self.active.eq(running & (timer == 0)),
            self.running.eq(running),
            step.op.eq(op),
            step.is_last.eq(is_last),
        ]

        count = (issued.count + operands.count_reg.as_signed())[:32]
        lanes = (issued.lanes + operands.lanes_reg.as_signed())[:32]
        is_count_fault = (
            (count >> COUNT_BITS).any() | (count == 0)
            | (lanes > config.rows) | (lanes == 0)
            | (issued.block > config.words_per_block) | (issued.block == 0)
            | (issued.interval == 0) | ((issued.quantise != Quantise.NONE) & (issued.interval != 1))
        )  # fmt: skip
        needs_gain_twice = issued.gain.any() & (issued.reduce == Reduce.SUM_SQUARES)
        is_conflict = ((start & (issued.source == Source.SXM)) != self.switch.start) | (start & needs_gain_twice)
        fault = Signal(FAULT_BITS)
        m.d.comb += self.fault.eq(fault)
        m.d.sync += fault.eq(Fault.NONE)
        with m.If(start & running & ~(self.active & is_last)):
            m.d.sync += fault.eq(Fault.ISSUE)
        with m.Elif(is_conflict):
            m.d.sync += fault.eq(Fault.CONFLICT)
        with m.Elif(start & is_count_fault):
            m.d.sync += fault.eq(Fault.COUNT)

        with m.If(start):
            m.d.sync += [op.eq(issued), running.eq(~is_count_fault), remaining.eq(count), timer.eq(0)]
        with m.Elif(self.active):
            m.d.sync += [running.eq(~is_last), remaining.eq(remaining - 1), timer.eq(op.interval - 1)]
        with m.Elif(running):
            m.d.sync += timer.eq(timer - 1)

        # What stays the same for all steps.
        last_mask = Signal(config.rows, reset_less=True)
        shapes = {name: step[name].shape() for name in ("row", "index", "start", "delays")}
        kept = Signal(data.StructLayout(shapes | {"move": switch_layout(config)}), reset_less=True)
        with m.If(start):
            m.d.sync += [
                # The low bits are enough: a pass of more lanes than there are rows makes no steps.
                last_mask.eq(Cat(lanes[: config.rows.bit_length()] > row for row in range(config.rows))),
                kept.row.eq(operands.row_reg),
                kept.index.eq(operands.index_reg),
                kept.start.eq(operands.start_reg),
                kept.move.op.eq(Mux(self.switch.start, moved.op, SxmOp.EXCHANGE)),
                kept.move.amount.eq(gated(moved.amount + move_operands.amount_reg, self.switch.start)),
            ]
        m.d.comb += [
            step.mask.eq(Mux(is_last, last_mask, Const(-1, config.rows))),
            step.row.eq(kept.row),
            step.index.eq(kept.index),
            step.start.eq(kept.start),
            step.move.eq(kept.move),
            step.delays.eq(kept.delays),
        ]
        table = _stage_table()
        used = Cat(issued.source, *(issued[unit].any() for unit in _UNITS))
        for stage, lead in self.leads.items():
            delays = Array(Const(max(getattr(stages, stage) - lead, 0), 5) for stages in table)
            with m.If(start):
                m.d.sync += kept.delays[stage].eq(delays[used])

        # Counters.
        last_part = config.words_per_block - 1
        closes_block = is_last | (step.block_part == op.block - 1)
        m.d.comb += step.closes_block.eq(closes_block)
        is_first, is_first_block = Signal(reset_less=True), Signal(reset_less=True)
        row_part = Signal.like(step.row_part, reset_less=True)
        block_part = Signal.like(step.block_part, reset_less=True)
        gain_reg = Signal.like(step.gain_reg, reset_less=True)
        m.d.comb += [
            step.is_first.eq(is_first),
            step.is_first_block.eq(is_first_block),
            step.row_part.eq(row_part),
            step.block_part.eq(block_part),
            step.gain_reg.eq(gain_reg),
        ]
        with m.If(start):
            m.d.sync += [
                is_first.eq(1), is_first_block.eq(1), row_part.eq(0), block_part.eq(0), gain_reg.eq(issued.gain_reg)
            ]  # fmt: skip
        with m.Elif(advance):
            m.d.sync += [
                is_first.eq(0),
                is_first_block.eq(is_first_block & ~closes_block),
                row_part.eq(Mux(row_part == last_part, 0, row_part + 1)),
                block_part.eq(Mux(closes_block, 0, block_part + 1)),
                gain_reg.eq(gain_reg + op.gain_step),
            ]

        # Addresses.
        moves = {
            "x": (op.source != Source.WMEM) | (row_part == last_part),
            "q": (op.quantise == Quantise.COLUMN) | closes_block,
        }
        for name in ("x", "b", "c", "d", "q"):
            walk = _Walk(step[name].shape(), len(issued[name]))
            m.submodules[f"walk_{name}"] = walk
            m.d.comb += [
                walk.load.eq(start),
                walk.first.eq(issued[name]),
                walk.register.eq(operands[f"{name}_reg"]),
                walk.advance.eq(advance & moves.get(name, 1)),
                walk.stride.eq(op[f"{name}_step"]),
                step[name].eq(walk.position),
            ]
        return m
