"""Engine ``board``: a job on a tile at the other end of a serial port."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from lpu_isa.host import Register
from lpu_isa.serial import BAUD
from lpu_sw.engines import EngineError, Job, driven
from lpu_sw.host.decode import Post, decode
from lpu_sw.host.port import PortLine
from lpu_sw.host.protocol import DeviceError, TileDevice
from lpu_sw.host.serial import SerialTransport

__all__ = ["BoardEngine", "PortEngine"]


@runtime_checkable
class PortEngine(Protocol):
    """An engine behind a serial port. port, baud : to be set before `prepare`."""

    port: str | None
    baud: int


class BoardEngine:
    """The host's code of every other engine, on a `SerialTransport`.

    cpu_seconds : processor time of the host. port, baud : see `PortEngine`.
    """

    needs_tile = True

    def __init__(self) -> None:
        self.clamped = 0
        self.cpu_seconds = 0.0
        self.port: str | None = None
        self.baud = BAUD
        self._opened: tuple[PortLine, TileDevice] | None = None

    def prepare(self, job: Job, say: Callable[[str], None]) -> None:
        """Find the tile and load the image into it. Raises `EngineError`."""
        if self.port is None:
            raise EngineError("engine board needs a serial port, as in --port /dev/ttyUSB0")
        try:
            line = PortLine(self.port, self.baud)
            device = TileDevice(SerialTransport(line), job.compiled.program.config)
            say(f"loading the model through {self.port}")
            asyncio.run(device.load(job.image))
        except (OSError, DeviceError) as error:
            raise EngineError(str(error)) from None
        self._opened = line, device

    def generate(self, job: Job) -> Iterator[Post]:
        """Run the request, giving each post when it comes; see `lpu_sw.engines.Engine`."""
        if self._opened is None:
            self.prepare(job, lambda line: None)
        opened, self._opened = self._opened, None
        assert opened is not None
        line, device = opened
        start = time.process_time()
        try:
            yield from driven(decode(device, job.compiled.facts, job.request))
            self.clamped = asyncio.run(device.register(Register.CLAMPED))
        except OSError as error:
            raise EngineError(str(error)) from None
        finally:
            line.close()
        self.cpu_seconds = time.process_time() - start
