"""Sequencer: scalar operations, branches, loops and mailboxes."""

import operator
from collections.abc import Callable, Mapping

import numpy as np

from lpu_isa import icu
from lpu_isa.faults import Fault
from lpu_isa.icu import IcuOp
from lpu_isa.tables import Function

from .arithmetic import Arithmetic
from .state import Sent, TileState, Trap

__all__ = ["Sequencer", "signed"]

_WORD = (1 << 32) - 1


def signed(word: int) -> int:
    """The low 32 bits as a two's complement integer."""
    return ((word & _WORD) ^ (1 << 31)) - (1 << 31)


class Sequencer:
    """Operations of the sequencer slot, bound to a tile's state; holds the loop stack."""

    def __init__(self, state: TileState, arithmetic: Arithmetic) -> None:
        self.state = state
        self.arithmetic = arithmetic
        self.loops: list[tuple[int, int]] = []
        """Bundle number of each loop's body and how many times it still runs, outermost first."""

    def scalar(self, op: Mapping[str, int]) -> Callable[[], int] | None:
        """What makes the value of an operation that writes ``rd``; None for any other operation.

        The callable reads state and returns a signed 32-bit integer, or raises `Trap`.
        """
        registers, rs, rt, imm = self.state.registers, op["rs"], op["rt"], op["imm"]
        code = IcuOp(op["op"])
        if code is IcuOp.LI:
            return lambda: imm
        if code is IcuOp.ADDI:
            return lambda: signed(registers[rs] + imm)
        if code is IcuOp.ADD:
            return lambda: signed(registers[rs] + registers[rt])
        if code is IcuOp.SUB:
            return lambda: signed(registers[rs] - registers[rt])
        if code is IcuOp.ANDI:
            return lambda: registers[rs] & imm
        if code is IcuOp.SHL:
            return lambda: signed(registers[rs] << (imm & 31))
        if code is IcuOp.SHR:
            return lambda: signed((registers[rs] & _WORD) >> (imm & 31))
        if code is IcuOp.FUNCTION:
            function = Function(op["function"])
            return lambda: self._function(function, registers[rs])
        if code in (IcuOp.VLANE, IcuOp.SLANE):
            memory = self.state.vmem if code is IcuOp.VLANE else self.state.smem
            return lambda: self._lane(memory, imm + registers[rs], registers[rt])
        if code is IcuOp.RECV:
            return lambda: signed(self.state.inbox.popleft())
        return None

    def _function(self, function: Function, word: int) -> int:
        if function is Function.NONE:
            raise Trap(Fault.OPCODE, self.state.cycles)
        value, fault = self.arithmetic.scalar_function(function, self.arithmetic.decode(word))
        if fault:
            raise Trap(fault, self.state.cycles + icu.SCALAR_FUNCTION)
        return signed(self.arithmetic.encode(value))

    def _lane(self, memory: np.ndarray, word: int, lane: int) -> int:
        if not 0 <= word < len(memory):
            raise Trap(Fault.ADDRESS, self.state.cycles + 1)
        return signed(self.arithmetic.encode(float(memory[word, lane % memory.shape[1]])))

    def control(self, op: Mapping[str, int]) -> Callable[[int], int] | None:
        """What an operation that writes no register does; None for one that does.

        The callable takes the operation's bundle number and returns that of the next bundle, or raises `Trap`.
        """
        state = self.state
        registers, rs, rt, imm = state.registers, op["rs"], op["rt"], op["imm"]
        code = IcuOp(op["op"])
        if code is IcuOp.JUMP:
            return lambda pc: imm
        if code in _COMPARISONS:
            compare = _COMPARISONS[code]
            return lambda pc: imm if compare(registers[rs], registers[rt]) else pc + 1
        if code is IcuOp.LOOP:
            return lambda pc: self._loop(pc, imm + registers[rs])
        if code is IcuOp.END:
            return self._end
        if code is IcuOp.TIMING:
            return lambda pc: self._timing(pc, registers[rs] + imm)
        if code is IcuOp.SEND:
            return lambda pc: self._send(pc, registers[rs])
        return None

    def _loop(self, pc: int, iterations: int) -> int:
        if iterations < 1 or len(self.loops) == icu.LOOP_DEPTH:
            raise Trap(Fault.LOOP, self.state.cycles)
        self.loops.append((pc + 1, iterations))
        return pc + 1

    def _end(self, pc: int) -> int:
        if not self.loops:
            raise Trap(Fault.LOOP, self.state.cycles)
        body, iterations = self.loops.pop()
        if iterations == 1:
            return pc + 1
        self.loops.append((body, iterations - 1))
        return body

    def _timing(self, pc: int, base: int) -> int:
        self.state.timing_base = base
        return pc + 1

    def _send(self, pc: int, word: int) -> int:
        state = self.state
        if len(state.outbox) >= state.config.mailbox_words:
            raise Trap(Fault.MAILBOX, state.cycles)
        state.outbox.append(Sent(word & _WORD, state.cycles & _WORD))
        return pc + 1


_COMPARISONS = {IcuOp.BEQ: operator.eq, IcuOp.BNE: operator.ne, IcuOp.BLT: operator.lt, IcuOp.BGE: operator.ge}
