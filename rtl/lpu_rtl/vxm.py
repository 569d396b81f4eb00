"""Vector unit: lanes of floating-point units in a chain, any of which a pass may leave out.

`lpu_rtl.vxm_steps` walks through the steps of a pass. For each step every unit is told in which cycle it takes the
vector, and from where (`lpu_rtl.agenda`); those cycles are `lpu_isa.vxm.stages`. So passes overlap freely in the chain.
"""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, Signature, connect, flipped

from lpu_isa import sxm, vxm
from lpu_isa.config import TileConfig, address_bits
from lpu_isa.faults import Fault
from lpu_isa.formats import ACCUMULATOR_FRACTION_BITS, INTEGER_BASE
from lpu_isa.vxm import Add, Gain, Multiply, Reduce, Source, Write

from . import interfaces
from .agenda import Agenda
from .float.encoding import delayed, gated
from .float.quantise import Quantiser, is_to_blocks, quantise_layout
from .float.reduce import Reducer, reduce_layout
from .primitives import Technology, replicated
from .sxm import Switch
from .vxm_lane import Lane, control_layout
from .vxm_operand import AHEAD, TAPS, Kind, Operand
from .vxm_steps import PassSteps, is_outside, stage_cycles

__all__ = ["N_FAULTS", "Vxm"]

_FIRST_STEP = 1
"""Cycle after issue of the first step; delays in an agenda count from the step."""

_DECODE = 1
"""Cycles from an agenda's event to what the lanes are told."""

_SELECT = 1
"""Cycles from there to the unit that it is for."""

_HALVES = 2
"""Of the lanes, which lie far apart."""

_AGENDAS, _OTHERS = _HALVES, _HALVES + 1
N_FAULTS = _OTHERS + 1
"""Ports of faults: one for each half of the lanes, one for agendas that are asked too much of, one for all else."""

_OPERAND_CHOICES = {"multiply": Multiply, "add": Add, "gain": Gain}

_LEADS = dict.fromkeys(_OPERAND_CHOICES, _FIRST_STEP + AHEAD + vxm.OPERAND_READ) | {
    "function": _FIRST_STEP + _DECODE + _SELECT,
    "result": _FIRST_STEP + _DECODE + _SELECT + vxm.RESULT,
}
"""Cycles by which a stage's agenda comes due before the vector of the pass is there."""


