"""What is inside a board's pins: clock, reset, the tile behind its serial line, and lights."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig
from lpu_isa.serial import BAUD
from lpu_rtl.board.pll import Pll, pll_settings
from lpu_rtl.board.serial import SerialTile
from lpu_rtl.primitives import Technology

__all__ = ["BoardTop"]

_PHASE_BITS = 8  # of the counter that leads out of reset, in cycles of the oscillator
_RATE_TOLERANCE = 0.02
_LEAST_DIVISOR = 4


class BoardTop(wiring.Component):
    """A tile on a board, whatever the board's name. It relies on the initial values of registers, as an FPGA has them.

    Parameters
    ----------
    config : TileConfig
    oscillator_hz : frequency of ``clk``.
    clock_hz : of the tile, made by a `Pll`.
    baud : bits a second of the serial line.
    technology : Technology

    Ports
    -----
    clk : In(1)         The board's oscillator.
    button : In(1)      Resets while high. Asynchronous.
    rx : In(1)          From the host. Asynchronous.
    tx : Out(1)         To the host.
    heartbeat : Out(1)  Blinks once in one to two seconds.
    running : Out(1)    The tile runs.
    faulted : Out(1)    The tile has stopped with a fault.

    Raises ValueError for a clock that the PLL cannot make, and for a rate that the clock does not hit within 2 %.
    """

    def __init__(
        self,
        config: TileConfig,
        oscillator_hz: int,
        clock_hz: int,
        baud: int = BAUD,
        technology: Technology = Technology.GENERIC,
    ) -> None:
        self._config, self._technology, self._clock_hz = config, technology, clock_hz
        self._divisor = _divisor(clock_hz, baud)
        self._settings = pll_settings(oscillator_hz, clock_hz)
        super().__init__({
            "clk": In(1), "button": In(1), "rx": In(1), "tx": Out(1),
            "heartbeat": Out(1), "running": Out(1), "faulted": Out(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.pll = pll = Pll(self._settings, self._technology)
        m.submodules.tile = tile = SerialTile(self._config, self._divisor, self._technology)
        m.domains.sync = ClockDomain()
        m.domains.board = ClockDomain(reset_less=True, local=True)
        m.d.comb += [pll.clk.eq(self.clk), ClockSignal("board").eq(self.clk), ClockSignal().eq(pll.output)]

        # A reset goes to too many registers to reach them within a cycle. So it is no signal of the tile's clock: first
        # both are on, then the clock stands still while the reset is lifted.
        usable = Signal(2)
        m.submodules.usable = FFSynchronizer(Cat(pll.locked, ~self.button), usable, o_domain="board")
        phase = Signal(_PHASE_BITS)
        reset, enable = Signal(init=1), Signal(init=1)
        m.d.board += [reset.eq(~phase[-2:].all()), enable.eq(~phase[-1] | phase.all())]
        with m.If(~usable.all()):
            m.d.board += phase.eq(0)
        with m.Elif(~phase.all()):
            m.d.board += phase.eq(phase + 1)
        m.d.comb += [ResetSignal().eq(reset), pll.enable.eq(enable)]

        beat = Signal(self._clock_hz.bit_length())
        m.d.sync += beat.eq(beat + 1)
        m.d.comb += [
            tile.rx.eq(self.rx),
            self.tx.eq(tile.tx),
            self.heartbeat.eq(beat[-1]),
            self.running.eq(tile.running),
            self.faulted.eq(tile.faulted),
        ]
        return m


def _divisor(clock_hz: int, baud: int) -> int:
    """Cycles a bit of the serial line. Raises ValueError when no whole number comes near enough."""
    divisor = round(clock_hz / baud)
    if divisor < _LEAST_DIVISOR:
        raise ValueError(f"{baud} baud must be at most a quarter of the clock, {clock_hz} Hz")
    if abs(clock_hz / divisor / baud - 1) > _RATE_TOLERANCE:
        raise ValueError(f"{baud} baud cannot be had from {clock_hz} Hz: the nearest is {clock_hz // divisor} baud")
    return divisor
