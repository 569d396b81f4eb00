"""Vector unit: lanes of floating-point units in a chain, any of which a pass may leave out.

`lpu_rtl.vxm_steps` walks through the steps of a pass. For each step every unit is told in which cycle it takes the
vector, and from where (`lpu_rtl.agenda`); those cycles are `lpu_isa.vxm.stages`. So passes overlap freely in the chain.
A lane's valid bit goes through the units beside its values: a lane past the count raises no fault.
"""

import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, Signature, connect, flipped

from lpu_isa import sxm, vxm
from lpu_isa.config import TileConfig, address_bits
from lpu_isa.faults import Fault
from lpu_isa.formats import ACCUMULATOR_BITS, ACCUMULATOR_FRACTION_BITS, INTEGER_BASE
from lpu_isa.vxm import Add, Gain, Multiply, Quantise, Reduce, Source, Write

from . import interfaces
from .agenda import Agenda
from .float.add import Add as AddUnit
from .float.convert import Convert as ConvertUnit
from .float.encoding import delayed, float_layout, flushed
from .float.lookup import Lookup
from .float.multiply import Multiply as MultiplyUnit
from .float.quantise import Quantiser, quantise_layout
from .float.reduce import Reducer, reduce_layout
from .float.tree import balanced
from .interfaces import FAULT_BITS
from .primitives import Technology
from .sxm import Switch
from .vxm_operand import TAPS, Kind, Operand
from .vxm_steps import PassSteps, is_outside, stage_cycles

__all__ = ["Vxm"]

_FIRST_STEP = 1
"""Cycle after issue of the first step; delays in an agenda count from the step."""

_SELECT = 1
"""Cycles from an agenda without operands to the unit, in which the selection is decoded."""


class _Vectors(NamedTuple):
    """Vectors on their way, one a cycle: a valid bit a lane, and the lanes' values."""

    valid: Value
    lanes: Sequence


def _any(conditions: Sequence) -> Value:
    return balanced(operator.or_, conditions)


def _gated(value, enable: Value) -> Value:
    """A value's bits, or zeros."""
    value = Value.cast(value)
    return value & enable.replicate(len(value))


