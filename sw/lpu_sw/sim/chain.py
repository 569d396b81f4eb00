"""The chain of a pass: vectors enter one after the other, and each goes through all units before the next one enters.

The first argument of most functions is the record of the pass, see `Pass`; registers are those at its issue, vectors
are (rows,). After a fault the chain goes on, since a later vector may meet one in an earlier cycle.
"""

import numpy as np

from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.formats import INTEGER_BASE
from lpu_isa.tables import Function
from lpu_isa.vxm import (
    ADD,
    CONVERT,
    FUNCTION,
    MULTIPLY,
    OPERAND_READ,
    REDUCE,
    Add,
    Gain,
    Multiply,
    Quantise,
    Reduce,
    Source,
    Write,
)

from .compiled import compiled
from .function import function_of, is_outside_domain
from .scalar import (
    add_vector,
    decode,
    encode,
    find_largest,
    finish_sum,
    is_too_large,
    nearest,
    scale_sum,
    settle,
    start_sum,
)
from .trap import NO_TRAP, earlier

__all__ = ["address", "blocks_before", "run_chain"]


@compiled
def run_chain(ops, registers, count, lanes, source, bases, sources, vmem, smem, result):
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
                base = 0 if is_outside else bases[address(op.x, registers[op.x_reg], op.x_step, step)]
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
            best, index = find_largest(best, index, result[step], n, step * rows)
    if op.reduce == Reduce.SUM or op.reduce == Reduce.SUM_SQUARES:
        best = finish_sum(running, field, p)
        reduced = op.reduce_cycle + (count - 1) * op.interval + REDUCE
        trap = earlier(trap, is_too_large(best), reduced, Fault.FLOAT)
    return trap, index, encode(best, p)


@compiled
def address(first, register, stride, step):
    """The memory word of a step."""
    return first + register + step * stride


@compiled
def _read(memory, word, vector):
    """Read a word; returns whether it is outside the memory, and then reads as zeros."""
    is_outside = not 0 <= word < len(memory)
    for lane in range(len(vector)):
        vector[lane] = 0.0 if is_outside else memory[word, lane]
    return is_outside


@compiled
def _read_source(op, registers, step, source, sources, vector):
    """Read what enters the chain; returns whether it is outside the memory."""
    rows = len(vector)
    if op.source == Source.WMEM:
        # The address moves on once every `parts` steps.
        word = address(op.x, registers[op.x_reg], op.x_step, step // op.parts)
        is_outside = not 0 <= word * rows < len(source)
        for lane in range(rows):
            vector[lane] = 0.0
            if not is_outside:
                vector[lane] = source[word * rows + registers[op.row_reg] % rows, step % op.parts * rows + lane]
        return is_outside
    word = address(op.x, registers[op.x_reg], op.x_step, step)
    is_outside = not 0 <= word < len(source)
    for lane in range(rows):
        vector[lane] = 0.0 if is_outside else source[word, sources[lane]]
    return is_outside


@compiled
def _read_operand(op, registers, kind, register, step, vmem, smem, vector):
    """Read the second operand of a unit, a kind of `Multiply`; returns whether it is outside its memory."""
    if kind == Multiply.B:
        return _read(vmem, address(op.b, registers[op.b_reg], op.b_step, step), vector)
    if kind == Multiply.C:
        return _read(smem, address(op.c, registers[op.c_reg], op.c_step, step), vector)
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
    return not 0 <= address(op.d, registers[op.d_reg], op.d_step, step) < op.d_words


@compiled
def _quantises_outside(op, registers, step):
    if op.quantise == Quantise.NONE:
        return False
    return not 0 <= address(op.q, registers[op.q_reg], op.q_step, blocks_before(op, step)) < op.q_words


@compiled
def blocks_before(op, step):
    """Words of the quantiser that are complete before a step."""
    return step if op.quantise == Quantise.COLUMN else step // op.block
