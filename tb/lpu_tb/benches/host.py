"""The host port of a whole tile, channel by channel: order, skew, back-pressure, strobes, refusals."""

import random
from collections.abc import Iterator

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, with_timeout
from cocotbext.axi import AxiResp

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import SHAPES
from lpu_isa.fields import Operation
from lpu_isa.host import REGION_SHIFT, Control, Register, Status, Window, beats, depth, stride
from lpu_isa.icu import IcuOp
from lpu_sw.host.protocol import DeviceError, TileDevice, window_address
from lpu_sw.image import Image

from ..axi import AxiTransport, bring_up
from ..clock import CLOCK_NS, start_clock
from ..runner import parameters

_INPUTS = ("awvalid", "awaddr", "awprot", "wvalid", "wdata", "wstrb", "bready", "arvalid", "araddr", "arprot", "rready")
_OKAY, _SLVERR = int(AxiResp.OKAY), int(AxiResp.SLVERR)
_LIMIT_CYCLES = 200
"""No answer takes that long, not even behind the clearing of the registers."""


class Channels:
    """Drives and watches the five channels of the port ``host`` by hand, at falling edges."""

    def __init__(self, dut) -> None:
        self.dut = dut
        self.signals = {name.removeprefix("host__"): getattr(dut, name) for name in
                        [f"host__{s}" for s in (*_INPUTS, "awready", "wready", "bvalid", "bresp", "arready", "rvalid",
                                                "rdata", "rresp")]}  # fmt: skip

    def put(self, **values: int) -> None:
        """Set inputs of the port."""
        for name, value in values.items():
            self.signals[name].value = value

    def get(self, name: str) -> int:
        """An output of the port."""
        return int(self.signals[name].value)

    async def cycles(self, n: int) -> None:
        """Wait."""
        for _ in range(n):
            await FallingEdge(self.dut.clk)

    async def give(self, channel: str, **payload: int) -> None:
        """Offer a payload on ``aw``, ``w`` or ``ar`` until it is taken."""
        self.put(**{f"{channel}valid": 1}, **payload)
        for _ in range(_LIMIT_CYCLES):
            taken = self.get(f"{channel}ready")
            await FallingEdge(self.dut.clk)
            if taken:
                self.put(**{f"{channel}valid": 0})
                return
        raise AssertionError(f"{channel}ready stays low")

    async def take(self, channel: str, delay: int = 0) -> tuple[int, int]:
        """The answer on ``b`` or ``r`` as (resp, data), taken ``delay`` cycles after it came, and stable until then."""
        for _ in range(_LIMIT_CYCLES):
            if self.get(f"{channel}valid"):
                break
            await FallingEdge(self.dut.clk)
        else:
            raise AssertionError(f"{channel}valid stays low")
        answer = self._answer(channel)
        for _ in range(delay):
            await FallingEdge(self.dut.clk)
            assert self.get(f"{channel}valid"), f"{channel}valid fell before it was taken"
            assert self._answer(channel) == answer, f"the answer on {channel} changed before it was taken"
        self.put(**{f"{channel}ready": 1})
        await FallingEdge(self.dut.clk)
        self.put(**{f"{channel}ready": 0})
        return answer

    def _answer(self, channel: str) -> tuple[int, int]:
        return self.get(f"{channel}resp"), self.get("rdata") if channel == "r" else 0

    async def write(self, address: int, word: int, strobe: int = 15, skew: int = 0, delay: int = 0) -> int:
        """One write; the data come ``skew`` cycles after the address (before it, if negative). Returns the response."""

        async def later(cycles: int, channel: str, **payload: int) -> None:
            await self.cycles(cycles)
            await self.give(channel, **payload)

        first = cocotb.start_soon(later(max(0, -skew), "aw", awaddr=address))
        second = cocotb.start_soon(later(max(0, skew), "w", wdata=word, wstrb=strobe))
        await first
        await second
        return (await self.take("b", delay))[0]

    async def read(self, address: int, delay: int = 0) -> tuple[int, int]:
        """One read: (resp, data)."""
        await self.give("ar", araddr=address)
        return await self.take("r", delay)


async def channels(dut) -> Channels:
    """Clock, reset, all inputs idle."""
    port = Channels(dut)
    port.put(**dict.fromkeys(_INPUTS, 0))
    dut.rst.value = 1
    start_clock(dut.clk)
    await port.cycles(3)
    dut.rst.value = 0
    return port


