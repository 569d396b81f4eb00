"""Vector unit: one pass of vectors through the chain, to memory, reduction and quantiser."""

from collections.abc import Mapping
from struct import Struct

import numpy as np

from lpu_isa import vxm
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.formats import QUANTISED_MAX
from lpu_isa.mxm import COUNT_BITS
from lpu_isa.vxm import TO_BLOCKS, Add, Gain, Multiply, Quantise, Reduce, Source, Write

from .arithmetic import Arithmetic
from .chain import address, blocks_before, run_chain
from .compiled import compiled, record
from .scalar import is_clamped, quantise_block, to_integer
from .state import TileState, Trap
from .sxm import Switch
from .trap import raise_trap

__all__ = ["Pass"]

_COUNT_MAX = (1 << COUNT_BITS) - 1
_CLAMPED_MAX = (1 << 32) - 1
_WORDS = Struct(f"{REGISTERS}q")


class Pass:
    """A vector operation, bound to a tile's state. ``op`` holds every field.

    ``switch``: the switch operation of the same bundle. A source SXM without it, or it without that source, is the
    fault ``CONFLICT``; so is SUM_SQUARES beside a gain, since both need the second multiplier.
    """

    def __init__(
        self, state: TileState, arithmetic: Arithmetic, op: Mapping[str, int], switch: Switch | None = None
    ) -> None:
        self.state = state
        self.op = op
        self.count = 0
        """Vectors of the last issue."""
        config = state.config
        self._switch = switch
        self._static_fault = self._find_static_fault()
        source = Source(op["source"])
        stages = vxm.stages(op)
        sign, _, term = Add(op["add"]).name.rpartition("_")
        self._record = record({
            **op,
            "term": Multiply[term],
            "subtracts": sign == "MINUS",
            **{f"{name}_cycle": cycle for name, cycle in stages._asdict().items()},
            "x_cycle": vxm.SOURCE_READ[source],
            "quantise_cycle": stages.result + vxm.quantise_latency(config),
            "significand_bits": arithmetic.p,
            "parts": config.words_per_block,
            "q_words": config.act_blocks if op["quantise"] in TO_BLOCKS else config.wmem_words,
            "d_words": config.smem_words if op["write"] == Write.SMEM else config.vmem_words,
        })  # fmt: skip
        memories = {Source.ACC: state.acc, Source.WMEM: state.wmem.reshape(-1, config.cols)}
        self._source = memories.get(source, state.vmem)
        self._target = state.smem if op["write"] == Write.SMEM else state.vmem
        self._straight = np.arange(config.rows)
        self._registers = np.zeros(REGISTERS, np.int64)
        """As they stood at the last issue."""
        self._result = np.empty((0, config.rows))
        self._reduced = 0, 0
        """Of the last issue: an index, and the word of a value."""

    def _find_static_fault(self) -> Fault:
        op = self.op
        if (op["source"] == Source.SXM) != (self._switch is not None):
            return Fault.CONFLICT
        if op["reduce"] == Reduce.SUM_SQUARES and op["gain"] != Gain.NONE:
            return Fault.CONFLICT
        if op["interval"] < 1 or not 1 <= op["block"] <= self.state.config.words_per_block:
            return Fault.COUNT
        if op["quantise"] != Quantise.NONE and op["interval"] != 1:
            return Fault.COUNT
        return Fault.NONE

    def compute(self) -> None:
        """Read the operands and make the results. Raises the `Trap` that comes first."""
        state = self.state
        count, lanes = vxm.count_and_lanes(self.op, state.registers)
        if self._static_fault:
            raise Trap(self._static_fault, state.cycles)
        if not (1 <= count <= _COUNT_MAX and 1 <= lanes <= state.config.rows):
            raise Trap(Fault.COUNT, state.cycles)
        self.count = count
        if len(self._result) < count:
            self._result = np.empty((count, state.config.rows))
        _WORDS.pack_into(self._registers.data, 0, *state.registers)
        sources = self._switch.sources() if self._switch else self._straight
        trap, index, word = run_chain(self._record, self._registers, count, lanes, self._source, state.acc_bases,
                                      sources, state.vmem, state.smem, self._result)  # fmt: skip
        self._reduced = index, word
        raise_trap(trap, state.cycles)

    def commit(self) -> None:
        """Write memory, scalar registers and the quantised values."""
        op, state = self.op, self.state
        if op["write"] != Write.NONE:
            _write(self._record, self._registers, self.count, self._result, self._target)
        if op["reduce"] != Reduce.NONE:
            self._write_registers()
        if op["quantise"] in TO_BLOCKS:
            largest = _write_blocks(self._record, self._registers, self.count, self._result, state.act,
                                    state.act_codes)  # fmt: skip
            state.trackers[op["tracker"]] = largest
        elif op["quantise"] != Quantise.NONE:
            clamped = _write_weights(self._record, self._registers, self.count, self._result, state.wmem)
            state.clamped = min(state.clamped + clamped, _CLAMPED_MAX)

    def _write_registers(self) -> None:
        words = self._reduced if self.op["reduce"] == Reduce.ARGMAX else self._reduced[1:]
        for offset, word in enumerate(words):
            register = (self.op["reduce_reg"] + offset) % REGISTERS
            if register:
                self.state.registers[register] = word


@compiled
def _write(ops, registers, count, result, memory):
    op = ops[0]
    for step in range(count):
        word = address(op.d, registers[op.d_reg], op.d_step, step)
        for lane in range(result.shape[1]):
            memory[word, lane] = result[step, lane]


@compiled
def _write_blocks(ops, registers, count, result, act, act_codes):
    """Quantise to the activation buffer; returns the largest code."""
    op, largest = ops[0], 0
    values, rows = result.reshape(-1), result.shape[1]
    for step in range(0, count, op.block):
        block = address(op.q, registers[op.q_reg], op.q_step, blocks_before(op, step))
        width = min(op.block, count - step) * rows
        act[block] = 0.0
        code = quantise_block(values[step * rows : step * rows + width], act[block], op.quantise == Quantise.ACT)
        act_codes[block] = code
        largest = max(largest, code)
    return largest


@compiled
def _write_weights(ops, registers, count, result, wmem):
    """Quantise to a row or a column of weight words; returns how many lanes are clamped."""
    op, clamped = ops[0], 0
    index = registers[op.index_reg]
    rows, cols = wmem.shape[1:]
    for step in range(count):
        word = address(op.q, registers[op.q_reg], op.q_step, blocks_before(op, step))
        for lane in range(rows):
            x = result[step, lane]
            clamped += is_clamped(x)
            if op.quantise == Quantise.COLUMN:
                wmem[word, lane, index % cols] = to_integer(x, -QUANTISED_MAX)
            else:
                wmem[word, index % rows, step % op.block * rows + lane] = to_integer(x, -QUANTISED_MAX)
    return clamped