class Vxm(wiring.Component):
    """Vector unit with the switch unit.

    Golden model: ``lpu_sw.sim.vxm`` and ``lpu_sw.sim.sxm``.

    Parameters
    ----------
    config : TileConfig
    technology : Technology
        What multipliers and function tables are built from.

    Ports
    -----
    issue, switch : In(Issue)                   Vector slot and switch slot.
    vmem_a, vmem_b, smem_c : Out(MemoryRead)    Source, operand B, operand C.
    acc : Out(AccumulatorRead)                  Source.
    weights : Out(WeightRowRead)                Source.
    vmem_write, smem_write : Out(MemoryWrite)   Result; in its cycle, all lanes.
    weight_write : Out(WeightWrite)             Quantised rows and columns.
    block_write : Out(BlockWrite)               Quantised blocks.
    scalars : Out                               Register reads of ``multiply``, ``add`` and ``gain``.
    register_write : Out(RegisterWrite)         Reductions.
    clamped : Out(range(rows + 1))              Lanes that were clamped in this cycle's ``weight_write``.
    faults : Out(FAULT_FLAGS) array             This cycle's, as `N_FAULTS` says.
    busy : Out(1)                               From the cycle after issue to that of the last write.

    Timing: `lpu_isa.vxm.use`, cycle by cycle. ISSUE, COUNT and the CONFLICT of source and switch are raised a cycle
    after issue, every other fault in the cycle in which the faulty access or result is there.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        self.config = config
        self.technology = technology
        vector = interfaces.vector_layout(config)
        super().__init__({
            "issue": In(interfaces.Issue(vxm.slot(config))),
            "switch": In(interfaces.Issue(sxm.slot(config))),
            "vmem_a": Out(interfaces.MemoryRead(config.vmem_words, vector)),
            "vmem_b": Out(interfaces.MemoryRead(config.vmem_words, vector)),
            "smem_c": Out(interfaces.MemoryRead(config.smem_words, vector)),
            "acc": Out(interfaces.AccumulatorRead(config)),
            "weights": Out(interfaces.WeightRowRead(config)),
            "vmem_write": Out(interfaces.MemoryWrite(config, config.vmem_words)),
            "smem_write": Out(interfaces.MemoryWrite(config, config.smem_words)),
            "weight_write": Out(interfaces.WeightWrite(config)),
            "block_write": Out(interfaces.BlockWrite(config)),
            "scalars": Out(Signature({name: Out(interfaces.RegisterRead) for name in ("multiply", "add", "gain")})),
            "register_write": Out(interfaces.RegisterWrite),
            "clamped": Out(range(config.rows + 1)),
            "faults": Out(interfaces.FAULT_FLAGS).array(N_FAULTS),
            "busy": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        self._faults: list[list[tuple[Fault, Value]]] = [[] for _ in self.faults]
        m.submodules.steps = steps = PassSteps(self.config, _LEADS)
        connect(m, flipped(self.issue), steps.issue)
        connect(m, flipped(self.switch), steps.switch)
        self._active, self._step, self._op = steps.active, steps.step, steps.step.op
        self._taps = self._tap_numbers()

        control = Signal(control_layout(self.config))  # of the next cycle
        self._start_operands(m, control)
        self._start_functions(m, control)
        event, is_pending = self._start_results(m, control)
        lanes = self._lanes(m, control)

        for port, is_written in ((self.vmem_write, event.to_vmem), (self.smem_write, event.to_smem)):
            m.d.comb += [
                port.enable.eq(is_written.replicate(self.config.rows)),
                port.address.eq(event.address),
            ]
            m.d.comb += [port.data[row].eq(lane.result) for row, lane in enumerate(lanes)]
        self._fault(Fault.ADDRESS, event.is_outside)
        is_busy = [steps.running, is_pending, self._quantise(m, event, lanes), self._reduce(m, event, lanes)]
        m.d.comb += self.busy.eq(Cat(is_busy).any())
        self._raise_faults(m, steps.fault)
        return m

    # What happens when: each of these puts a step down in an agenda and acts when it comes due.

    def _tap_numbers(self) -> dict[str, Value]:
        """By unit, and for the result, the number of the tap from which it takes this step's vector."""
        number: Value = Const(TAPS.index("source"), range(len(TAPS)))
        numbers: dict[str, Value] = {}
        for unit in TAPS[1:]:
            numbers[unit] = number
            number = Mux(self._op[unit].any(), TAPS.index(unit), number)
        return numbers | {"result": number}

    def _start_operands(self, m: Module, control: data.View) -> None:
        """Starts of the units with two operands, and the ports that bring the second ones."""
        operands = {unit: self._operand(m, unit) for unit in _OPERAND_CHOICES}
        for unit, operand in operands.items():
            m.d.comb += control[unit].eq(operand.start)
            connect(m, flipped(getattr(self.scalars, unit)), operand.scalar)
            self._fault(Fault.CONFLICT, operand.conflict, _AGENDAS)
            is_outside_q = delayed(m, operand.is_outside, AHEAD, name=f"{unit}_outside", reset_less=False)
            self._fault(Fault.ADDRESS, is_outside_q)
        # The memories lie far away, so that what they are asked goes there from a register.
        for port, name in ((self.vmem_b, "read_b"), (self.smem_c, "read_c")):
            reads = [getattr(operand, name) for operand in operands.values()]
            addresses = [gated(operand.address, read) for operand, read in zip(operands.values(), reads, strict=True)]
            clash = Cat(read & Cat(reads[:i]).any() for i, read in enumerate(reads)).any()
            address = addresses[0] | addresses[1] | addresses[2]
            m.d.comb += [
                port.enable.eq(delayed(m, Cat(reads).any(), AHEAD, name=f"is_{name}", reset_less=False)),
                port.address.eq(delayed(m, address, AHEAD, name=f"{name}_address")),
            ]
            self._fault(Fault.CONFLICT, delayed(m, clash, AHEAD, name=f"{name}_clash", reset_less=False))

    def _operand(self, m: Module, unit: str) -> Operand:
        op, step = self._op, self._step
        operand = Operand(self.config, _delays(unit))
        m.submodules[f"{unit}_operand"] = operand
        event = operand.event
        second = Signal(event.second.shape(), name=f"{unit}_second")
        m.d.comb += [
            operand.put.eq(self._active & op[unit].any()),
            operand.delay.eq(step.delays[unit]),
            event.tap.eq(self._taps[unit]),
            event.second.eq(second),
        ]
        register = step.gain_reg if unit == "gain" else op[f"{unit}_reg"]
        places = {
            Kind.B: (step.b, is_outside(step.b, self.config.vmem_words)),
            Kind.C: (step.c, is_outside(step.c, self.config.smem_words)),
            Kind.SCALAR: (register, 0),
        }
        with m.Switch(op[unit]):
            for choice in _OPERAND_CHOICES[unit]:
                sign, _, name = choice.name.rpartition("_")
                with m.Case(choice):
                    if choice is Gain.SELF:
                        m.d.comb += second.kind.eq(Mux(op.function.any(), 1 << Kind.SELF, 1 << Kind.SQUARE))
                    elif name != "NONE":
                        kind = Kind[name]
                        place, outside = places[kind]
                        m.d.comb += [
                            second.kind.eq(1 << kind),
                            second.place.eq(place),
                            second.is_outside.eq(outside),
                            second.is_negated.eq(sign == "MINUS"),
                        ]
        return operand

    def _agenda(self, m: Module, stage: str, event: data.StructLayout, put: Value) -> Agenda:
        """An agenda that comes due as `_LEADS` says before the pass is at ``stage``."""
        agenda = Agenda(event, _delays(stage))
        m.submodules[f"{stage}_agenda"] = agenda
        m.d.comb += [
            agenda.put.eq(put),
            agenda.delay.eq(self._step.delays[stage]),
            agenda.event.tap.eq(self._taps[stage]),
        ]
        self._fault(Fault.CONFLICT, agenda.conflict, _AGENDAS)
        return agenda

    def _decoded_tap(self, m: Module, agenda: Agenda, name: str) -> Value:
        taps = Cat(agenda.due & (agenda.now.tap == tap) for tap in range(len(TAPS)))
        return delayed(m, taps, _DECODE, name=f"{name}_tap", reset_less=False)

    def _start_functions(self, m: Module, control: data.View) -> None:
        function = self._op.function
        event = data.StructLayout({"tap": range(len(TAPS)), "function": len(function)})
        agenda = self._agenda(m, "function", event, self._active & function.any())
        m.d.comb += [
            agenda.event.function.eq(function),
            control.function.tap.eq(self._decoded_tap(m, agenda, "function")),
            control.function.function.eq(delayed(m, agenda.now.function, _DECODE, name="function")),
        ]

    def _start_results(self, m: Module, control: data.View) -> tuple[data.View, Value]:
        """What becomes of the vector at the end of the chain, all zeros if there is none; whether one is to come."""
        config, op, step = self.config, self._op, self._step
        layout = data.StructLayout({
            "is_due": 1,
            "tap": range(len(TAPS)),
            "relu": 1,
            "is_squared": 1,
            "to_vmem": 1,
            "to_smem": 1,
            "address": max(address_bits(config.vmem_words), address_bits(config.smem_words)),
            "is_outside": 1,
            "quantise": quantise_layout(config),
            "reduce": reduce_layout(config),
        })  # fmt: skip
        agenda = self._agenda(m, "result", layout, self._active)
        result, quantise, reduce = agenda.event, agenda.event.quantise, agenda.event.reduce
        to_vmem, to_smem = op.write == Write.VMEM, op.write == Write.SMEM
        is_vmem_outside = to_vmem & is_outside(step.d, config.vmem_words)
        is_smem_outside = to_smem & is_outside(step.d, config.smem_words)
        is_act = is_to_blocks(op.quantise)
        m.d.comb += [
            result.is_due.eq(1),
            result.relu.eq(op.relu),
            result.is_squared.eq(op.reduce == Reduce.SUM_SQUARES),
            result.to_vmem.eq(to_vmem),
            result.to_smem.eq(to_smem),
            result.address.eq(step.d),
            result.is_outside.eq(is_vmem_outside | is_smem_outside),
            quantise.kind.eq(op.quantise),
            quantise.address.eq(step.q),
            quantise.is_outside.eq(
                Mux(is_act, is_outside(step.q, config.act_blocks), is_outside(step.q, config.wmem_words))
            ),
            quantise.part.eq(step.block_part),
            quantise.closes.eq(step.closes_block),
            quantise.is_first_block.eq(step.is_first_block),
            quantise.tracker.eq(op.tracker),
            quantise.index.eq(step.index),
            reduce.kind.eq(op.reduce),
            reduce.is_first.eq(step.is_first),
            reduce.is_last.eq(step.is_last),
            reduce.register.eq(op.reduce_reg),
            reduce.start.eq(step.start),
        ]
        coming = layout(delayed(m, gated(agenda.now, agenda.due), _DECODE, name="coming_event", reset_less=False))
        m.d.comb += [
            control.result.tap.eq(self._decoded_tap(m, agenda, "result")),
            control.result.relu.eq(coming.relu),
            control.result.is_squared.eq(coming.is_squared),
        ]
        chosen = delayed(m, coming, _SELECT, name="chosen_event", reset_less=False)
        event = delayed(m, chosen, vxm.RESULT, name="result_event", reset_less=False)
        gains_twice = delayed(
            m, coming.is_squared & control.gain.tap.any(), _SELECT, name="gains_twice", reset_less=False
        )
        self._fault(Fault.CONFLICT, gains_twice)
        assert _DECODE == _SELECT == vxm.RESULT == 1
        return event, Cat(agenda.due, agenda.pending, coming.is_due, chosen.is_due, event.is_due).any()

    # The way of the vectors.

    def _lanes(self, m: Module, control: data.View) -> list[Lane]:
        """The lanes, with their sources."""
        config, step = self.config, self._step
        is_from = {source: self._active & (self._op.source == source) for source in Source}
        reads_vmem = is_from[Source.VMEM] | is_from[Source.SXM]
        acc_wait = vxm.SOURCE_READ[Source.ACC] - _FIRST_STEP
        m.d.comb += [
            self.vmem_a.enable.eq(reads_vmem),
            self.vmem_a.address.eq(step.x),
            self.weights.enable.eq(is_from[Source.WMEM]),
            self.weights.address.eq(step.x),
            self.weights.row.eq(step.row),
            self.weights.part.eq(step.row_part),
            self.acc.enable.eq(is_from[Source.ACC]),
            self.acc.address.eq(step.x),  # it is registered once more beside the accumulators
        ]
        acc_outside = is_from[Source.ACC] & is_outside(step.x, config.accumulators)
        self._fault(Fault.ADDRESS, reads_vmem & is_outside(step.x, config.vmem_words))
        self._fault(Fault.ADDRESS, is_from[Source.WMEM] & is_outside(step.x, config.wmem_words))
        self._fault(Fault.ADDRESS, delayed(m, acc_outside, acc_wait, name="acc_outside", reset_less=False))
        moved_valid, is_acc, is_weights = (
            delayed(m, gated(step.mask, is_now), cycle - _FIRST_STEP, name=f"{name}_valid", reset_less=False)
            for name, is_now, cycle in (
                ("moved", reads_vmem, vxm.SOURCE_VALID[Source.VMEM] - 1),
                ("acc", is_from[Source.ACC], vxm.SOURCE_VALID[Source.ACC] - 1),
                ("weights", is_from[Source.WMEM], vxm.SOURCE_VALID[Source.WMEM]),
            )
        )

        # A vector from vector SRAM always passes the switch, which leaves it as it is if it has nothing to do.
        assert vxm.SOURCE_VALID[Source.VMEM] == vxm.SOURCE_VALID[Source.SXM]
        m.submodules.switch_unit = switch = Switch(config)
        move_wait = vxm.SOURCE_VALID[Source.SXM] - 2 - _FIRST_STEP
        m.d.comb += [
            switch.move.eq(delayed(m, step.move, move_wait, name="move")),
            switch.vector.eq(self.vmem_a.data),
        ]
        is_acc_next, is_acc = is_acc[0], delayed(m, is_acc, 1, name="acc_valid_now", reset_less=False)
        integer_valid = is_acc | is_weights
        is_acc, is_weights, is_moved = is_acc[0], is_weights[0], moved_valid[0]
        is_converted = delayed(m, integer_valid[0], vxm.CONVERT - 1, name="is_converted", reset_less=False)
        self._fault(Fault.CONFLICT, is_acc & is_weights)
        assert vxm.SOURCE_VALID[Source.WMEM] == _FIRST_STEP + interfaces.WEIGHT_ROW_LATENCY
        self._fault(Fault.CONFLICT, is_moved & is_converted)
        base = Mux(is_acc, self.acc.data.base, INTEGER_BASE)
        lanes = []
        for row in range(config.rows):
            m.submodules[f"lane{row}"] = lane = Lane(config, self.technology)
            is_sum = replicated(m, f"is_sum{row}", is_acc_next, self.technology)
            m.d.comb += [
                lane.control.eq(control),
                lane.valid.moved.eq(moved_valid[row]),
                lane.valid.integer.eq(integer_valid[row]),
                lane.moved.eq(switch.moved[row]),
                lane.integer.eq(Mux(is_sum, self.acc.data.sums[row], self.weights.data[row])),
                lane.unit.eq(base - ACCUMULATOR_FRACTION_BITS),
                lane.b.eq(self.vmem_b.data[row]),
                lane.c.eq(self.smem_c.data[row]),
            ]
            half = row * _HALVES // config.rows
            self._fault(Fault.FLOAT, lane.overflow, half)
            self._fault(Fault.FUNCTION, lane.outside_domain, half)
            lanes.append(lane)
        return lanes

    def _quantise(self, m: Module, event: data.View, lanes: list[Lane]) -> Value:
        """The quantiser; returns whether it has something to do."""
        m.submodules.quantiser = quantiser = Quantiser(self.config)
        m.d.comb += [quantiser.event.eq(event.quantise), self.clamped.eq(quantiser.clamped)]
        m.d.comb += [quantiser.vector[row].eq(lane.result) for row, lane in enumerate(lanes)]
        connect(m, flipped(self.block_write), quantiser.block_write)
        connect(m, flipped(self.weight_write), quantiser.weight_write)
        self._fault(Fault.ADDRESS, quantiser.is_outside)
        return quantiser.busy

    def _reduce(self, m: Module, event: data.View, lanes: list[Lane]) -> Value:
        """The reducer, which takes results, or squares of results when they are ready; returns whether it is busy."""
        m.submodules.reducer = reducer = Reducer(self.config)
        layout = event.reduce.shape()
        squared, is_square = layout(gated(event.reduce, event.is_squared)), event.is_squared
        is_busy = [reducer.busy]
        for cycle in range(vxm.MULTIPLY):
            squared = delayed(m, squared, 1, name=f"squared{cycle}", reset_less=False)
            is_square = delayed(m, is_square, 1, name=f"is_square{cycle}", reset_less=False)
            is_busy.append(is_square)
        self._fault(Fault.CONFLICT, is_square & ~event.is_squared & (event.reduce.kind != Reduce.NONE))
        valid = delayed(m, Cat(lane.result_valid for lane in lanes), vxm.MULTIPLY, name="square_valid")
        m.d.comb += [
            reducer.event.eq(Mux(is_square, squared, gated(event.reduce, ~event.is_squared))),
            reducer.valid.eq(Mux(is_square, valid, Cat(lane.result_valid for lane in lanes))),
        ]
        for row, lane in enumerate(lanes):
            square, result = gated(lane.square, is_square & lane.square_valid), gated(lane.result, ~is_square)
            m.d.comb += reducer.vector[row].eq(square | result)
        connect(m, flipped(self.register_write), reducer.write)
        overflow = delayed(m, reducer.overflow, 1, name="reducer_overflow", reset_less=False)  # in the write's cycle
        self._fault(Fault.FLOAT, overflow)
        self._fault(Fault.CONFLICT, reducer.conflict)
        return Cat(is_busy).any()

    # Faults.

    def _fault(self, fault: Fault, condition: Value, port: int = _OTHERS) -> None:
        self._faults[port].append((fault, condition))

    def _raise_faults(self, m: Module, of_steps: Value) -> None:
        for code in set(Fault) - {Fault.NONE}:
            self._fault(code, of_steps == code)
            for flags, faults in zip(self.faults, self._faults, strict=True):
                m.d.comb += flags[code].eq(Cat(condition for fault, condition in faults if fault is code).any())


def _delays(stage: str) -> set[int]:
    """The cycles that can pass from a step until the stage's agenda comes due."""
    return {cycle - _LEADS[stage] for cycle in stage_cycles(stage)}
