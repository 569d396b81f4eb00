"""The host's side of the port: load an image, start, watch, read back, over any transport of 32-bit words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lpu_isa.config import TileConfig
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.fingerprint import fingerprint
from lpu_isa.formats import FloatFormat
from lpu_isa.host import MAGIC, REGION_SHIFT, Control, Register, Status, Window, beats, depth, stride
from lpu_sw.host.decode import MachineFault
from lpu_sw.image import Image

__all__ = ["DeviceError", "TileDevice", "TileSnapshot", "Transport", "window_address"]

_WORD_BYTES = 4


class DeviceError(RuntimeError):
    """What answers is not the tile that was expected."""


class Transport(Protocol):
    """Words to and from a tile, such as AXI4-Lite in a simulator or a serial line to a board."""

    async def read(self, address: int, n_words: int) -> np.ndarray:
        """uint32 (n_words,) from byte ``address`` onwards. Raises ``OSError`` when the tile refuses."""
        ...

    async def write(self, address: int, words: np.ndarray) -> None:
        """Write uint32 words from byte ``address`` onwards. Raises ``OSError`` when the tile refuses."""
        ...

    async def attention(self) -> None:
        """Wait until the tile's ``irq`` is high: it has halted or faulted, or its outbox holds a word."""
        ...


@dataclass(frozen=True)
class TileSnapshot:
    """Everything that the host can read of a stopped tile, besides program and timings.

    windows : uint32 (depth, beats) for WMEM, VMEM, SMEM, ACC, ACT. registers : uint32 (32,). outbox : (word, stamp)
    pairs, which reading has taken out. inbox_level, cycles, clamped, status, fault, fault_pc : as the registers say.
    """

    windows: dict[Window, np.ndarray]
    registers: np.ndarray
    outbox: list[tuple[int, int]]
    inbox_level: int
    cycles: int
    clamped: int
    status: int
    fault: Fault
    fault_pc: int


def window_address(config: TileConfig, window: Window, word: int) -> int:
    """Byte address of a memory word."""
    return (window << REGION_SHIFT) + word * stride(config, window)


