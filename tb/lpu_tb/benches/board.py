"""The board, bits on its pins: an image loaded and run, on a clean line and on a bad one."""

import os
import random
import re
import tty
from pathlib import Path

import cocotb
import numpy as np
from cocotb.queue import Queue
from cocotb.triggers import ClockCycles, FallingEdge, Timer, with_timeout

from lpu_isa.host import Register, Status, Window, beats
from lpu_sw.host.protocol import TileDevice
from lpu_sw.host.serial import LineError, SerialTransport
from lpu_sw.image import Image

from ..clock import CLOCK_NS, start_clock
from ..runner import parameters

_SILENT_BITS = 400  # more than the 64 writes of a frame take at 4 cycles a bit
_POWER_UP_CYCLES = 400
_POLL_CYCLES = 1000


class PinLine:
    """Carries out `lpu_sw.host.serial.ByteLine` on the pins ``rx`` and ``tx``.

    badness : share of transfers, each way, that lose a byte, double one, change one or have noise ahead of them.
    byte_badness : share of bytes, each way, that are lost, doubled or changed.
    """

    def __init__(self, dut, divisor: int, badness: float = 0.0, byte_badness: float = 0.0, seed: int = 0) -> None:
        self.dut, self.badness, self.byte_badness, self.random = dut, badness, byte_badness, random.Random(seed)
        self.bit_ns = divisor * CLOCK_NS
        self.heard: Queue = Queue()
        self.spoiled = 0
        cocotb.start_soon(self._listen())

    async def send(self, data: bytes) -> None:
        """Send ``data``, or something like it."""
        for byte in self._spoil(data):
            for level in (0, *(byte >> bit & 1 for bit in range(8)), 1):
                self.dut.rx.value = level
                await Timer(self.bit_ns, "ns")

    async def receive(self, count: int) -> bytes:
        """At most ``count`` bytes, or something like them; fewer when the line falls silent."""
        data = b""
        while len(data) < count:
            try:
                data += await with_timeout(self.heard.get(), _SILENT_BITS * self.bit_ns, "ns")
            except cocotb.triggers.SimTimeoutError:
                break
        return self._spoil(data) if data else data

    def _spoil(self, data: bytes) -> bytes:
        data = b"".join(self._spoil_byte(bytes([byte])) for byte in data)
        if not data or self.random.random() >= self.badness:
            return data
        self.spoiled += 1
        at = self.random.randrange(len(data))
        before, byte, after = data[:at], data[at : at + 1], data[at + 1 :]
        return self.random.choice([
            *(before + spoiled + after for spoiled in self._spoiled(byte)),
            self.random.randbytes(3) + data,
            data + data,
        ])  # fmt: skip

    def _spoil_byte(self, byte: bytes) -> bytes:
        if self.random.random() >= self.byte_badness:
            return byte
        self.spoiled += 1
        return self.random.choice(self._spoiled(byte))

    def _spoiled(self, byte: bytes) -> list[bytes]:
        """A byte lost, doubled and changed in one bit."""
        return [b"", byte + byte, bytes([byte[0] ^ 1 << self.random.randrange(8)])]

    async def _listen(self) -> None:
        while True:
            await FallingEdge(self.dut.tx)
            await Timer(self.bit_ns * 3 // 2, "ns")
            byte = 0
            for bit in range(8):
                byte |= int(self.dut.tx.value) << bit
                await Timer(self.bit_ns, "ns")
            assert self.dut.tx.value == 1, "no stop bit"
            self.heard.put_nowait(bytes([byte]))


@cocotb.test(timeout_time=1, timeout_unit="sec")
async def program(dut) -> None:
    """``image``, which adds 5 to what it receives, is loaded and run; then one that faults, and the button is pressed.

    ``badness`` is that of the line: whatever it does, every frame is executed once and every word arrives.
    """
    given = parameters()
    image = Image.load(given["image"])
    await _power_up(dut)
    line = PinLine(dut, given["divisor"], given["badness"], seed=given["seed"])
    device = TileDevice(SerialTransport(line), image.config)
    await device.load(image)
    for section in image.sections:
        loaded = await device.read_window(section.window, section.address, len(section.words))
        assert np.array_equal(loaded, section.words), section.window
    await device.reset()
    for number in range(4):
        await device.push(number)
        assert await device.register(Register.INBOX_LEVEL) == number + 1, "a word was pushed twice, or never"
    assert await _sum(dut, device) == 42

    nonsense = np.full((1, beats(image.config, Window.PROGRAM)), 0xFFFF_FFFF, np.uint32)
    await device.write_window(Window.PROGRAM, nonsense)
    await device.start([])
    assert await device.finish() & Status.FAULTED
    assert (int(dut.running.value), int(dut.faulted.value)) == (0, 1)

    dut.button.value = 1
    await ClockCycles(dut.clk, 10)
    dut.button.value = 0
    await ClockCycles(dut.clk, _POWER_UP_CYCLES)
    assert (int(dut.running.value), int(dut.faulted.value)) == (0, 0)
    await device.load(image)
    assert await _sum(dut, device) == 42
    assert (line.spoiled > 0) == (given["badness"] > 0)
    assert given["badness"] or device.transport.retries == 0


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def load(dut) -> None:
    """``image`` is loaded while ``byte_badness`` of the bytes get lost, doubled or changed: it arrives as it is.

    Where an ``error`` is given, the load fails with that text, and no word of the memories is a wrong one.
    """
    given = parameters()
    image = Image.load(given["image"])
    await _power_up(dut)
    line = PinLine(dut, given["divisor"], byte_badness=given["byte_badness"], seed=given["seed"])
    device = TileDevice(SerialTransport(line), image.config)
    said = None
    try:
        await device.load(image)
    except LineError as error:
        said = str(error)
    assert (said is None) if given["error"] is None else re.fullmatch(given["error"], said or ""), said
    assert line.spoiled > 0 and device.transport.retries > 0

    line.byte_badness = 0.0
    for section in image.sections:
        loaded = await device.read_window(section.window, section.address, len(section.words))
        is_right = loaded == section.words
        assert np.all(is_right if said is None else is_right | (loaded == 0)), section.window


async def _power_up(dut) -> None:
    dut.rx.value = 1
    dut.button.value = 0
    start_clock(dut.clk)
    await ClockCycles(dut.clk, _POWER_UP_CYCLES)


async def _sum(dut, device: TileDevice) -> int:
    """What the program makes of 37; the light shines while it waits for it."""
    await device.start([])
    assert dut.running.value == 1
    await device.push(37)
    post = await device.next_post()
    assert post is not None
    assert await device.next_post() is None, "it sends once and halts"
    assert dut.running.value == 0
    return post[0]


@cocotb.test(timeout_time=10, timeout_unit="sec")
async def port(dut) -> None:
    """The board becomes a serial port of this machine, which ``port`` leads to until someone removes it."""
    given = parameters()
    await _power_up(dut)
    line = PinLine(dut, given["divisor"])
    board, host = os.openpty()
    tty.setraw(host)
    os.set_blocking(board, False)
    link = Path(given["port"])
    link.symlink_to(os.ttyname(host))
    cocotb.start_soon(_hand_on(line, board))
    while link.is_symlink():
        try:
            await line.send(os.read(board, 64))
        except BlockingIOError:
            await ClockCycles(dut.clk, _POLL_CYCLES)


async def _hand_on(line: PinLine, board: int) -> None:
    while True:
        os.write(board, await line.heard.get())
