"""A tile behind a serial line, in one clock domain."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from lpu_isa.config import TileConfig
from lpu_rtl.board.bridge import FrameBridge
from lpu_rtl.board.uart import UartReceiver, UartTransmitter
from lpu_rtl.primitives import Technology
from lpu_rtl.tile import Tile

__all__ = ["SerialTile"]

_GAP_BITS = 40


class SerialTile(wiring.Component):
    """Tile, frame bridge and serial line.

    divisor : cycles a bit of the line, at least 4.
    rx : In(1), tx : Out(1)    The line.
    running, faulted : Out(1)  As the tile's.
    """

    def __init__(self, config: TileConfig, divisor: int, technology: Technology = Technology.GENERIC) -> None:
        self._config, self._divisor, self._technology = config, divisor, technology
        super().__init__({"rx": In(1), "tx": Out(1), "running": Out(1), "faulted": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.tile = tile = Tile(self._config, self._technology)
        m.submodules.bridge = bridge = FrameBridge(_GAP_BITS * self._divisor)
        m.submodules.receiver = receiver = UartReceiver(self._divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(self._divisor)
        connect(m, bridge.axi, tile.host)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            bridge.rx_valid.eq(receiver.valid),
            bridge.rx_data.eq(receiver.data),
            transmitter.valid.eq(bridge.tx_valid),
            transmitter.data.eq(bridge.tx_data),
            bridge.tx_ready.eq(transmitter.ready),
            self.tx.eq(transmitter.tx),
            self.running.eq(tile.running),
            self.faulted.eq(tile.faulted),
        ]
        return m
