"""The tile behind its serial line, bits on the pins: a program loaded and run, on a clean line and on a bad one."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.queue import Queue
from cocotb.triggers import ClockCycles, FallingEdge, Timer, with_timeout

from lpu_isa.host import Register
from lpu_sw.host.protocol import TileDevice
from lpu_sw.host.serial import SerialTransport
from lpu_sw.image import Image

from ..axi import CLOCK_NS
from ..runner import parameters

_SILENT_BITS = 60


class PinLine:
    """Carries out `lpu_sw.host.serial.ByteLine` on the pins ``rx`` and ``tx``.

    badness : share of transfers, each way, that lose a byte, double one, change one or have noise ahead of them.
    """

    def __init__(self, dut, divisor: int, badness: float, seed: int) -> None:
        self.dut, self.badness, self.random = dut, badness, random.Random(seed)
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
        if self.random.random() >= self.badness:
            return data
        self.spoiled += 1
        at = self.random.randrange(len(data))
        before, byte, after = data[:at], data[at : at + 1], data[at + 1 :]
        return self.random.choice([
            before + after,
            before + byte + byte + after,
            before + bytes([byte[0] ^ 1 << self.random.randrange(8)]) + after,
            self.random.randbytes(3) + data,
            data + data,
        ])  # fmt: skip

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
    """``image`` is loaded and started with ``inbox``; its posts are ``expected``, and every frame is executed once."""
    given = parameters()
    image = Image.load(given["image"])
    dut.rx.value = 1
    dut.rst.value = 1
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    line = PinLine(dut, given["divisor"], given["badness"], given["seed"])
    device = TileDevice(SerialTransport(line), image.config)
    await device.load(image)
    await device.reset()
    for number in range(4):
        await device.push(number)
        assert await device.register(Register.INBOX_LEVEL) == number + 1, "a word was pushed twice, or never"
    await device.start(given["inbox"])
    posts = []
    while (post := await device.next_post()) is not None:
        posts.append(post[0])
    assert posts == given["expected"]
    assert dut.attention.value == 1
    assert (line.spoiled > 0) == (given["badness"] > 0)
    assert given["badness"] or device.transport.retries == 0