def _config():
    return SHAPES[parameters()["tile"]]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def address_and_data_come_in_any_order(dut) -> None:
    """E1: data up to 8 cycles before or after the address; one of them alone for 1,000 cycles while reads go on."""
    port, base = await channels(dut), window_address(_config(), Window.VMEM, 0)
    stored = {}
    for index, skew in enumerate([*range(-8, 9), -1000, 1000]):
        address = base + 4 * index
        stored[address] = random.getrandbits(26)
        writing = cocotb.start_soon(port.write(address, stored[address], skew=skew))
        while not writing.done():
            assert await port.read(base + 4 * index - 4 if index else Register.ID) == (
                _OKAY,
                stored[address - 4] if index else 0x4C50_5531,
            )
        assert await writing == _OKAY
    for address, word in stored.items():
        assert await port.read(address) == (_OKAY, word)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def answers_stay_until_they_are_taken(dut) -> None:
    """E2: 200 cycles without BREADY or RREADY on OK, SLVERR and an address out of range."""
    port, config = await channels(dut), _config()
    good = window_address(config, Window.SMEM, 3)
    refused = window_address(config, Window.ACC, 0)
    outside = window_address(config, Window.VMEM, config.vmem_words)
    for address, response in ((good, _OKAY), (refused, _SLVERR), (outside, _SLVERR)):
        assert await port.write(address, 0x123_4567, delay=200) == response
    for address, answer in ((good, (_OKAY, 0x123_4567)), (outside, (_SLVERR, 0)), (0xFF_FFF0, (_SLVERR, 0))):
        assert await port.read(address, delay=200) == answer