def _chosen(enables: Sequence[Value], values: Sequence) -> Value:
    """The value whose enable is set; at most one is."""
    return _any([_gated(value, enable) for enable, value in zip(enables, values, strict=True)])


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
    weights : Out(WeightRead)                   Source.
    vmem_write, smem_write : Out(MemoryWrite)   Result; in its cycle, all lanes.
    weight_write : Out(WeightWrite)             Quantised rows and columns.
    block_write : Out(BlockWrite)               Quantised blocks.
    scalars : Out                               Register reads of ``multiply``, ``add`` and ``gain``.
    register_write : Out(RegisterWrite)         Reductions.
    clamped : Out(range(rows + 1))              Lanes that were clamped in this cycle's ``weight_write``.
    fault : Out(FAULT_BITS)                     Lowest code of this cycle's faults.
    busy : Out(1)                               From the cycle after issue to that of the last write.

    Timing: `lpu_isa.vxm.use`, cycle by cycle. COUNT, ISSUE and the CONFLICT of source and switch are raised a cycle after
    issue, every other fault in the cycle in which the faulty access or result is there.
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
            "weights": Out(interfaces.WeightRead(config)),
            "vmem_write": Out(interfaces.MemoryWrite(config, config.vmem_words)),
            "smem_write": Out(interfaces.MemoryWrite(config, config.smem_words)),
            "weight_write": Out(interfaces.WeightWrite(config)),
            "block_write": Out(interfaces.BlockWrite(config)),
            "scalars": Out(Signature({name: Out(interfaces.RegisterRead) for name in ("multiply", "add", "gain")})),
            "register_write": Out(interfaces.RegisterWrite),
            "clamped": Out(range(config.rows + 1)),
            "fault": Out(FAULT_BITS),
            "busy": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        config, p = self.config, self.config.significand_bits
        self._faults: list[tuple[Fault, Value]] = []
        m.submodules.steps = steps = PassSteps(config)
        connect(m, flipped(self.issue), steps.issue)
        connect(m, flipped(self.switch), steps.switch)
        self._active, self._step, self._op = steps.active, steps.step, steps.step.op
        self._tap_numbers = self._number_taps(m)

        operands = {name: self._operand(m, name) for name in ("multiply", "add", "gain")}
        multiply, add, gain = operands.values()
        self._connect_operand_ports(m, operands)

        # The gain unit stands before the result, and after it when it squares results.
        gains = _Vectors(
            Signal(config.rows, name="gain_valid"),
            [Signal(float_layout(p), name=f"gain{row}") for row in range(config.rows)],
        )
        taps = self._sources(m)
        taps["multiply"] = self._unit(
            m, "multiply", lambda: MultiplyUnit(p, self.technology), vxm.MULTIPLY, self._taken(m, "multiply", multiply, taps),
            self._second_operand(m, multiply),
        )  # fmt: skip
        taps["add"] = self._unit(
            m, "add", lambda: AddUnit(p), vxm.ADD, self._taken(m, "add", add, taps), self._second_operand(m, add)
        )
        arguments, taps["function"] = self._functions(m, taps)
        before_gain = self._taken(m, "gain", gain, taps)
        taps["gain"] = gains
        event, result = self._result(m, taps)

        is_squared = event.reduce.kind == Reduce.SUM_SQUARES
        self._fault(Fault.CONFLICT, is_squared & gain.tap.any())
        first = _Vectors(
            Mux(is_squared, result.valid, before_gain.valid),
            [float_layout(p)(Mux(is_squared, squared, lane)) for squared, lane in zip(result.lanes, before_gain.lanes, strict=True)],
        )
        inputs = [delayed(m, lane, vxm.FUNCTION, name=f"argument{row}") for row, lane in enumerate(arguments)]
        second = self._second_operand(m, gain, inputs, first.lanes, is_squared)
        made = self._unit(m, "gain", lambda: MultiplyUnit(p, self.technology), vxm.MULTIPLY, first, second)
        m.d.comb += gains.valid.eq(made.valid)
        m.d.comb += [signal.eq(lane) for signal, lane in zip(gains.lanes, made.lanes, strict=True)]

        self._write_result(m, event, result)
        quantiser = self._quantise(m, event, result)
        reducer, is_squaring = self._reduce(m, event, result, gains)
        m.d.comb += self.busy.eq(
            steps.running | self._results.due | self._results.pending | event.is_due | quantiser.busy | is_squaring
            | reducer.busy
        )  # fmt: skip
        self._raise_faults(m, steps.fault)
        return m

    # Which unit takes what when.

    def _number_taps(self, m: Module) -> dict[str, Value]:
        """For each unit, and the result, the number of the tap from which this step's vector comes there."""
        number = Signal(range(len(TAPS)), name="entry_tap")
        with m.Switch(self._op.source):
            with m.Case(Source.VMEM):
                m.d.comb += number.eq(TAPS.index("vmem"))
            with m.Case(Source.SXM):
                m.d.comb += number.eq(TAPS.index("switch"))
            with m.Default():
                m.d.comb += number.eq(TAPS.index("convert"))
        numbers = {}
        for unit in ("multiply", "add", "function", "gain"):
            numbers[unit] = number
            number = Mux(self._op[unit].any(), TAPS.index(unit), number)
        return numbers | {"result": number}

    def _operand(self, m: Module, unit: str) -> Operand:
        """The second operand of a unit, put down for this step."""
        op, step = self._op, self._step
        lead = vxm.OPERAND_READ + _FIRST_STEP
        operand = Operand(self.config, {cycle - lead for cycle in stage_cycles(unit)})
        m.submodules[f"{unit}_operand"] = operand
        event = operand.event
        m.d.comb += [
            operand.put.eq(self._active & op[unit].any()),
            operand.delay.eq(step.cycles[unit] - lead),
            event.tap.eq(self._tap_numbers[unit]),
        ]
        b, c = (step.b, self.config.vmem_words), (step.c, self.config.smem_words)
        scalar = (step.gain_reg if unit == "gain" else op[f"{unit}_reg"]), None
        choices = {"multiply": Multiply, "add": Add, "gain": Gain}[unit]
        with m.Switch(op[unit]):
            for choice in choices:
                if choice.name in ("NONE", "SELF"):
                    continue
                sign, _, kind = choice.name.rpartition("_")
                place, depth = {"B": b, "C": c, "SCALAR": scalar}[kind]
                with m.Case(choice):
                    m.d.comb += [event.kind.eq(Kind[kind]), event.place.eq(place), event.is_negated.eq(sign == "MINUS")]
                    if depth is not None:
                        m.d.comb += event.is_outside.eq(is_outside(place, depth))
            if choices is Gain:
                with m.Case(Gain.SELF):
                    m.d.comb += event.kind.eq(Mux(op.function.any(), Kind.SELF, Kind.SQUARE))
        self._fault(Fault.CONFLICT, operand.conflict)
        self._fault(Fault.ADDRESS, operand.is_outside)
        return operand

    def _connect_operand_ports(self, m: Module, operands: dict[str, Operand]) -> None:
        for port, kind in ((self.vmem_b, "read_b"), (self.smem_c, "read_c")):
            reads = [getattr(operand, kind) for operand in operands.values()]
            m.d.comb += [
                port.enable.eq(_any(reads)),
                port.address.eq(_chosen(reads, [operand.address for operand in operands.values()])),
            ]
            for i, read in enumerate(reads):
                self._fault(Fault.CONFLICT, read & Cat(reads[:i]).any())
        for name, operand in operands.items():
            connect(m, flipped(getattr(self.scalars, name)), operand.scalar)

    def _agenda(self, m: Module, name: str, event: data.StructLayout, stage: str) -> Agenda:
        """An agenda that comes due before the unit ``stage`` starts, in time to select."""
        lead = _SELECT + _FIRST_STEP
        agenda = Agenda(event, {cycle - lead for cycle in stage_cycles(stage)})
        m.submodules[f"{name}_agenda"] = agenda
        m.d.comb += agenda.delay.eq(self._step.cycles[stage] - lead)
        self._fault(Fault.CONFLICT, agenda.conflict)
        return agenda

    # Sources.

    def _sources(self, m: Module) -> dict[str, _Vectors]:
        """Addresses the source and returns the taps before the first unit."""
        config, op, step = self.config, self._op, self._step
        is_from = {source: self._active & (op.source == source) for source in Source}
        reads_vmem = is_from[Source.VMEM] | is_from[Source.SXM]
        m.d.comb += [
            self.vmem_a.enable.eq(reads_vmem),
            self.vmem_a.address.eq(step.x),
            self.weights.enable.eq(is_from[Source.WMEM]),
            self.weights.address.eq(step.x),
            self.acc.address.eq(delayed(m, step.x, vxm.SOURCE_READ[Source.ACC] - _FIRST_STEP, name="acc_address")),
        ]
        acc_outside = is_from[Source.ACC] & is_outside(step.x, config.accumulators)
        self._fault(Fault.ADDRESS, reads_vmem & is_outside(step.x, config.vmem_words))
        self._fault(Fault.ADDRESS, is_from[Source.WMEM] & is_outside(step.x, config.wmem_words))
        self._fault(Fault.ADDRESS, delayed(m, acc_outside, 1, name="acc_outside", reset_less=False))

        valid = {
            source: delayed(
                m, step.mask & is_from[source].replicate(config.rows), vxm.SOURCE_VALID[source] - _FIRST_STEP,
                name=f"{source.name.lower()}_valid", reset_less=False,
            )
            for source in Source
        }  # fmt: skip
        m.submodules.switch_unit = switch = Switch(config)
        m.d.comb += [
            switch.move.eq(delayed(m, step.move, vxm.SOURCE_VALID[Source.SXM] - 2 - _FIRST_STEP, name="move")),
            switch.vector.eq(self.vmem_a.data),
        ]
        layout = float_layout(config.significand_bits)
        return {
            "vmem": _Vectors(valid[Source.VMEM], [layout(self.vmem_a.data[row]) for row in range(config.rows)]),
            "switch": _Vectors(valid[Source.SXM], [layout(switch.moved[row]) for row in range(config.rows)]),
            "convert": self._convert(m, valid[Source.ACC], valid[Source.WMEM]),
        }

    def _convert(self, m: Module, acc_valid: Value, weights_valid: Value) -> _Vectors:
        config, step = self.config, self._step
        # A part of a row of the weight word, in the cycle after the word's.
        wait = vxm.SOURCE_VALID[Source.WMEM] - 1 - _FIRST_STEP
        row = self.weights.data[delayed(m, step.row, wait, name="weights_row")]
        part = delayed(m, step.row_part, wait, name="weights_part")
        lane_bits = address_bits(config.rows)
        is_acc = acc_valid[0]
        self._fault(Fault.CONFLICT, is_acc & weights_valid[0])
        unit = Mux(is_acc, self.acc.data.base, INTEGER_BASE) - ACCUMULATOR_FRACTION_BITS
        lanes = []
        for lane in range(config.rows):
            column = Cat(Const(lane, lane_bits), part) if config.words_per_block > 1 else lane
            weight = delayed(m, row[column], 1, name=f"weight{lane}")
            convert = ConvertUnit(ACCUMULATOR_BITS, config.significand_bits)
            m.submodules[f"convert{lane}"] = convert
            m.d.comb += [convert.value.eq(Mux(is_acc, self.acc.data.sums[lane], weight)), convert.unit.eq(unit)]
            lanes.append(convert)
        return self._outcome(m, "convert", vxm.CONVERT, acc_valid | weights_valid, lanes)

    # Units.

    def _outcome(self, m: Module, name: str, latency: int, valid: Value, lanes: Sequence) -> _Vectors:
        """The results of a row of lanes, and their faults."""
        valid = delayed(m, valid, latency, name=f"{name}_valid", reset_less=False)
        self._fault(Fault.FLOAT, (valid & Cat(lane.overflow for lane in lanes)).any())
        return _Vectors(valid, [lane.result for lane in lanes])

    def _taken(self, m: Module, name: str, operand: Operand, taps: dict[str, _Vectors]) -> _Vectors:
        """The vectors that a unit takes as its first operand."""
        return self._select(m, name, operand.tap, taps)

    def _select(self, m: Module, name: str, enables: Value, taps: dict[str, _Vectors]) -> _Vectors:
        vectors, enables = list(taps.values()), list(enables)[: len(taps)]
        valid = Signal(self.config.rows, name=f"{name}_taken")
        m.d.comb += valid.eq(_chosen(enables, [vector.valid for vector in vectors]))
        lanes = []
        for row in range(self.config.rows):
            lane = Signal(float_layout(self.config.significand_bits), name=f"{name}_taken{row}")
            m.d.comb += lane.eq(_chosen(enables, [vector.lanes[row] for vector in vectors]))
            lanes.append(lane)
        return _Vectors(valid, lanes)

    def _second_operand(
        self, m: Module, operand: Operand, arguments: Sequence = (), own: Sequence = (), is_squared: Value | None = None
    ) -> Sequence:
        """Second operands of a row of lanes. The gain unit has two kinds more: what went into the function, and the
        first operand itself, also when results are squared."""
        lanes = []
        for row in range(self.config.rows):
            kinds = [Kind.B, Kind.C, Kind.SCALAR]
            values = [self.vmem_b.data[row], self.smem_c.data[row], operand.scalar_value]
            enables = [operand.kind[kind] for kind in kinds]
            if arguments:
                values += [arguments[row], own[row]]
                enables += [operand.kind[Kind.SELF], operand.kind[Kind.SQUARE] | is_squared]
            value = _chosen(enables, values)
            sign = Cat(Const(0, len(value) - 1), operand.is_negated)
            lanes.append(value ^ sign)
        return lanes

    def _unit(
        self, m: Module, name: str, make: Callable, latency: int, first: _Vectors, second: Sequence
    ) -> _Vectors:
        """A row of units of two operands."""
        lanes = []
        for row, (a, b) in enumerate(zip(first.lanes, second, strict=True)):
            unit = make()
            m.submodules[f"{name}{row}"] = unit
            m.d.comb += [unit.a.eq(a), unit.b.eq(b)]
            lanes.append(unit)
        return self._outcome(m, name, latency, first.valid, lanes)

    def _functions(self, m: Module, taps: dict[str, _Vectors]) -> tuple[Sequence, _Vectors]:
        """Arguments and results of the functions."""
        op = self._op
        agenda = self._agenda(
            m, "function", data.StructLayout({"function": len(op.function), "tap": range(len(TAPS))}), "function"
        )
        m.d.comb += [
            agenda.put.eq(self._active & op.function.any()),
            agenda.event.function.eq(op.function),
            agenda.event.tap.eq(self._tap_numbers["function"]),
        ]
        enables = Cat(agenda.due & (agenda.now.tap == tap) for tap in range(len(TAPS)))
        enables = delayed(m, enables, _SELECT, name="function_tap", reset_less=False)
        function = delayed(m, agenda.now.function, _SELECT, name="function")
        first = self._select(m, "function", enables, taps)
        lanes = []
        for row, argument in enumerate(first.lanes):
            lookup = Lookup(self.config.significand_bits, self.technology)
            m.submodules[f"function{row}"] = lookup
            m.d.comb += [lookup.function.eq(function), lookup.argument.eq(argument)]
            lanes.append(lookup)
        results = self._outcome(m, "function", vxm.FUNCTION, first.valid, lanes)
        outside = Cat(lane.is_outside_domain for lane in lanes)
        self._fault(Fault.FUNCTION, (results.valid & outside).any())
        return first.lanes, results

    # Result.

    def _result(self, m: Module, taps: dict[str, _Vectors]) -> tuple[data.View, _Vectors]:
        """The vectors at the end of the chain, and what becomes of them."""
        config, op, step = self.config, self._op, self._step
        layout = data.StructLayout({
            "is_due": 1,
            "tap": range(len(TAPS)),
            "relu": 1,
            "write": len(op.write),
            "address": max(address_bits(config.vmem_words), address_bits(config.smem_words)),
            "is_outside": 1,
            "quantise": quantise_layout(config),
            "reduce": reduce_layout(config),
        })  # fmt: skip
        self._results = agenda = self._agenda(m, "result", layout, "result")
        put = agenda.event
        is_act = op.quantise == Quantise.ACT
        m.d.comb += [
            agenda.put.eq(self._active),
            put.is_due.eq(1),
            put.tap.eq(self._tap_numbers["result"]),
            put.relu.eq(op.relu),
            put.write.eq(op.write),
            put.address.eq(step.d),
            put.is_outside.eq(
                ((op.write == Write.VMEM) & is_outside(step.d, config.vmem_words))
                | ((op.write == Write.SMEM) & is_outside(step.d, config.smem_words))
            ),
            put.quantise.kind.eq(op.quantise),
            put.quantise.address.eq(step.q),
            put.quantise.is_outside.eq(
                Mux(is_act, is_outside(step.q, config.act_blocks), is_outside(step.q, config.wmem_words))
            ),
            put.quantise.part.eq(step.block_part),
            put.quantise.closes.eq(step.closes_block),
            put.quantise.is_first_block.eq(step.is_first_block),
            put.quantise.tracker.eq(op.tracker),
            put.quantise.index.eq(step.index),
            put.reduce.kind.eq(op.reduce),
            put.reduce.is_first.eq(step.is_first),
            put.reduce.is_last.eq(step.is_last),
            put.reduce.register.eq(op.reduce_reg),
            put.reduce.start.eq(step.start),
        ]
        # An event that is not due does nothing: all its bits are zero.
        due = _gated(agenda.now, agenda.due)
        event = delayed(m, layout(due), _SELECT, name="result_event", reset_less=False)
        enables = Cat(agenda.due & (agenda.now.tap == tap) for tap in range(len(TAPS)))
        enables = delayed(m, enables, _SELECT, name="result_tap", reset_less=False)
        end = self._select(m, "result", enables, taps)
        lanes = []
        for row, lane in enumerate(end.lanes):
            result = Signal(float_layout(config.significand_bits), name=f"result{row}")
            is_zeroed = ~end.valid[row] | (event.relu & (lane.sign | (lane.exponent == 0)))
            m.d.comb += result.eq(_gated(flushed(lane), ~is_zeroed))
            lanes.append(result)
        return event, _Vectors(end.valid, lanes)

    def _write_result(self, m: Module, event: data.View, result: _Vectors) -> None:
        for port, write in ((self.vmem_write, Write.VMEM), (self.smem_write, Write.SMEM)):
            m.d.comb += [
                port.enable.eq((event.write == write).replicate(self.config.rows)),
                port.address.eq(event.address),
            ]
            m.d.comb += [port.data[row].eq(lane) for row, lane in enumerate(result.lanes)]
        self._fault(Fault.ADDRESS, event.is_outside)

    def _quantise(self, m: Module, event: data.View, result: _Vectors) -> Quantiser:
        m.submodules.quantiser = quantiser = Quantiser(self.config)
        m.d.comb += [quantiser.event.eq(event.quantise), self.clamped.eq(quantiser.clamped)]
        m.d.comb += [quantiser.vector[row].eq(lane) for row, lane in enumerate(result.lanes)]
        connect(m, flipped(self.block_write), quantiser.block_write)
        connect(m, flipped(self.weight_write), quantiser.weight_write)
        self._fault(Fault.ADDRESS, quantiser.is_outside)
        return quantiser

    def _reduce(
        self, m: Module, event: data.View, result: _Vectors, squares: _Vectors
    ) -> tuple[Reducer, Value]:
        """The reducer, and whether a vector is being squared on its way there."""
        m.submodules.reducer = reducer = Reducer(self.config)
        is_squared = event.reduce.kind == Reduce.SUM_SQUARES
        layout = event.reduce.shape()
        now = layout(_gated(event.reduce, ~is_squared))
        waiting = layout(_gated(event.reduce, is_squared))
        kinds = []
        for cycle in range(vxm.MULTIPLY):
            kinds.append(waiting.kind.any())
            waiting = delayed(m, waiting, 1, name=f"squared_event{cycle}", reset_less=False)
        is_square = waiting.kind.any()
        self._fault(Fault.CONFLICT, is_square & now.kind.any())
        vectors = _Vectors(
            Mux(is_square, squares.valid, result.valid),
            [Mux(is_square, square, lane) for square, lane in zip(squares.lanes, result.lanes, strict=True)],
        )
        m.d.comb += [
            reducer.event.eq(Mux(is_square, waiting, now)),
            reducer.valid.eq(vectors.valid),
        ]
        m.d.comb += [reducer.vector[row].eq(lane) for row, lane in enumerate(vectors.lanes)]
        connect(m, flipped(self.register_write), reducer.write)
        self._fault(Fault.FLOAT, reducer.overflow)
        self._fault(Fault.CONFLICT, reducer.conflict)
        return reducer, _any([*kinds, is_square])

    # Faults.

    def _fault(self, fault: Fault, condition: Value) -> None:
        self._faults.append((fault, condition))

    def _raise_faults(self, m: Module, issue_fault: Value) -> None:
        """The lowest code of all faults of this cycle."""
        lowest = Const(Fault.NONE, FAULT_BITS)
        codes = sorted({fault for fault, _ in self._faults} | {Fault.ISSUE, Fault.CONFLICT, Fault.COUNT}, reverse=True)
        for code in codes:
            conditions = [condition for fault, condition in self._faults if fault is code]
            lowest = Mux(_any([*conditions, issue_fault == code]), code, lowest)
        m.d.comb += self.fault.eq(lowest)