class TileDevice:
    """A tile behind a transport; carries out `lpu_sw.host.decode.Device`."""

    def __init__(self, transport: Transport, config: TileConfig) -> None:
        self.transport = transport
        self.config = config

    async def register(self, register: int) -> int:
        """Read one register."""
        return int((await self.transport.read(register, 1))[0])

    async def control(self, bits: int) -> None:
        """Write bits of `Control`."""
        await self.transport.write(Register.CONTROL, np.array([bits], np.uint32))

    async def check(self) -> None:
        """Raise `DeviceError` unless a tile of this configuration answers."""
        found = await self.register(Register.ID)
        if found != MAGIC:
            raise DeviceError(f"found {found:#010x} in the ID register, expected a tile's {MAGIC:#010x}")
        found, expected = await self.register(Register.FINGERPRINT), fingerprint(self.config) & 0xFFFF_FFFF
        if found != expected:
            raise DeviceError(f"found a tile of fingerprint {found:08x}, expected {expected:08x} ({self.config.name})")

    async def write_window(self, window: Window, words: np.ndarray, first: int = 0) -> None:
        """Write memory words: uint32 (n, beats), from word ``first`` on."""
        for address, run in _runs(self.config, window, first, words):
            await self.transport.write(address, run)

    async def read_window(self, window: Window, first: int = 0, count: int | None = None) -> np.ndarray:
        """Memory words, uint32 (count, beats), from word ``first`` on; to the end by default."""
        count = depth(self.config, window) - first if count is None else count
        n_beats = beats(self.config, window)
        if n_beats * _WORD_BYTES == stride(self.config, window):
            words = await self.transport.read(window_address(self.config, window, first), count * n_beats)
            return words.reshape(count, n_beats)
        rows = [
            await self.transport.read(window_address(self.config, window, word), n_beats)
            for word in range(first, first + count)
        ]
        return np.stack(rows) if rows else np.zeros((0, n_beats), np.uint32)

    async def load(self, image: Image) -> None:
        """Check the tile and write an image's program, timings and memory contents. The tile must not run."""
        await self.check()
        await self.write_window(Window.PROGRAM, image.program)
        await self.write_window(Window.TIMING, image.timings.astype(np.uint32)[:, None])
        for section in image.sections:
            await self.write_window(section.window, section.words, section.address)

    async def reset(self) -> None:
        """Stop; clear faults, counters, mailboxes and scalar registers. Memories are kept."""
        await self.control(Control.RESET)

    async def start(self, inbox: Sequence[int]) -> None:
        """Reset, put ``inbox`` into the inbox and start at bundle 0."""
        await self.reset()
        for word in inbox:
            await self.push(word)
        await self.control(Control.START)

    async def push(self, word: int) -> None:
        """Put one more word into the inbox."""
        await self.transport.write(Register.INBOX, np.array([word & 0xFFFF_FFFF], np.uint32))

    async def next_post(self) -> tuple[int, int] | None:
        """Wait for a word in the outbox: (word, cycle stamp), or None when the tile has halted and it is empty.

        Raises `MachineFault` when the tile stopped with a fault.
        """
        while True:
            await self.transport.attention()
            if await self.register(Register.OUTBOX_LEVEL):
                return await self._take()
            status = await self.register(Register.STATUS)
            if status & Status.FAULTED:
                raise MachineFault(Fault(await self.register(Register.FAULT)), await self.register(Register.FAULT_PC))
            if status & Status.HALTED and not await self.register(Register.OUTBOX_LEVEL):
                return None

    async def finish(self) -> int:
        """Wait until the tile has stopped, leaving the outbox alone; returns STATUS."""
        while not (status := await self.register(Register.STATUS)) & (Status.HALTED | Status.FAULTED):
            await self.transport.attention()
        return status

    async def read_vectors(self, first: int, count: int) -> np.ndarray:
        """Words of vector SRAM as soon as the tile waits or has stopped, decoded: float64 (count, rows)."""
        while (await self.register(Register.STATUS)) & (Status.RUNNING | Status.WAITING) == Status.RUNNING:
            pass  # between a SEND and the RECV behind it lie a few cycles
        words = await self.read_window(Window.VMEM, first, count)
        return FloatFormat(self.config.significand_bits).decode(words)

    async def write_vectors(self, first: int, vectors: np.ndarray) -> None:
        """Write words of vector SRAM while the tile is halted: float64 (count, rows), values of its format."""
        await self.write_window(Window.VMEM, FloatFormat(self.config.significand_bits).encode(vectors), first)

    async def stop(self) -> None:
        """End the run."""
        await self.control(Control.STOP)

    async def clamped(self) -> int:
        """Lanes that quantisers of fixed scale have clamped since the start."""
        return await self.register(Register.CLAMPED)

    async def snapshot(self) -> TileSnapshot:
        """Read everything of a stopped tile; this empties the outbox."""
        windows = {
            window: await self.read_window(window) for window in Window if window not in (Window.PROGRAM, Window.TIMING)
        }
        cycles = await self.register(Register.CYCLES_LOW) | (await self.register(Register.CYCLES_HIGH)) << 32
        return TileSnapshot(
            windows=windows,
            registers=await self.transport.read(Register.SCALARS, REGISTERS),
            outbox=[await self._take() for _ in range(await self.register(Register.OUTBOX_LEVEL))],
            inbox_level=await self.register(Register.INBOX_LEVEL),
            cycles=cycles,
            clamped=await self.clamped(),
            status=await self.register(Register.STATUS),
            fault=Fault(await self.register(Register.FAULT)),
            fault_pc=await self.register(Register.FAULT_PC),
        )

    async def _take(self) -> tuple[int, int]:
        word, stamp = await self.transport.read(Register.OUTBOX, 2)  # the stamp's register is the next one
        return int(word), int(stamp)


def _runs(config: TileConfig, window: Window, first: int, words: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Byte addresses and words of the stretches that lie side by side: all of it, or one a memory word."""
    words = np.ascontiguousarray(words, np.uint32)
    if words.shape[1] * _WORD_BYTES == stride(config, window):
        return [(window_address(config, window, first), words.reshape(-1))] if len(words) else []
    return [(window_address(config, window, first + index), row) for index, row in enumerate(words)]
