"""A serial port of this machine as a line of bytes. It needs pyserial."""

import importlib.util

from lpu_isa.serial import BAUD
from lpu_sw.host.serial import LineError

__all__ = ["PortLine"]

_SILENCE_SECONDS = 0.5  # far more than a frame's gap and the 16 ms that a USB chip may keep bytes back


class PortLine:
    """Carries out `lpu_sw.host.serial.ByteLine`; its awaits never wait for an event loop.

    port : such as ``/dev/ttyUSB0``. baud : bits a second.

    Raises `LineError` when the port cannot be opened, or pyserial is missing.
    """

    def __init__(self, port: str, baud: int = BAUD) -> None:
        if importlib.util.find_spec("serial") is None:
            raise LineError("pyserial is missing: pip install pyserial")
        import serial

        try:
            self._port = serial.Serial(port, baud, timeout=_SILENCE_SECONDS)
        except (serial.SerialException, ValueError) as error:
            raise LineError(f"{port} cannot be opened as a serial port of {baud} baud: {error}") from None

    async def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._port.write(data)

    async def receive(self, count: int) -> bytes:
        """At most ``count`` bytes; fewer when the line falls silent."""
        return self._port.read(count)

    def close(self) -> None:
        """Give the port back."""
        self._port.close()
