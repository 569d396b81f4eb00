"""Fault codes: why a tile stopped. A fault is sticky, stops the sequencer and is cleared by a reset or a new start."""

from enum import IntEnum

__all__ = ["Fault"]


class Fault(IntEnum):
    """What the host reads in the fault register; the comment is the text shown to a person."""

    NONE = 0
    OPCODE = 1  # an operation or enumeration field holds a value that the ISA does not define
    ISSUE = 2  # an operation was issued to a slot whose last operation still runs
    CONFLICT = 3  # two users of one unit, port, register file write or stream in one cycle
    ADDRESS = 4  # an address past the end of its memory
    COUNT = 5  # a count of zero (or above its field) after the scalar was added, or lanes outside 1..rows
    ACCUMULATOR = 6  # a fixed-point sum or its left shift does not fit the accumulator
    FLOAT = 7  # a floating-point result is too large
    FUNCTION = 8  # reciprocal of |x| < 2**-100, or reciprocal square root of x < 2**-100
    LOOP = 9  # loop stack overflow or underflow, or a loop of no iterations
    SYNC = 10  # a receive while an operation is still running
    PROGRAM = 11  # the program counter ran past the last bundle
    MAILBOX = 12  # a send into a full outbox

    @property
    def text(self) -> str:
        """One line for a person."""
        return _TEXT[self]


_TEXT = {
    Fault.NONE: "no fault",
    Fault.OPCODE: "illegal operation code",
    Fault.ISSUE: "operation issued to a slot that is still busy",
    Fault.CONFLICT: "two users of one unit or port in the same cycle",
    Fault.ADDRESS: "address past the end of a memory",
    Fault.COUNT: "count or lane number out of range",
    Fault.ACCUMULATOR: "accumulator overflow",
    Fault.FLOAT: "floating-point overflow",
    Fault.FUNCTION: "function argument out of its domain",
    Fault.LOOP: "loop stack overflow, underflow or a loop of no iterations",
    Fault.SYNC: "receive while an operation is running",
    Fault.PROGRAM: "program counter past the end of the program",
    Fault.MAILBOX: "send into a full outbox",
}
