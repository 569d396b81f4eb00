"""Frames of `lpu_isa.serial` carried out on the tile's host port, each at most once."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.crc import catalog
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lpu_isa.serial import ANSWER_MARK, MAX_WORDS, REQUEST_MARK, SEQUENCE_ANEW
from lpu_rtl.host import AxiLite
from lpu_rtl.primitives import LUT_RAM

__all__ = ["FrameBridge"]

_HEADER_BYTES = 6
_CRC_BYTES = 4


class FrameBridge(wiring.Component):
    """A request is executed once its CRC has been found right; what arrives until the answer has gone is not heard.

    gap : cycles of silence within a frame after which it is given up.
    axi : Out(AxiLite)             The tile's host port.
    rx_valid, rx_data : In(1, 8)   A byte has arrived.
    tx_valid, tx_data : Out(1, 8)  A byte to send; taken with tx_ready : In(1).
    """

    def __init__(self, gap: int) -> None:
        self._gap = gap
        super().__init__({
            "axi": Out(AxiLite),
            "rx_valid": In(1), "rx_data": In(8),
            "tx_valid": Out(1), "tx_data": Out(8), "tx_ready": In(1),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        crc: Any = catalog.CRC32_ISO_HDLC(data_width=8).create()  # its ports are assigned after the checker looks
        m.submodules.crc = crc
        # Two memories: a broken request must not spoil the answer that may have to be repeated. The tile leaves no
        # block RAM to them.
        m.submodules.request = request = Memory(shape=32, depth=MAX_WORDS, init=[], attrs=LUT_RAM)
        m.submodules.answer = answer = Memory(shape=32, depth=MAX_WORDS, init=[], attrs=LUT_RAM)
        request_write, request_read = request.write_port(), request.read_port()
        answer_write, answer_read = answer.write_port(), answer.read_port()

        header = Signal(8 * _HEADER_BYTES)
        sequence, kind, address = header[:8], header[8:16], header[16:]
        last, is_write = kind[:6], kind[7]
        count = Signal(3)  # of bytes
        word = Signal(range(MAX_WORDS))
        shift = Signal(32)
        silence = Signal(range(self._gap + 1))
        done_sequence = Signal(8, init=SEQUENCE_ANEW)
        done_last, done_is_write, refused = Signal(6), Signal(), Signal()
        address_sent, data_sent = Signal(), Signal()
        axi = self.axi
        m.d.comb += [
            axi.awaddr.eq(address), axi.araddr.eq(address), axi.wdata.eq(request_read.data), axi.wstrb.eq(0xF),
            request_write.addr.eq(word), request_read.addr.eq(word),
            request_write.data.eq(Cat(shift[8:], self.rx_data)),
            answer_write.addr.eq(word), answer_read.addr.eq(word), answer_write.data.eq(axi.rdata),
        ]  # fmt: skip
        with m.If(self.rx_valid):
            m.d.sync += [silence.eq(0), shift.eq(Cat(shift[8:], self.rx_data))]
        with m.Elif(silence != self._gap):
            m.d.sync += silence.eq(silence + 1)

        def sends(value: ValueLike) -> None:
            m.d.comb += [self.tx_valid.eq(1), self.tx_data.eq(value)]

        def gives_up_when_silent() -> None:
            with m.Elif(silence == self._gap):
                m.next = "HUNT"

        with m.FSM() as fsm:
            with m.State("HUNT"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += [count.eq(0), word.eq(0)]
                with m.If(self.rx_valid & (self.rx_data == REQUEST_MARK)):
                    m.next = "HEADER"
            with m.State("HEADER"):
                with m.If(self.rx_valid):
                    m.d.sync += [header.eq(Cat(header[8:], self.rx_data)), count.eq(count + 1)]
                    with m.If(count == _HEADER_BYTES - 1):
                        m.d.sync += count.eq(0)
                        # The kind stands one byte above its final place until this byte has shifted in.
                        with m.If(header[23]):
                            m.next = "PAYLOAD"
                        with m.Else():
                            m.next = "CRC"
                gives_up_when_silent()
            with m.State("PAYLOAD"):
                with m.If(self.rx_valid):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == 3):
                        m.d.comb += request_write.en.eq(1)
                        m.d.sync += [count.eq(0), word.eq(word + 1)]
                        with m.If(word == last):
                            m.next = "CRC"
                gives_up_when_silent()
            with m.State("CRC"):
                with m.If(self.rx_valid):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == _CRC_BYTES - 1):
                        m.next = "CHECK"
                gives_up_when_silent()
            with m.State("CHECK"):
                m.d.sync += [word.eq(0), count.eq(0)]
                with m.If(~crc.match_detected):
                    m.next = "HUNT"
                with m.Elif((sequence == done_sequence) & (sequence != SEQUENCE_ANEW)):
                    m.next = "MARK"
                with m.Else():
                    m.d.sync += [
                        done_sequence.eq(sequence), done_last.eq(last), done_is_write.eq(is_write), refused.eq(0),
                    ]  # fmt: skip
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += [address_sent.eq(0), data_sent.eq(0)]
                m.next = "ACCESS"
            with m.State("ACCESS"):
                with m.If(is_write):
                    m.d.comb += [axi.awvalid.eq(~address_sent), axi.wvalid.eq(~data_sent), axi.bready.eq(1)]
                with m.Else():
                    m.d.comb += [axi.arvalid.eq(~address_sent), axi.rready.eq(1), answer_write.en.eq(axi.rvalid)]
                with m.If((axi.awvalid & axi.awready) | (axi.arvalid & axi.arready)):
                    m.d.sync += address_sent.eq(1)
                with m.If(axi.wvalid & axi.wready):
                    m.d.sync += data_sent.eq(1)
                with m.If(Mux(is_write, axi.bvalid, axi.rvalid)):
                    with m.If(Mux(is_write, axi.bresp, axi.rresp) != 0):
                        m.d.sync += refused.eq(1)
                    m.d.sync += [address.eq(address + 4), word.eq(word + 1)]
                    m.next = "FETCH"
                    with m.If(word == last):
                        m.d.sync += word.eq(0)
                        m.next = "MARK"
            with m.State("MARK"):
                m.d.comb += crc.start.eq(1)
                sends(ANSWER_MARK)
                with m.If(self.tx_ready):
                    m.next = "SEQUENCE"
            with m.State("SEQUENCE"):
                sends(done_sequence)
                with m.If(self.tx_ready):
                    m.next = "STATUS"
            with m.State("STATUS"):
                sends(refused)
                with m.If(self.tx_ready):
                    m.next = "SUM"
                    with m.If(~done_is_write):
                        m.next = "WORDS"
            with m.State("WORDS"):
                sends(answer_read.data.word_select(count[:2], 8))
                with m.If(self.tx_ready):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == 3):
                        m.d.sync += [count.eq(0), word.eq(word + 1)]
                        with m.If(word == done_last):
                            m.next = "SUM"
            with m.State("SUM"):
                sends(crc.crc.word_select(count[:2], 8))
                with m.If(self.tx_ready):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == _CRC_BYTES - 1):
                        m.next = "HUNT"

        receiving = fsm.ongoing("HEADER") | fsm.ongoing("PAYLOAD") | fsm.ongoing("CRC")
        summing = fsm.ongoing("SEQUENCE") | fsm.ongoing("STATUS") | fsm.ongoing("WORDS")
        m.d.comb += [
            crc.valid.eq(Mux(receiving, self.rx_valid, summing & self.tx_ready)),
            crc.data.eq(Mux(receiving, self.rx_data, self.tx_data)),
        ]
        return m
