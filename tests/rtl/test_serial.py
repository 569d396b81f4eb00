"""The serial line: a program through the pins of the whole tile, and what the host makes of a bad line."""

import asyncio

import numpy as np
import pytest

from lpu_isa.config import SHAPES
from lpu_rtl.board.top import SerialTile
from lpu_rtl.board.uart import UartReceiver
from lpu_sw.asm.builder import Builder
from lpu_sw.host.serial import LineError, SerialTransport, request_frame
from lpu_sw.image import Image
from lpu_tb.runner import run_bench

SMALL = SHAPES["4x4"]
DIVISOR = 4


CLEAN = pytest.param(
    0.0, marks=pytest.mark.xfail(strict=True, reason="the first frame after a reset is repeated; cause not known yet")
)


@pytest.mark.parametrize("badness", [CLEAN, 0.15])
def test_a_program_is_loaded_and_run_through_the_pins(badness, tmp_path):
    b = Builder(SMALL)
    b.bundle(icu={"op": "recv", "rd": 1}, wait=8)
    b.bundle(icu={"op": "addi", "rd": 2, "rs": 1, "imm": 5}, wait=8)
    b.bundle(icu={"op": "send", "rs": 2}, wait=8)
    b.bundle(icu={"op": "halt"})
    path = tmp_path / "image.lpu"
    Image.from_program(b.build()).save(path)
    given = {
        "image": str(path), "divisor": DIVISOR, "badness": badness, "seed": 3, "inbox": [37], "expected": [42],
    }  # fmt: skip
    run_bench(
        SerialTile(SMALL, DIVISOR), "serial_tile", "lpu_tb.benches.serial", name=f"serial-{badness}", parameters=given
    )


def test_a_silent_board_is_an_error():
    class Silence:
        async def send(self, data: bytes) -> None: ...

        async def receive(self, count: int) -> bytes:
            return b""

    with pytest.raises(LineError, match="no answer from the board after 8 attempts"):
        asyncio.run(SerialTransport(Silence()).read(0, 1))


def test_a_frame_says_what_it_carries():
    frame = request_frame(7, 0x1234, 2, np.array([1, 0x01020304], np.uint32))
    assert frame[:-4].hex() == "a5 07 81 34120000 01000000 04030201".replace(" ", "")


def test_too_fast_a_line_is_refused():
    with pytest.raises(ValueError, match="divisor must be at least 4, not 3"):
        UartReceiver(3)
