"""Host port: the AXI4-Lite register map and the windows onto the memories. All words are 32 bits, little-endian.

Byte address bits 23..20 choose a region: 0 the registers, 1.. the memory windows in the order of `Window`. Within a
window a memory word takes ``stride(window)`` bytes (a power of two), its 32-bit beats lowest first. A window may be
accessed only while the tile does not run, a memory of data also while it waits in RECV (else SLVERR, nothing
changed). Strobes: the weight window takes any strobe, every other window and register takes 15 (0 changes nothing
and answers OK; anything else is SLVERR).
"""

from enum import IntEnum

from .bundle import BundleFormat
from .config import TileConfig

__all__ = ["Control", "Register", "Status", "Window", "ADDRESS_BITS", "MAGIC", "REGION_SHIFT", "depth", "stride",
           "beats"]  # fmt: skip

ADDRESS_BITS = 24
REGION_SHIFT = 20
MAGIC = 0x4C50_5531
"""Reads from ID: the letters 1UPL."""


class Register(IntEnum):
    """Byte addresses in region 0; the comment says how it is accessed."""

    ID = 0x00  # read: MAGIC
    FINGERPRINT = 0x04  # read: low 32 bits of the tile's fingerprint
    CONTROL = 0x08  # write: bits of `Control`; reads as 0
    STATUS = 0x0C  # read: bits of `Status`
    FAULT = 0x10  # read: fault code
    FAULT_PC = 0x14  # read: bundle that was last issued when the fault was raised
    CYCLES_LOW = 0x18  # read: cycles since start; a cycle spent waiting in RECV is not counted
    CYCLES_HIGH = 0x1C  # read
    INBOX = 0x20  # write: one word into the inbox; SLVERR when full
    INBOX_LEVEL = 0x24  # read: words in the inbox
    OUTBOX = 0x28  # read: oldest word, taken out; SLVERR when empty
    OUTBOX_STAMP = 0x2C  # read: low 32 bits of the cycle counter when the word last read from OUTBOX was sent
    OUTBOX_LEVEL = 0x30  # read: words in the outbox
    CLAMPED = 0x34  # read: lanes that a quantiser with scale 1 clamped since start; stays at 2**32 - 1
    SCALARS = 0x80  # read: 32 scalar registers


class Control(IntEnum):
    """Bits of CONTROL."""

    START = 1  # clear faults, counters and mailboxes' outbox, start at bundle 0; ignored while running
    STOP = 2  # stop as HALT does
    RESET = 4  # stop; clear faults, counters, both mailboxes and scalar registers. Memories are kept.


class Status(IntEnum):
    """Bits of STATUS."""

    RUNNING = 1
    WAITING = 2  # running, and waiting in RECV
    HALTED = 4  # stopped by HALT or STOP since the last start
    FAULTED = 8


class Window(IntEnum):
    """Region number of each memory window."""

    PROGRAM = 1  # word: a bundle, `BundleFormat.beats` beats
    TIMING = 2  # word: 12 bits in one beat
    WMEM = 3  # word: rows x cols int8, row by row
    VMEM = 4  # word: rows floats, a beat each
    SMEM = 5  # the same
    ACC = 6  # read only. word: rows sums, two beats each, sign-extended
    ACT = 7  # read only. word: cols int8 as cols / 4 beats, then the block code


TIMING_BITS = 12


def beats(config: TileConfig, window: Window) -> int:
    """32-bit beats of one memory word."""
    return {
        Window.PROGRAM: BundleFormat(config).beats,
        Window.TIMING: 1,
        Window.WMEM: config.multipliers // 4,
        Window.VMEM: config.rows,
        Window.SMEM: config.rows,
        Window.ACC: 2 * config.rows,
        Window.ACT: config.cols // 4 + 1,
    }[window]


def stride(config: TileConfig, window: Window) -> int:
    """Bytes from one memory word to the next."""
    return 4 << (beats(config, window) - 1).bit_length()


def depth(config: TileConfig, window: Window) -> int:
    """Words of a memory."""
    return {
        Window.PROGRAM: config.bundles,
        Window.TIMING: config.timings,
        Window.WMEM: config.wmem_words,
        Window.VMEM: config.vmem_words,
        Window.SMEM: config.smem_words,
        Window.ACC: config.accumulators,
        Window.ACT: config.act_blocks,
    }[window]
