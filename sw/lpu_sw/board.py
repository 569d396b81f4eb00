"""Engine ``board``: a tile at the other end of a serial port."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from lpu_isa.serial import BAUD
from lpu_sw.asm.program import Program
from lpu_sw.engines import EngineError, TileEngine, loaded
from lpu_sw.host.decode import Device
from lpu_sw.host.port import PortLine
from lpu_sw.host.serial import SerialTransport

__all__ = ["BoardEngine", "PortEngine"]


@runtime_checkable
class PortEngine(Protocol):
    """An engine behind a serial port. port, baud : to be set before `prepare`."""

    port: str | None
    baud: int


class BoardEngine(TileEngine):
    """A tile behind a `SerialTransport`. port, baud : see `PortEngine`. cpu_seconds : of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.port: str | None = None
        self.baud = BAUD
        self._line: PortLine | None = None

    def open(self, program: Program, say: Callable[[str], None]) -> Device:
        """Find the tile and load the program into it."""
        if self.port is None:
            raise EngineError("engine board needs a serial port, as in --port /dev/ttyUSB0")
        self._line = PortLine(self.port, self.baud)
        say(f"loading the model through {self.port}")
        return loaded(SerialTransport(self._line), program)

    def close(self) -> None:
        """Give the port back."""
        if self._line is not None:
            self._line.close()
            self._line = None
