"""Transport over a line of bytes that may lose, invent or change some: framed, checked, retried."""

import zlib
from typing import Protocol

import numpy as np

from lpu_isa.host import Register, Status
from lpu_isa.serial import ANSWER_MARK, MAX_WORDS, REQUEST_MARK, SEQUENCE_ANEW, WRITE_BIT

__all__ = ["ByteLine", "LineError", "SerialTransport", "answer_words", "request_frame"]

_ATTEMPTS = 8
_LAST_SEQUENCE = 255
_ANSWER_OVERHEAD = 7


class LineError(OSError):
    """The board does not answer, whatever is repeated."""


class ByteLine(Protocol):
    """Bytes to and from a board, such as a serial port or two pins in a simulator."""

    async def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        ...

    async def receive(self, count: int) -> bytes:
        """At most ``count`` bytes; fewer when the line falls silent for as long as ends a frame."""
        ...


def request_frame(sequence: int, address: int, n_words: int, words: np.ndarray | None = None) -> bytes:
    """A read of ``n_words`` or, with uint32 ``words`` (n_words,), a write."""
    kind = n_words - 1 | (0 if words is None else WRITE_BIT)
    payload = b"" if words is None else np.asarray(words, "<u4").tobytes()
    body = bytes([sequence, kind]) + address.to_bytes(4, "little") + payload
    return bytes([REQUEST_MARK]) + body + zlib.crc32(body).to_bytes(4, "little")


def answer_words(data: bytes, sequence: int, n_words: int) -> tuple[int, np.ndarray] | None:
    """Status and uint32 (n_words,) of the answer to ``sequence`` anywhere in ``data``; None when it is not there."""
    length = _ANSWER_OVERHEAD + 4 * n_words
    for start in range(len(data) - length + 1):
        frame = data[start : start + length]
        if frame[0] == ANSWER_MARK and frame[1] == sequence:
            if zlib.crc32(frame[1:-4]) == int.from_bytes(frame[-4:], "little"):
                return frame[2], np.frombuffer(frame[3:-4], "<u4")
    return None


class SerialTransport:
    """Carries out `lpu_sw.host.protocol.Transport` on a `ByteLine`."""

    def __init__(self, line: ByteLine) -> None:
        self.line = line
        self.retries = 0
        self._sequence = SEQUENCE_ANEW

    async def read(self, address: int, n_words: int) -> np.ndarray:
        """uint32 (n_words,) from byte ``address`` onwards. Raises ``OSError`` when the tile refuses."""
        parts = [
            await self._exchange(address + 4 * first, min(MAX_WORDS, n_words - first))
            for first in range(0, n_words, MAX_WORDS)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint32)

    async def write(self, address: int, words: np.ndarray) -> None:
        """Write uint32 words from byte ``address`` onwards. Raises ``OSError`` when the tile refuses."""
        for first in range(0, len(words), MAX_WORDS):
            part = words[first : first + MAX_WORDS]
            await self._exchange(address + 4 * first, len(part), part)

    async def attention(self) -> None:
        """Poll until the tile has halted or faulted, or its outbox holds a word."""
        while not int((await self.read(Register.STATUS, 1))[0]) & (Status.HALTED | Status.FAULTED):
            if (await self.read(Register.OUTBOX_LEVEL, 1))[0]:
                return

    async def _exchange(self, address: int, n_words: int, words: np.ndarray | None = None) -> np.ndarray:
        if self._sequence == SEQUENCE_ANEW:
            await self._deliver(Register.ID, 1, None)
            self._sequence = 1
        status, answer = await self._deliver(address, n_words, words)
        self._sequence = self._sequence % _LAST_SEQUENCE + 1
        if status:
            raise OSError(f"{'read' if words is None else 'write'} of {n_words} words at {address:#08x} was refused")
        return answer

    async def _deliver(self, address: int, n_words: int, words: np.ndarray | None) -> tuple[int, np.ndarray]:
        frame = request_frame(self._sequence, address, n_words, words)
        n_back = n_words if words is None else 0
        for _ in range(_ATTEMPTS):
            await self.line.send(frame)
            heard = b""
            while part := await self.line.receive(_ANSWER_OVERHEAD + 4 * n_back):
                heard += part
                if (found := answer_words(heard, self._sequence, n_back)) is not None:
                    return found
            self.retries += 1
        raise LineError(f"no answer from the board after {_ATTEMPTS} attempts at address {address:#08x}")
