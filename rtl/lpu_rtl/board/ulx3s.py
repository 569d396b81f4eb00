"""The ULX3S, a board with an ECP5: which of its pins does what."""

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io
from amaranth.lib.wiring import In

from lpu_isa.config import TileConfig
from lpu_isa.serial import BAUD
from lpu_rtl.board.top import BoardTop
from lpu_rtl.primitives import Technology

__all__ = ["OSCILLATOR_HZ", "Ulx3s"]

OSCILLATOR_HZ = 25_000_000


class Ulx3s(Elaboratable):
    """`BoardTop` on the pins of ``amaranth_boards.ulx3s``, by the names of that package.

    Lights: D0 heartbeat, D1 running, D2 faulted. Button FIRE1 resets. The serial line is that of the USB port US1.
    """

    def __init__(self, config: TileConfig, clock_hz: int, baud: int = BAUD) -> None:
        self._top = BoardTop(config, OSCILLATOR_HZ, clock_hz, baud, Technology.ECP5)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.top = top = self._top
        line = platform.request("uart", dir=dict.fromkeys(("rx", "tx", "rts", "dtr"), "-"))
        lights = [platform.request("led", number, dir="-") for number in range(3)]
        pins = {
            "clk": platform.request("clk25", dir="-"),
            "button": platform.request("button_fire", 0, dir="-"),
            "rx": line.rx,
            "tx": line.tx,
            "heartbeat": lights[0],
            "running": lights[1],
            "faulted": lights[2],
        }
        for name, pin in pins.items():
            signal, is_input = getattr(top, name), top.signature.members[name].flow is In
            m.submodules[f"{name}_pin"] = buffer = io.Buffer("i" if is_input else "o", pin)
            m.d.comb += signal.eq(buffer.i) if is_input else buffer.o.eq(signal)
        return m
