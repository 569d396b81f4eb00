"""Asynchronous serial line: 8 data bits, no parity, 1 stop bit, least significant bit first."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter"]


class UartReceiver(wiring.Component):
    """Bytes from a pin. A byte without its stop bit is dropped.

    divisor : cycles a bit, at least 4.
    rx : In(1)      The pin, asynchronous.
    valid : Out(1)  A byte has arrived, for one cycle.
    data : Out(8)   The byte.
    """

    def __init__(self, divisor: int) -> None:
        if divisor < 4:
            raise ValueError(f"divisor must be at least 4, not {divisor}")
        self._divisor = divisor
        super().__init__({"rx": In(1), "valid": Out(1), "data": Out(8)})

    def elaborate(self, platform) -> Module:
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, rx, init=1)
        timer = Signal(range(self._divisor))
        count = Signal(range(10))
        m.d.sync += self.valid.eq(0)
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [timer.eq(self._divisor // 2 - 1), count.eq(0)]
                with m.If(~rx):
                    m.next = "BITS"
            with m.State("BITS"):
                with m.If(timer == 0):
                    m.d.sync += [timer.eq(self._divisor - 1), count.eq(count + 1)]
                    with m.If(count == 0):
                        with m.If(rx):  # a glitch, not a start bit
                            m.next = "IDLE"
                    with m.Elif(count == 9):
                        # Half of a good stop bit is still to come: the next start bit must be waited for from now on.
                        m.d.sync += self.valid.eq(rx)
                        m.next = "BROKEN"
                        with m.If(rx):
                            m.next = "IDLE"
                    with m.Else():
                        m.d.sync += self.data.eq(Cat(self.data[1:], rx))
            with m.State("BROKEN"):
                with m.If(rx):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a pin.

    divisor : cycles a bit, at least 4.
    tx : Out(1)            The pin.
    valid, data : In(1, 8) A byte to send; taken when ``ready``.
    ready : Out(1)         Nothing is being sent.
    """

    def __init__(self, divisor: int) -> None:
        if divisor < 4:
            raise ValueError(f"divisor must be at least 4, not {divisor}")
        self._divisor = divisor
        super().__init__({"tx": Out(1), "valid": In(1), "data": In(8), "ready": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        timer = Signal(range(self._divisor))
        left = Signal(range(11))
        bits = Signal(10, init=0x3FF)
        m.d.comb += [self.ready.eq(left == 0), self.tx.eq(bits[0])]
        with m.If(left == 0):
            with m.If(self.valid):
                m.d.sync += [bits.eq(Cat(0, self.data, 1)), left.eq(10), timer.eq(self._divisor - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [bits.eq(Cat(bits[1:], 1)), left.eq(left - 1), timer.eq(self._divisor - 1)]
        return m
