"""Vector unit: one pass of vectors through the chain, to memory, reduction and quantiser."""

from collections.abc import Mapping
from struct import Struct

import numpy as np

from lpu_isa import vxm
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.formats import INTEGER_BASE, QUANTISED_MAX
from lpu_isa.mxm import COUNT_BITS
from lpu_isa.tables import Function
from lpu_isa.vxm import (
    ADD,
    CONVERT,
    FUNCTION,
    MULTIPLY,
    OPERAND_READ,
    REDUCE,
    TO_BLOCKS,
    Add,
    Gain,
    Multiply,
    Quantise,
    Reduce,
    Source,
    Write,
)

from .arithmetic import Arithmetic
from .compiled import compiled, record
from .function import function_of, is_outside_domain
from .scalar import (
    add_vector,
    decode,
    encode,
    finish_sum,
    is_clamped,
    is_too_large,
    nearest,
    quantise_block,
    scale_sum,
    settle,
    start_sum,
    to_integer,
)
from .state import TileState, Trap
from .sxm import Switch
from .trap import NO_TRAP, earlier, raise_trap

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
        self._reduced: tuple[int, ...] = ()

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
        _WORDS.pack_into(self._registers, 0, *state.registers)
        sources = self._switch.sources() if self._switch else self._straight
        trap, *self._reduced = _compute(self._record, self._registers, count, lanes, self._source, state.acc_bases,
                                        sources, state.vmem, state.smem, self._result)  # fmt: skip
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
        index, value = self._reduced
        words = (index, value) if self.op["reduce"] == Reduce.ARGMAX else (value,)
        for offset, word in enumerate(words):
            register = (self.op["reduce_reg"] + offset) % REGISTERS
            if register:
                self.state.registers[register] = word


# All vectors enter one after the other, and each goes through the whole chain. Vectors are (rows,).


@compiled
def _compute(ops, registers, count, lanes, source, bases, sources, vmem, smem, result):
    """Makes the results; returns the first trap and, of the reduction, an index and the word of a value.

    source : words that the vectors come from, (n, rows); for source WMEM rows of the weight words, (n, cols)
    sources : for every lane the lane that it takes
    result : room for ``count`` vectors
    """
    op, trap = ops[0], NO_TRAP
    p, rows = op.significand_bits, len(sources)
    x, operand, kept = np.empty(rows), np.empty(rows), np.empty(rows)
    running, field = start_sum(decode(registers[op.start_reg], p), p)
    best, index = -np.inf, 0
    for step in range(count):
        now = step * op.interval
        n = lanes if step == count - 1 else rows
        is_outside = _read_source(op, registers, step, source, sources, x)
        trap = earlier(trap, is_outside, now + op.x_cycle, Fault.ADDRESS)
        if op.source == Source.ACC or op.source == Source.WMEM:
            base = INTEGER_BASE
            if op.source == Source.ACC:
                base = 0 if is_outside else bases[_address(op.x, registers[op.x_reg], op.x_step, step)]
            for lane in range(n):
                # An integer of a memory is no -0.
                x[lane] = settle(nearest(scale_sum(x[lane] + 0.0, base), p))
            trap = earlier(trap, _has_too_large(x, n), now + op.convert_cycle + CONVERT, Fault.FLOAT)
        if op.multiply != Multiply.NONE:
            is_outside = _read_operand(op, registers, op.multiply, op.multiply_reg, step, vmem, smem, operand)
            trap = earlier(trap, is_outside, now + op.multiply_cycle - OPERAND_READ, Fault.ADDRESS)
            is_fault = _multiply(x, operand, n, p, x)
            trap = earlier(trap, is_fault, now + op.multiply_cycle + MULTIPLY, Fault.FLOAT)
        if op.add != Add.NONE:
            is_outside = _read_operand(op, registers, op.term, op.add_reg, step, vmem, smem, operand)
            trap = earlier(trap, is_outside, now + op.add_cycle - OPERAND_READ, Fault.ADDRESS)
            for lane in range(n):
                x[lane] = settle(nearest(x[lane] - operand[lane] if op.subtracts else x[lane] + operand[lane], p))
            trap = earlier(trap, _has_too_large(x, n), now + op.add_cycle + ADD, Fault.FLOAT)
        for lane in range(n):
            kept[lane] = x[lane]
        if op.function != Function.NONE:
            for lane in range(n):
                is_outside = is_outside_domain(op.function, x[lane])
                trap = earlier(trap, is_outside, now + op.function_cycle + FUNCTION, Fault.FUNCTION)
                x[lane] = settle(function_of(op.function, x[lane], p))
                is_fault = is_too_large(x[lane]) and not is_outside
                trap = earlier(trap, is_fault, now + op.function_cycle + FUNCTION, Fault.FLOAT)
        if op.gain == Gain.SELF:
            is_fault = _multiply(x, kept, n, p, x)
            trap = earlier(trap, is_fault, now + op.gain_cycle + MULTIPLY, Fault.FLOAT)
        elif op.gain != Gain.NONE:
            register = (op.gain_reg + step * op.gain_step) % REGISTERS
            is_outside = _read_operand(op, registers, op.gain, register, step, vmem, smem, operand)
            trap = earlier(trap, is_outside, now + op.gain_cycle - OPERAND_READ, Fault.ADDRESS)
            is_fault = _multiply(x, operand, n, p, x)
            trap = earlier(trap, is_fault, now + op.gain_cycle + MULTIPLY, Fault.FLOAT)
        for lane in range(rows):
            valid = x[lane] if lane < n else 0.0
            result[step, lane] = 0.0 if op.relu and valid <= 0.0 else valid
        trap = earlier(trap, _writes_outside(op, registers, step), now + op.result_cycle, Fault.ADDRESS)
        trap = earlier(trap, _quantises_outside(op, registers, step), now + op.quantise_cycle, Fault.ADDRESS)
        if op.reduce == Reduce.SUM:
            running, field = add_vector(running, field, result[step], n, p)
        elif op.reduce == Reduce.SUM_SQUARES:
            is_fault = _multiply(result[step], result[step], n, p, operand)
            trap = earlier(trap, is_fault, now + op.gain_cycle + MULTIPLY, Fault.FLOAT)
            running, field = add_vector(running, field, operand, n, p)
        elif op.reduce != Reduce.NONE:
            for lane in range(n):
                if result[step, lane] > best:
                    best, index = result[step, lane], step * rows + lane
    if op.reduce == Reduce.SUM or op.reduce == Reduce.SUM_SQUARES:
        best = finish_sum(running, field, p)
        reduced = op.reduce_cycle + (count - 1) * op.interval + REDUCE
        trap = earlier(trap, is_too_large(best), reduced, Fault.FLOAT)
    return trap, index, encode(best + 0.0, p)