def _pauses(rng: random.Random, often: float) -> Iterator[bool]:
    while True:
        yield rng.random() < often


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def many_writes_and_reads_at_once(dut) -> None:
    """E3: 1,000 writes with random strobes and pauses on all channels, reads of another part meanwhile."""
    rng, config = random.Random(parameters()["seed"]), _config()
    transport = await bring_up(dut)
    master, other = transport.master, depth(config, Window.WMEM) // 2
    words = np.array([rng.getrandbits(32) for _ in range(64)], np.uint32)
    await transport.write(window_address(config, Window.WMEM, 0), np.zeros(64, np.uint32))
    await transport.write(window_address(config, Window.WMEM, other), words)
    for channel in (
        master.write_if.aw_channel, master.write_if.w_channel, master.write_if.b_channel,
        master.read_if.ar_channel, master.read_if.r_channel,
    ):  # fmt: skip
        channel.set_pause_generator(_pauses(random.Random(rng.random()), 0.4))
    model = bytearray(4 * 64)
    writes = []
    for _ in range(1000):
        first, count = rng.randrange(len(model)), rng.randrange(5)  # part of a word, or two parts of two
        data = rng.randbytes(min(count, len(model) - first))
        model[first : first + len(data)] = data
        if data:
            writes.append(cocotb.start_soon(master.write(window_address(config, Window.WMEM, 0) + first, data)))
    for _ in range(20):
        assert np.array_equal(await transport.read(window_address(config, Window.WMEM, other), 64), words)
    for write in writes:
        assert (await write).resp == AxiResp.OKAY
    assert (await transport.read(window_address(config, Window.WMEM, 0), 64)).tobytes() == bytes(model)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def strobes_are_whole_words_outside_the_weights(dut) -> None:
    """Strobe 0 changes nothing and is OK; a partial strobe is refused, but for weights, which take each byte."""
    port, config = await channels(dut), _config()
    for window, start in ((Window.VMEM, 0x155_5555), (Window.SMEM, 0x2AA_AAAA), (Window.WMEM, 0x1234_5678)):
        address = window_address(config, window, 5)
        assert await port.write(address, start) == _OKAY
        for strobe in range(15):
            allowed = strobe == 0 or window is Window.WMEM
            assert await port.write(address, 0x0102_0304, strobe) == (_OKAY if allowed else _SLVERR)
            mask = sum(0xFF << (8 * byte) for byte in range(4) if strobe >> byte & 1) if allowed else 0
            start = start & ~mask | 0x0102_0304 & mask
            assert await port.read(address) == (_OKAY, start)
    assert await port.write(Register.INBOX, 1, strobe=0) == _OKAY
    assert await port.write(Register.INBOX, 1, strobe=3) == _SLVERR
    assert await port.read(Register.INBOX_LEVEL) == (_OKAY, 0)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def addresses_that_do_not_exist_are_refused(dut) -> None:
    """Past the last word, past the last beat, unknown registers and regions; what is read-only or write-only."""
    port, config = await channels(dut), _config()
    for window in Window:
        last = window_address(config, window, depth(config, window) - 1) + 4 * (beats(config, window) - 1)
        assert (await port.read(last))[0] == _OKAY
        beyond = [window_address(config, window, depth(config, window)), ((window + 1) << REGION_SHIFT) - 4]
        if beats(config, window) * 4 < stride(config, window):
            beyond.append(last + 4)
        for address in beyond:
            if address >> REGION_SHIFT == window:
                assert await port.read(address) == (_SLVERR, 0)
                assert await port.write(address, 1) == _SLVERR
        read_only = window in (Window.ACC, Window.ACT)
        assert await port.write(last, 0) == (_SLVERR if read_only else _OKAY)
    for address in (0x38, 0x7C, 0x100, 0xF_FFFC, 8 << REGION_SHIFT, 0xFF_FFFC):
        assert await port.read(address) == (_SLVERR, 0)
        assert await port.write(address, 1) == _SLVERR
    for register in Register:
        writable = register in (Register.CONTROL, Register.INBOX)
        assert await port.write(register, 0) == (_OKAY if writable else _SLVERR)
    assert await port.read(Register.INBOX) == (_SLVERR, 0)
    assert await port.read(Register.OUTBOX) == (_SLVERR, 0), "an empty outbox"
    assert await port.read(Register.INBOX_LEVEL) == (_OKAY, 1)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def inbox_takes_its_depth_and_refuses_more(dut) -> None:
    """A word too many is SLVERR and lost; RESET empties the inbox."""
    port, config = await channels(dut), _config()
    for word in range(config.mailbox_words):
        assert await port.write(Register.INBOX, word) == _OKAY
    assert await port.write(Register.INBOX, 1) == _SLVERR
    assert await port.read(Register.INBOX_LEVEL) == (_OKAY, config.mailbox_words)
    assert await port.write(Register.CONTROL, Control.RESET) == _OKAY
    assert await port.read(Register.INBOX_LEVEL) == (_OKAY, 0)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_in_the_middle_is_survived(dut) -> None:
    """E4: access in the first cycle after a reset; reset in the middle of a write and of a read."""
    port, address = await channels(dut), window_address(_config(), Window.VMEM, 9)
    for word in range(20):
        assert await port.write(address, word) == _OKAY
        assert await port.read(address) == (_OKAY, word)
        interrupted = [cocotb.start_soon(port.write(address + 4, word)), cocotb.start_soon(port.read(address + 4))]
        await port.cycles(1 + word % 7)
        for task in interrupted:
            task.cancel()
        port.put(**dict.fromkeys(_INPUTS, 0))
        dut.rst.value = 1
        await port.cycles(1 + word % 3)
        assert not any(port.get(name) for name in ("awready", "wready", "arready", "bvalid", "rvalid"))
        dut.rst.value = 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def memories_are_refused_while_a_program_runs(dut) -> None:
    """Windows answer SLVERR and change nothing in a run, work while it waits for a word, registers always work."""
    transport = await bring_up(dut)
    config = _config()
    device, layout = TileDevice(transport, config), BundleFormat(config)

    def bundle(op: IcuOp, wait: int = 4, **values: int) -> np.ndarray:
        word = layout.encode(Bundle(wait, operations={"icu": Operation("icu", {"op": op, **values})}))
        return np.array([(word >> (32 * beat)) & 0xFFFF_FFFF for beat in range(layout.beats)], np.uint32)

    await device.write_window(Window.VMEM, np.full((1, config.rows), 7, np.uint32))
    await device.write_window(
        Window.PROGRAM,
        np.stack([bundle(IcuOp.ADDI, rd=1, rs=1, imm=1, wait=2), bundle(IcuOp.JUMP, imm=0)]),
    )
    await device.reset()
    await device.control(Control.START)
    for window in Window:
        address = window_address(config, window, 0)
        assert (await transport.master.read(address, 4)).resp == AxiResp.SLVERR
        assert (await transport.master.write(address, bytes(4))).resp == AxiResp.SLVERR
    assert await device.register(Register.STATUS) == Status.RUNNING
    before, after = await device.register(Register.SCALARS + 4), await device.register(Register.SCALARS + 4)
    assert before < after, "the program goes on"
    await device.control(Control.START)
    assert await device.register(Register.SCALARS + 4) > after, "a start while running is ignored"
    await device.stop()
    assert await device.register(Register.STATUS) == Status.HALTED
    assert (await device.read_window(Window.VMEM, 0, 1) == 7).all()

    await device.write_window(Window.PROGRAM, np.stack([bundle(IcuOp.RECV, rd=1), bundle(IcuOp.HALT)]))
    await device.control(Control.START)
    await with_timeout(_until(device, Status.RUNNING | Status.WAITING), 10, "us")
    assert (await device.read_window(Window.VMEM, 0, 1) == 7).all()
    assert (await transport.master.read(window_address(config, Window.PROGRAM, 0), 4)).resp == AxiResp.SLVERR
    await device.push(5)
    assert await device.finish() == Status.HALTED
    assert await device.register(Register.SCALARS + 4) == 5


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def another_tile_is_noticed_before_anything_is_loaded(dut) -> None:
    """The ID and the fingerprint of the tile are checked first."""
    transport = await bring_up(dut)
    other = SHAPES["8x16"]
    try:
        await TileDevice(transport, other).load(Image(other, np.zeros((1, BundleFormat(other).beats), np.uint32)))
    except DeviceError as error:
        assert "found a tile of fingerprint" in str(error) and "(8x16)" in str(error)
    else:
        raise AssertionError("an image for another tile was loaded")


async def _until(device: TileDevice, status: int) -> None:
    while await device.register(Register.STATUS) != status:
        pass


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def first_access_waits_for_the_reset(dut) -> None:
    """E4: a master that speaks while the reset lasts, and in its first cycle after, is answered after it."""
    transport = AxiTransport(dut)
    dut.rst.value = 1
    start_clock(dut.clk)
    reading = cocotb.start_soon(TileDevice(transport, _config()).check())
    await ClockCycles(dut.clk, 5)
    assert not reading.done()
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    await with_timeout(reading, 100 * CLOCK_NS, "ns")
