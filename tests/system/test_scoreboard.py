"""The scoreboard notices a difference in any part of the state, and says where it is."""

from dataclasses import replace

import numpy as np
import pytest

from lpu_isa.config import SHAPES
from lpu_isa.faults import Fault
from lpu_isa.host import Status, Window
from lpu_sw.host.protocol import TileDevice, TileSnapshot
from lpu_sw.sim.state import Sent
from lpu_tb.scoreboard import Mismatch, Scoreboard

CONFIG = SHAPES["4x4"]
READ_BACK = [window for window in Window if window not in (Window.PROGRAM, Window.TIMING)]


@pytest.fixture
def board() -> Scoreboard:
    """A simulator that halted after some program."""
    board = Scoreboard(TileDevice(None, CONFIG), seed=5)
    state = board.state
    state.randomise(np.random.default_rng(1))
    state.registers[3], state.cycles, state.clamped, state.halted = -7, 1234, 2, True
    state.outbox.append(Sent(9, 1000))
    return board


@pytest.fixture
def same(board) -> TileSnapshot:
    """A tile in the same state."""
    state = board.state
    return TileSnapshot(
        windows={window: state.export(window) for window in READ_BACK},
        registers=np.array(state.registers, np.int64).astype(np.uint32),
        outbox=[(9, 1000)],
        inbox_level=0,
        cycles=1234,
        clamped=2,
        status=Status.HALTED,
        fault=Fault.NONE,
        fault_pc=0,
    )


def test_equal_states_pass(board, same):
    board.compare(same)


def test_every_pattern_of_exponent_0_is_zero(board, same):
    board.state.vmem[7, 2] = 0
    words = board.state.export(Window.VMEM)
    words[7, 2] = 0x123
    board.compare(replace(same, windows=same.windows | {Window.VMEM: words}))


@pytest.mark.parametrize("window", READ_BACK, ids=lambda window: window.name)
def test_one_wrong_bit_in_a_memory_is_found(board, same, window):
    words = same.windows[window].copy()
    words[6, -1] ^= 1
    if window in (Window.VMEM, Window.SMEM):
        board.state.vmem[6, -1] = board.state.smem[6, -1] = 1.5
        words[6, -1] = board.state.export(window)[6, -1] ^ 1
        other = Window.SMEM if window is Window.VMEM else Window.VMEM
        same = replace(same, windows=same.windows | {other: board.state.export(other)})
    with pytest.raises(Mismatch, match=rf"{window.name.lower()}\[6\] beat {words.shape[1] - 1}: tile 0x"):
        board.compare(replace(same, windows=same.windows | {window: words}))


@pytest.mark.parametrize(
    "change, text",
    [
        ({"cycles": 1235}, "cycles: tile 1235, simulator 1234"),
        ({"clamped": 3}, "clamped: tile 3, simulator 2"),
        ({"outbox": [(9, 1001)]}, r"outbox: tile \[\(9, 1001\)\], simulator \[\(9, 1000\)\]"),
        ({"inbox_level": 1}, "inbox level: tile 1, simulator 0"),
        ({"fault": Fault.FLOAT}, "fault: tile FLOAT, simulator NONE"),
        ({"fault_pc": 4}, "fault pc: tile 4, simulator 0"),
        ({"status": 0}, "halted: tile False, simulator True"),
        ({"registers": np.zeros(32, np.uint32)}, r"register\[3\] beat 0: tile 0x00000000, simulator 0xfffffff9"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_wrong_register_is_found(board, same, change, text):
    with pytest.raises(Mismatch, match=text):
        board.compare(replace(same, **change))
