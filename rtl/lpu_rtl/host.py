"""Host port: an AXI4-Lite slave onto the registers, the mailboxes and the windows of `lpu_isa.host`."""

from collections.abc import Mapping
from functools import reduce
from operator import or_

from amaranth import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, Signature

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.fields import REGISTERS
from lpu_isa.fingerprint import fingerprint
from lpu_isa.host import ADDRESS_BITS, MAGIC, REGION_SHIFT, Control, Register, Status, Window

from .float.encoding import gated
from .icu import outbox_layout
from .interfaces import FAULT_BITS, RegisterRead
from .windows import READ_LATENCY, WindowRead, WindowWrite

__all__ = ["AxiLite", "Host"]

_OKAY, _SLVERR = 0, 2
_ALL_BYTES = 0b1111
_WORD_SHIFT = 2  # byte address to 32-bit word
_SETTLING = 3  # cycles after a write of the control register, until what it changes can be read

AxiLite = Signature({
    "awvalid": Out(1), "awready": In(1), "awaddr": Out(ADDRESS_BITS), "awprot": Out(3),
    "wvalid": Out(1), "wready": In(1), "wdata": Out(32), "wstrb": Out(4),
    "bvalid": In(1), "bready": Out(1), "bresp": In(2),
    "arvalid": Out(1), "arready": In(1), "araddr": Out(ADDRESS_BITS), "arprot": Out(3),
    "rvalid": In(1), "rready": Out(1), "rdata": In(32), "rresp": In(2),
})  # fmt: skip
"""AXI4-Lite of 32 bits (ARM IHI 0022), from the master's side. Protection bits are ignored."""


