"""State of a tile: memories, registers, mailboxes, and how the host sees them."""

from collections import deque
from typing import NamedTuple

import numpy as np

from lpu_isa.config import TileConfig
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.formats import ACCUMULATOR_BITS, EXPONENT_BIAS, FloatFormat
from lpu_isa.host import Window, beats, depth
from lpu_isa.mxm import TRACKERS

__all__ = ["Sent", "TileState", "Trap"]


class Sent(NamedTuple):
    """A word in the outbox and the cycle in which it was sent, both as unsigned 32 bits."""

    word: int
    stamp: int


class Trap(Exception):
    """A fault inside an operation, on its way from a unit to the simulator, which makes it state."""

    def __init__(self, fault: Fault, cycle: int) -> None:
        super().__init__(f"{fault.text} in cycle {cycle}")
        self.fault = fault
        self.cycle = cycle


class TileState:
    """Everything that a program reads and writes.

    Every number is kept as its value: floats and integers alike in float64, which holds both exactly. Arrays may be
    written in place, between runs or while a program waits, and must not be replaced.

    Attributes
    ----------
    wmem : float64 (wmem_words, rows, cols), int8 values
    vmem, smem : float64 (vmem_words or smem_words, rows), floats of the tile's format
    act, act_codes : float64 (act_blocks, cols), int8 values; int64 (act_blocks,)
    acc, acc_bases : float64 (accumulators, rows), integers of 44 bits; int64 (accumulators,)
    trackers : block codes
    registers : signed 32-bit integers; register 0 stays 0
    timing_base : set by TIMING
    inbox : words for RECV
    outbox : what SEND sent; the host takes it out
    cycles : cycles since start, without those spent waiting in RECV
    clamped : lanes that a quantiser with scale 1 clamped since start
    halted, fault, fault_pc : how the program ended
    """

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        self.float_format = FloatFormat(config.significand_bits)
        self.wmem = np.zeros((config.wmem_words, config.rows, config.cols))
        self.vmem = np.zeros((config.vmem_words, config.rows))
        self.smem = np.zeros((config.smem_words, config.rows))
        self.act = np.zeros((config.act_blocks, config.cols))
        self.act_codes = np.zeros(config.act_blocks, np.int64)
        self.acc = np.zeros((config.accumulators, config.rows))
        self.acc_bases = np.full(config.accumulators, EXPONENT_BIAS)
        self.trackers = [0] * TRACKERS
        self.registers = [0] * REGISTERS
        self.timing_base = 0
        self.inbox: deque[int] = deque()
        self.outbox: list[Sent] = []
        self.cycles = 0
        self.clamped = 0
        self.halted = False
        self.fault = Fault.NONE
        self.fault_pc = 0

    def clear(self) -> None:
        """What START clears: faults, counters and outbox."""
        self.outbox.clear()
        self.cycles = 0
        self.clamped = 0
        self.halted = False
        self.fault = Fault.NONE
        self.fault_pc = 0

    def reset(self) -> None:
        """What RESET clears: that, the inbox and the scalar registers. Memories are kept."""
        self.clear()
        self.inbox.clear()
        self.registers[:] = [0] * REGISTERS

    def randomise(self, rng: np.random.Generator) -> None:
        """Fill every memory with random words, as a tile may hold them when it is switched on."""
        for window in (Window.WMEM, Window.VMEM, Window.SMEM):
            shape = (depth(self.config, window), beats(self.config, window))
            self.load(window, rng.integers(0, 1 << 32, shape, np.uint64).astype(np.uint32))
        limit = 1 << (ACCUMULATOR_BITS - 1)
        self.acc[:] = rng.integers(-limit, limit, self.acc.shape)
        self.acc_bases[:] = rng.integers(0, 256, self.acc_bases.shape)
        self.act[:] = rng.integers(-128, 128, self.act.shape)
        self.act_codes[:] = rng.integers(0, 256, self.act_codes.shape)

    def load(self, window: Window, words: np.ndarray, first: int = 0) -> None:
        """Write what the host writes through a window: uint32 (n, beats), at memory words ``first`` onwards.

        Raises ``ValueError`` for a window that is read-only or not part of this state, for a wrong number of beats, and
        past the end of the memory.
        """
        if window not in (Window.WMEM, Window.VMEM, Window.SMEM):
            raise ValueError(f"window must be one of wmem, vmem, smem, not {Window(window).name.lower()}")
        words = np.asarray(words, np.uint32)
        if words.ndim != 2 or words.shape[1] != beats(self.config, window):
            raise ValueError(f"words must have the shape (n, {beats(self.config, window)}), not {words.shape}")
        if first < 0 or first + len(words) > depth(self.config, window):
            last = first + len(words) - 1
            raise ValueError(f"words {first} to {last} do not lie in a memory of {depth(self.config, window)}")
        memory = {Window.WMEM: self.wmem, Window.VMEM: self.vmem, Window.SMEM: self.smem}[window]
        if window is Window.WMEM:
            values = np.ascontiguousarray(words, "<u4").view(np.int8)
        else:
            values = self.float_format.decode(words)
        memory[first : first + len(words)] = values.reshape(len(words), *memory.shape[1:])

    def export(self, window: Window) -> np.ndarray:
        """What the host reads through a memory window, uint32 (depth, beats). Floats that read as zero are written so.

        Raises ``ValueError`` for the program and timing windows, which are no part of the state.
        """
        if window in (Window.VMEM, Window.SMEM):
            return self.float_format.encode(self.vmem if window is Window.VMEM else self.smem)
        if window is Window.WMEM:
            return self.wmem.reshape(len(self.wmem), -1).astype(np.int8).view("<u4").astype(np.uint32)
        if window is Window.ACT:
            values = self.act.astype(np.int8).view("<u4")
            return np.concatenate([values, self.act_codes[:, None]], axis=1).astype(np.uint32)
        if window is Window.ACC:
            return self.acc.astype("<i8").view("<u4").astype(np.uint32)
        raise ValueError(f"window must be a memory of the state, not {Window(window).name.lower()}")
