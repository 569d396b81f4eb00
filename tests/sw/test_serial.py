"""The host's end of the serial line: what its frames are, and what it makes of a board or a port that is not there."""

import asyncio
import importlib.util

import numpy as np
import pytest

from lpu_sw.host.port import PortLine
from lpu_sw.host.serial import LineError, SerialTransport, request_frame


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


def test_a_port_that_is_not_there_is_named():
    pytest.importorskip("serial", reason="the port: pip install '.[board]'")
    with pytest.raises(LineError, match="/no/port cannot be opened as a serial port of 1000000 baud: "):
        PortLine("/no/port")


def test_a_missing_pyserial_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LineError, match="pyserial is missing: pip install pyserial"):
        PortLine("/dev/ttyUSB0")