class Host(wiring.Component):
    """The tile's registers and mailboxes, and the way to its memories.

    Parameters
    ----------
    config : TileConfig

    Ports
    -----
    axi : In(AxiLite)                           Address and data of a write come in any order; one write and one read
                                                are under way at a time, and do not wait for each other.
    irq : Out(1)                                The tile has halted or faulted, or the outbox holds a word.
    start, stop, reset : Out(1)                 Bits of `Control`, for one cycle.
    running, waiting, halted, clearing : In(1)  From the sequencer.
    fault, fault_pc, cycles : In                What the host reads.
    clamped : In                                Lanes that were clamped in this cycle; the host reads their sum.
    inbox, outbox : streams                     To and from the sequencer.
    register_read : Out(RegisterRead)           Scalar registers.
    read, write : Out(WindowRead, WindowWrite)  Memories; asked only while the tile does not run, or waits for a word.
    """

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        super().__init__({
            "axi": In(AxiLite),
            "irq": Out(1),
            "start": Out(1),
            "stop": Out(1),
            "reset": Out(1),
            "running": In(1),
            "waiting": In(1),
            "halted": In(1),
            "clearing": In(1),
            "fault": In(FAULT_BITS),
            "fault_pc": In(address_bits(config.bundles)),
            "cycles": In(64),
            "clamped": In(range(config.rows + 1)),
            "inbox": Out(stream.Signature(32)),
            "outbox": In(stream.Signature(outbox_layout)),
            "register_read": Out(RegisterRead),
            "read": Out(WindowRead),
            "write": Out(WindowWrite),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        depth = self.config.mailbox_words
        begins = self.reset | (self.start & ~self.running)
        inbox = SyncFIFOBuffered(width=32, depth=depth)
        outbox = SyncFIFOBuffered(width=outbox_layout.size, depth=depth)
        m.submodules.inbox = ResetInserter(self.reset)(inbox)
        m.submodules.outbox = ResetInserter(begins)(outbox)
        in_all = self._give(m, inbox)
        m.d.comb += [
            outbox.w_data.eq(self.outbox.payload),
            outbox.w_en.eq(self.outbox.valid),
            self.outbox.ready.eq(outbox.w_rdy),
            self.irq.eq(self.halted | (self.fault != 0) | outbox.r_rdy),
        ]
        clamped, coming, sum_ = Signal(32), Signal.like(self.clamped), Signal(33)
        m.d.comb += sum_.eq(clamped + coming)
        m.d.sync += coming.eq(self.clamped)
        m.d.sync += clamped.eq(Mux(begins, 0, Mux(sum_[-1], 0xFFFF_FFFF, sum_)))
        occupied = Signal()
        m.d.sync += occupied.eq(self.running | self.start)
        controls = Signal()  # the host writes the control register in this cycle
        settling = Signal(_SETTLING)
        m.d.sync += settling.eq(Cat(controls, settling))
        self._read(m, occupied, self.clearing | settling.any(), clamped, in_all, outbox)
        self._write(m, occupied, controls, inbox, in_all)
        return m

    def _give(self, m: Module, inbox: SyncFIFOBuffered) -> Signal:
        """Words for the tile, from a register behind the block RAM; returns how many there are."""
        word, is_held = Signal(32, reset_less=True), Signal()
        in_all = Signal(range(self.config.mailbox_words + 2))
        m.d.comb += [
            self.inbox.payload.eq(word),
            self.inbox.valid.eq(is_held),
            inbox.r_en.eq(~is_held),
            in_all.eq(inbox.level + is_held),
        ]
        with m.If(~is_held):
            m.d.sync += [word.eq(inbox.r_data), is_held.eq(inbox.r_rdy & ~self.reset)]
        with m.Elif(self.inbox.ready | self.reset):
            m.d.sync += is_held.eq(0)
        return in_all

    def _may_access(self, address: Value, occupied: Signal) -> Value:
        """Whether the memories behind a byte address are free: a waiting tile still fetches bundles."""
        fetched = (address[REGION_SHIFT:] == Window.PROGRAM) | (address[REGION_SHIFT:] == Window.TIMING)
        return ~occupied | (self.waiting & ~fetched)

    def _read(
        self,
        m: Module,
        occupied: Signal,
        waits: Value,
        clamped: Signal,
        in_all: Signal,
        outbox: SyncFIFOBuffered,
    ) -> None:
        axi = self.axi
        address = Signal(ADDRESS_BITS)
        taken = Signal(outbox_layout)  # the word read last from the outbox
        head = Signal(outbox_layout, reset_less=True)  # the one that is next, registered behind the block RAM
        m.d.sync += head.eq(outbox.r_data)
        status = {
            Status.RUNNING: self.running,
            Status.WAITING: self.waiting,
            Status.HALTED: self.halted,
            Status.FAULTED: self.fault != 0,
        }
        registers = {
            Register.ID: MAGIC,
            Register.FINGERPRINT: fingerprint(self.config) & 0xFFFF_FFFF,
            Register.CONTROL: 0,
            Register.STATUS: _flags(status),
            Register.FAULT: self.fault,
            Register.FAULT_PC: self.fault_pc,
            Register.CYCLES_LOW: self.cycles[:32],
            Register.CYCLES_HIGH: self.cycles[32:],
            Register.INBOX_LEVEL: in_all,
            Register.OUTBOX: head.word,
            Register.OUTBOX_STAMP: taken.stamp,
            Register.OUTBOX_LEVEL: outbox.level,
            Register.CLAMPED: clamped,
        }
        offset = address[_WORD_SHIFT:REGION_SHIFT]
        first_scalar = Register.SCALARS >> _WORD_SHIFT
        is_meant = Cat(
            *(offset == register >> _WORD_SHIFT for register in registers),
            (offset >= first_scalar) & (offset < first_scalar + REGISTERS),
        )
        chosen = Signal.like(is_meant)
        contents = [Value.cast(content) for content in (*registers.values(), self.register_read.data)]
        value = reduce(or_, (gated(content, on) for content, on in zip(contents, chosen, strict=True)))
        m.d.comb += [
            self.register_read.index.eq(offset - first_scalar),
            self.read.address.eq(address),
        ]

        in_registers = address[REGION_SHIFT:] == 0
        answers, takes, fetches = Signal(), Signal(), Signal()
        cycle = Signal(range(READ_LATENCY + 1))
        with m.FSM(name="reading"):
            with m.State("START"):  # ready rises after a reset, so that no address is taken during one
                m.next = "IDLE"
            with m.State("IDLE"):
                m.d.comb += axi.arready.eq(1)
                m.d.sync += [address.eq(axi.araddr), cycle.eq(0)]
                with m.If(axi.arvalid):
                    m.next = "LOOK"
            with m.State("LOOK"):  # what the address means takes a cycle to find out
                is_outbox = in_registers & (offset == Register.OUTBOX >> _WORD_SHIFT)
                m.d.sync += [
                    chosen.eq(is_meant),
                    answers.eq(in_registers & is_meant.any() & ~(is_outbox & ~outbox.r_rdy)),
                    takes.eq(is_outbox & outbox.r_rdy),
                    fetches.eq(self.read.exists & self._may_access(address, occupied)),
                ]
                with m.If(~waits):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.sync += [axi.rresp.eq(_OKAY), axi.rdata.eq(value)]
                with m.If(takes):
                    m.d.comb += outbox.r_en.eq(1)
                    m.d.sync += taken.eq(head)
                with m.If(answers):
                    m.next = "ANSWER"
                with m.Elif(fetches):
                    m.d.comb += self.read.enable.eq(1)
                    m.next = "FETCH"
                with m.Else():
                    m.d.sync += [axi.rresp.eq(_SLVERR), axi.rdata.eq(0)]
                    m.next = "ANSWER"
            with m.State("FETCH"):
                m.d.sync += cycle.eq(cycle + 1)
                with m.If(cycle == READ_LATENCY - 1):
                    m.d.sync += axi.rdata.eq(self.read.data)
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += axi.rvalid.eq(1)
                with m.If(axi.rready):
                    m.next = "IDLE"

    def _write(self, m: Module, occupied: Signal, controls: Signal, inbox: SyncFIFOBuffered, in_all: Signal) -> None:
        axi = self.axi
        out_of_reset = Signal()
        has_address, has_data = Signal(), Signal()
        address, word, strobe = Signal(ADDRESS_BITS), Signal(32), Signal(4)
        m.d.sync += out_of_reset.eq(1)
        m.d.comb += [axi.awready.eq(out_of_reset & ~has_address), axi.wready.eq(out_of_reset & ~has_data)]
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [has_address.eq(1), address.eq(axi.awaddr)]
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += [has_data.eq(1), word.eq(axi.wdata), strobe.eq(axi.wstrb)]

        offset = address[_WORD_SHIFT:REGION_SHIFT]
        in_registers = address[REGION_SHIFT:] == 0
        is_control = in_registers & (offset == Register.CONTROL >> _WORD_SHIFT)
        is_inbox = in_registers & (offset == Register.INBOX >> _WORD_SHIFT)
        possible, acts, writes = Signal(), Signal(), Signal()
        is_full = in_all == self.config.mailbox_words
        m.d.comb += [
            self.write.address.eq(address),
            self.write.data.eq(word),
            self.write.strobe.eq(strobe),
            # What may be written at all with this strobe; with no byte of it, nothing happens but the answer.
            possible.eq(
                (is_control | is_inbox | (self.write.exists & self._may_access(address, occupied)))
                & ((strobe == _ALL_BYTES) | (strobe == 0) | self.write.bytewise)
            ),
            writes.eq(has_address & has_data & ~axi.bvalid & ~self.clearing),
            acts.eq(writes & possible & (strobe != 0)),
            controls.eq(acts & is_control),
            self.write.enable.eq(acts & ~in_registers),
            inbox.w_data.eq(word),
        ]
        # A cycle later: the next write is not there yet.
        m.d.sync += inbox.w_en.eq(acts & is_inbox & ~is_full)
        for control, signal in (
            (Control.START, self.start),
            (Control.STOP, self.stop),
            (Control.RESET, self.reset),
        ):
            m.d.sync += signal.eq(controls & ((word & control) != 0))
        with m.If(writes):
            is_refused = is_inbox & is_full & (strobe != 0)
            m.d.sync += [
                has_address.eq(0),
                has_data.eq(0),
                axi.bvalid.eq(1),
                axi.bresp.eq(Mux(possible & ~is_refused, _OKAY, _SLVERR)),
            ]
        with m.Elif(axi.bready):
            m.d.sync += axi.bvalid.eq(0)


def _flags(bits: Mapping[int, Value]) -> Value:
    """A word with each value at the bit that its key masks."""
    word = Cat(bits[mask] for mask in sorted(bits))
    assert sorted(bits) == [1 << i for i in range(len(bits))]
    return word
