"""Vector unit: one pass of vectors through the chain, to memory, reduction and quantiser.

A pass is computed unit by unit, all its vectors at once. First the units' results are left unsettled (see
`lpu_sw.sim.arithmetic`), and settling is checked once for the whole chain; only if it would change something the chain
is computed again with every result settled and its faults looked at.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from lpu_isa import vxm
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.mxm import COUNT_BITS
from lpu_isa.tables import Function
from lpu_isa.vxm import Add, Gain, Multiply, Quantise, Reduce, Source, Write

from .arithmetic import (
    ACCUMULATOR_UNIT,
    SETTLED_BASES,
    Arithmetic,
    argmax,
    quantise_block,
    quantise_static,
    reduce_max,
    spread,
)
from .state import TileState, Trap
from .sxm import Switch
from .walk import Walk

__all__ = ["Pass"]

_COUNT_MAX = (1 << COUNT_BITS) - 1
_CLAMPED_MAX = (1 << 32) - 1
_ZERO = np.array(0.0)


class _Unit(NamedTuple):
    """A unit of the chain.

    apply : what it makes of its input. ready : cycle, after issue, in which its first result is there.
    is_settled : whether nobody need look whether its results are in range.
    """

    apply: Callable[[np.ndarray], np.ndarray]
    ready: int
    function: Function = Function.NONE
    is_settled: bool = False


class Pass:
    """A vector operation, bound to a tile's state. ``op`` holds every field.

    ``switch``: the switch operation of the same bundle. A source SXM without it, or it without that source, is the
    fault ``CONFLICT``; so is SUM_SQUARES beside a gain, since both need the second multiplier.
    """

    def __init__(
        self, state: TileState, arithmetic: Arithmetic, op: Mapping[str, int], switch: Switch | None = None
    ) -> None:
        self.state = state
        self.arithmetic = arithmetic
        self.op = op
        self.count = 0
        """Vectors of the last issue."""
        self._lanes = state.config.rows
        self._interval = op["interval"]
        self._switch = switch
        self._stages = vxm.stages(op)
        self._source = Source(op["source"])
        self._write = Write(op["write"])
        self._reduce = Reduce(op["reduce"])
        self._quantise = Quantise(op["quantise"])
        self._static_fault = self._find_static_fault()

        read = vxm.SOURCE_READ[self._source]
        memory = {Source.ACC: state.acc, Source.WMEM: state.wmem}.get(self._source, state.vmem)
        self._x = self._walk("x", memory, read)
        self._bases = self._walk("x", state.acc_bases, read)
        self._d = self._walk("d", state.smem if self._write is Write.SMEM else state.vmem, self._stages.result)
        landed = self._stages.result + vxm.quantise_latency(state.config)
        self._q = self._walk("q", state.act if self._quantise is Quantise.ACT else state.wmem, landed)
        self._q_codes = self._walk("q", state.act_codes, landed)
        self._units = self._chain()
        self._has_domain = Function(op["function"]) in (Function.RECIPROCAL, Function.RSQRT)
        self._is_careful = False
        """Whether results must be settled without a look at them."""

        self._function_input = self._result = self._written = self._quantised = state.vmem[:0]
        self._reduced: list[int] = []
        self._codes = self._written_codes = state.act_codes[:0]
        self._written_blocks = state.act[:0]
        self._index = self._clamped = 0

    def compute(self) -> None:
        """Read the operands and make the results. Raises `Trap`."""
        state = self.state
        count, lanes = vxm.count_and_lanes(self.op, state.registers)
        if self._static_fault:
            raise Trap(self._static_fault, state.cycles)
        if not (1 <= count <= _COUNT_MAX and 1 <= lanes <= state.config.rows):
            raise Trap(Fault.COUNT, state.cycles)
        self.count, self._lanes = count, lanes
        self._is_careful = self._has_domain
        source = self._read_source()
        outputs = []
        values = source
        for unit in self._units:
            values = unit.apply(values)
            if not unit.is_settled:
                outputs.append(values)
        result = self._finish(values)
        reduced = self._squares(result)
        if reduced is not result:
            outputs.append(reduced)
        if self._is_careful or not self._is_settled(outputs):
            result, reduced = self._compute_settled(source)
        self._result = result
        if self._write is not Write.NONE:
            self._written = self._d.words(count, self._interval)
        if self._reduce is not Reduce.NONE:
            self._reduced = self._reduction(reduced)
        if self._quantise is not Quantise.NONE:
            self._make_quantised(result)

    def commit(self) -> None:
        """Write memory, scalar registers and the quantised values."""
        if self._write is not Write.NONE:
            self._written[...] = self._result[-len(self._written) :]
        if self._reduce is not Reduce.NONE:
            for offset, word in enumerate(self._reduced):
                register = (self.op["reduce_reg"] + offset) % REGISTERS
                if register:
                    self.state.registers[register] = word
        if self._quantise is Quantise.ACT:
            self._commit_blocks()
        elif self._quantise is not Quantise.NONE:
            self._commit_weights()

    # Set-up.

    def _walk(self, name: str, memory: np.ndarray, cycle: int) -> Walk:
        op = self.op
        return Walk(self.state, memory, op[name], op[f"{name}_reg"], op[f"{name}_step"], cycle)

    def _find_static_fault(self) -> Fault:
        op = self.op
        if (self._source is Source.SXM) != (self._switch is not None):
            return Fault.CONFLICT
        if self._reduce is Reduce.SUM_SQUARES and op["gain"] != Gain.NONE:
            return Fault.CONFLICT
        if op["interval"] < 1 or not 1 <= op["block"] <= self.state.config.words_per_block:
            return Fault.COUNT
        if self._quantise is not Quantise.NONE and op["interval"] != 1:
            return Fault.COUNT
        return Fault.NONE

    def _chain(self) -> list[_Unit]:
        op, stages, nearest = self.op, self._stages, self.arithmetic.nearest
        units: list[_Unit] = []
        if self._source is Source.ACC:
            units.append(_Unit(self._convert, stages.convert + vxm.CONVERT, is_settled=True))
        if op["multiply"] != Multiply.NONE:
            factor = self._operand("multiply", Multiply(op["multiply"]).name, stages.multiply)
            units.append(_Unit(lambda x: nearest(x * factor()), stages.multiply + vxm.MULTIPLY))
        if op["add"] != Add.NONE:
            sign, _, kind = Add(op["add"]).name.rpartition("_")
            term = self._operand("add", kind, stages.add)
            if sign == "MINUS":
                units.append(_Unit(lambda x: nearest(x - term()), stages.add + vxm.ADD))
            else:
                units.append(_Unit(lambda x: nearest(x + term()), stages.add + vxm.ADD))
        function = Function(op["function"])
        if function is not Function.NONE:

            def look_up(x: np.ndarray) -> np.ndarray:
                self._function_input = x
                return self.arithmetic.functions.vector(function, x)

            units.append(_Unit(look_up, stages.function + vxm.FUNCTION, function, function is Function.SIGMOID))
        if op["gain"] == Gain.SELF and function is Function.NONE:
            units.append(_Unit(lambda x: nearest(x * x), stages.gain + vxm.MULTIPLY))
        elif op["gain"] == Gain.SELF:
            units.append(_Unit(lambda x: nearest(x * self._function_input), stages.gain + vxm.MULTIPLY))
        elif op["gain"] != Gain.NONE:
            gain = self._operand("gain", Gain(op["gain"]).name, stages.gain)
            units.append(_Unit(lambda x: nearest(x * gain()), stages.gain + vxm.MULTIPLY))
        return units

    def _operand(self, unit: str, kind: str, stage: int) -> Callable[[], np.ndarray]:
        """Reads the second operand of a unit: (count, rows), or broadcast to it."""
        state, op = self.state, self.op
        if kind == "SCALAR":
            decode, register = self.arithmetic.decode, op[f"{unit}_reg"]
            if unit == "gain" and op["gain_step"]:
                rows = state.config.rows
                return lambda: spread(
                    np.array([decode(state.registers[(register + step) % REGISTERS]) for step in range(self.count)]),
                    rows,
                )
            return lambda: np.array(decode(state.registers[register]))
        memory, name = (state.vmem, "b") if kind == "B" else (state.smem, "c")
        walk = self._walk(name, memory, stage - vxm.OPERAND_READ)
        return lambda: self._vectors(walk)

    # The pass itself.

    def _read_source(self) -> np.ndarray:
        """The source vectors (count, rows): integers if a conversion follows. Never written to."""
        if self._source is Source.WMEM:
            return self._read_weight_row()
        vectors = self._vectors(self._x)
        return vectors if self._switch is None else vectors[:, self._switch.sources()]

    def _vectors(self, walk: Walk) -> np.ndarray:
        words = walk.words(self.count, self._interval)
        return words if len(words) == self.count else words.repeat(self.count, axis=0)

    def _read_weight_row(self) -> np.ndarray:
        """Integers of one row of some weight words; as floats they are exact, so that converting them does no more than
        turn a -0 into +0."""
        state, count = self.state, self.count
        parts = state.config.words_per_block
        words = -(-count // parts)
        # The address moves on once every `parts` steps.
        row = state.registers[self.op["row_reg"]] % state.config.rows
        values = self._x.words(words, self._interval * parts)[:, row]
        if len(values) < words:
            values = values.repeat(words, axis=0)
        return values.reshape(words * parts, state.config.rows)[:count] + _ZERO

    def _convert(self, sums: np.ndarray) -> np.ndarray:
        bases = self._bases.words(self.count)
        codes = bases.tolist()
        if min(codes) not in SETTLED_BASES or max(codes) not in SETTLED_BASES:
            self._is_careful = True
        return self.arithmetic.nearest(sums * spread(ACCUMULATOR_UNIT[bases], sums.shape[1]))

    def _finish(self, values: np.ndarray) -> np.ndarray:
        """ReLU, and +0 in the lanes past the count."""
        if self.op["relu"]:
            values = np.maximum(values, _ZERO) + _ZERO
        elif not self._units:
            values = values.copy()
        if self._lanes < len(values[-1]):
            values[-1, self._lanes :] = 0.0
        return values

    def _squares(self, result: np.ndarray) -> np.ndarray:
        """What enters the reduction: the squares of the result, or itself."""
        return self.arithmetic.nearest(result * result) if self._reduce is Reduce.SUM_SQUARES else result

    def _is_settled(self, outputs: list[np.ndarray]) -> bool:
        if len(outputs) > 1:
            return self.arithmetic.is_settled(np.concatenate(outputs))
        return not outputs or self.arithmetic.is_settled(outputs[0])

    def _compute_settled(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The chain with every result brought into range. Raises the `Trap` that comes first."""
        traps: list[Trap] = []
        for unit in self._units:
            outside = self.arithmetic.functions.outside_domain(unit.function, values)
            values, faults = self.arithmetic.settle(unit.apply(values))
            if outside is not None:
                faults = np.where(outside, np.uint8(Fault.FUNCTION), faults)
            self._note_fault(traps, faults, unit.ready)
        result = self._finish(values)
        reduced = self._squares(result)
        if reduced is not result:
            reduced, faults = self.arithmetic.settle(reduced)
            self._note_fault(traps, faults, self._stages.reduce)
        if traps:
            raise min(traps, key=lambda trap: (trap.cycle, trap.fault))
        return result, reduced

    def _note_fault(self, traps: list[Trap], faults: np.ndarray, ready: int) -> None:
        """Add a trap for the first vector with a fault in a valid lane."""
        faults[-1, self._lanes :] = Fault.NONE
        steps, lanes = np.nonzero(faults)
        if len(steps):
            step = int(steps[0])
            fault = Fault(int(faults[step, lanes[steps == step]].min()))
            traps.append(Trap(fault, self.state.cycles + ready + step * self._interval))

    def _reduction(self, values: np.ndarray) -> list[int]:
        """Words for the scalar registers from `reduce_reg` on."""
        arithmetic, state = self.arithmetic, self.state
        if self._reduce in (Reduce.SUM, Reduce.SUM_SQUARES):
            start = arithmetic.decode(state.registers[self.op["start_reg"]])
            total, overflows = arithmetic.reduce_sum(start, values)
            if overflows:
                cycle = self._stages.reduce + (self.count - 1) * self._interval + vxm.REDUCE
                raise Trap(Fault.FLOAT, state.cycles + cycle)
            return [arithmetic.encode(total)]
        valid = values.ravel()[: (self.count - 1) * state.config.rows + self._lanes]
        if self._reduce is Reduce.MAX:
            return [arithmetic.encode(reduce_max(valid))]
        index, value = argmax(valid)
        return [index, arithmetic.encode(value)]

    # Quantiser.

    def _make_quantised(self, result: np.ndarray) -> None:
        state, op, count = self.state, self.op, self.count
        block = op["block"]
        blocks = -(-count // block)
        if self._quantise is Quantise.ACT:
            self._written_blocks = self._q.words(blocks)
            self._written_codes = self._q_codes.words(blocks)
            if count % block:
                result = np.concatenate([result, np.zeros((blocks * block - count, state.config.rows))])
            self._quantised, self._codes = quantise_block(result.reshape(blocks, block * state.config.rows))
        else:
            self._written_blocks = self._q.words(count if self._quantise is Quantise.COLUMN else blocks)
            self._quantised, clamped = quantise_static(result)
            self._clamped = int(np.count_nonzero(clamped))
            self._index = state.registers[op["index_reg"]]

    def _commit_blocks(self) -> None:
        blocks, codes = self._written_blocks, self._codes
        self.state.trackers[self.op["tracker"]] = max(codes.tolist())
        self._written_codes[...] = codes[-len(blocks) :]
        width = self._quantised.shape[1]
        blocks[:, :width] = self._quantised[-len(blocks) :]
        if width < blocks.shape[1]:
            blocks[:, width:] = 0.0

    def _commit_weights(self) -> None:
        state, config = self.state, self.state.config
        state.clamped = min(state.clamped + self._clamped, _CLAMPED_MAX)
        words, quantised = self._written_blocks, self._quantised
        if self._quantise is Quantise.COLUMN:
            words[:, :, self._index % config.cols] = quantised[-len(words) :]
            return
        row, block = self._index % config.rows, self.op["block"]
        for step in range(0, self.count, block):
            part = quantised[step : step + block].ravel()
            # With a step of 0 there is one word for all blocks.
            words[step // block % len(words), row, : len(part)] = part