@compiled
def _address(first, register, stride, step):
    return first + register + step * stride


@compiled
def _read(memory, address, vector):
    """Read a word; zeros, so that what else goes wrong in earlier cycles can be seen, if it returns that there is none."""
    is_outside = not 0 <= address < len(memory)
    for lane in range(len(vector)):
        vector[lane] = 0.0 if is_outside else memory[address, lane]
    return is_outside


@compiled
def _read_source(op, registers, step, source, sources, vector):
    """Read what enters the chain; returns whether it is outside the memory."""
    rows = len(vector)
    if op.source == Source.WMEM:
        # The address moves on once every `parts` steps.
        word = _address(op.x, registers[op.x_reg], op.x_step, step // op.parts)
        is_outside = not 0 <= word * rows < len(source)
        for lane in range(rows):
            vector[lane] = 0.0
            if not is_outside:
                vector[lane] = source[word * rows + registers[op.row_reg] % rows, step % op.parts * rows + lane]
        return is_outside
    address = _address(op.x, registers[op.x_reg], op.x_step, step)
    is_outside = not 0 <= address < len(source)
    for lane in range(rows):
        vector[lane] = 0.0 if is_outside else source[address, sources[lane]]
    return is_outside


@compiled
def _read_operand(op, registers, kind, register, step, vmem, smem, vector):
    """Read the second operand of a unit, a kind of `Multiply`; returns whether it is outside its memory."""
    if kind == Multiply.B:
        return _read(vmem, _address(op.b, registers[op.b_reg], op.b_step, step), vector)
    if kind == Multiply.C:
        return _read(smem, _address(op.c, registers[op.c_reg], op.c_step, step), vector)
    vector[:] = decode(registers[register], op.significand_bits)
    return False


@compiled
def _multiply(a, b, n, p, product):
    """The product of ``n`` lanes; returns whether one is too large."""
    for lane in range(n):
        product[lane] = settle(nearest(a[lane] * b[lane], p))
    return _has_too_large(product, n)


@compiled
def _has_too_large(x, n):
    is_fault = False
    for lane in range(n):
        is_fault |= is_too_large(x[lane])
    return is_fault


@compiled
def _writes_outside(op, registers, step):
    if op.write == Write.NONE:
        return False
    return not 0 <= _address(op.d, registers[op.d_reg], op.d_step, step) < op.d_words


@compiled
def _quantises_outside(op, registers, step):
    if op.quantise == Quantise.NONE:
        return False
    return not 0 <= _address(op.q, registers[op.q_reg], op.q_step, _closed(op, step)) < op.q_words


@compiled
def _closed(op, step):
    """Words of the quantiser that are complete before a step."""
    return step if op.quantise == Quantise.COLUMN else step // op.block


@compiled
def _write(ops, registers, count, result, memory):
    op = ops[0]
    for step in range(count):
        address = _address(op.d, registers[op.d_reg], op.d_step, step)
        for lane in range(result.shape[1]):
            memory[address, lane] = result[step, lane]


@compiled
def _write_blocks(ops, registers, count, result, act, act_codes):
    """Quantise to the activation buffer; returns the largest code."""
    op, largest = ops[0], 0
    values, rows = result.reshape(-1), result.shape[1]
    for step in range(0, count, op.block):
        block = _address(op.q, registers[op.q_reg], op.q_step, _closed(op, step))
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
        word = _address(op.q, registers[op.q_reg], op.q_step, _closed(op, step))
        for lane in range(rows):
            x = result[step, lane]
            clamped += is_clamped(x)
            if op.quantise == Quantise.COLUMN:
                wmem[word, lane, index % cols] = to_integer(x, -QUANTISED_MAX)
            else:
                wmem[word, index % rows, step % op.block * rows + lane] = to_integer(x, -QUANTISED_MAX)
    return clamped
