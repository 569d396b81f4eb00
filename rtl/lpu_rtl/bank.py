"""Memory of any width and depth out of block RAMs: lanes with a write enable each, one write and one read port."""

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from lpu_isa.config import address_bits

from .primitives import EBR_BITS, SLICE_BITS, Ebr, Technology

__all__ = ["Bank", "BankPorts", "EbrBank"]

_SHALLOWEST = 512
_DEEPEST = 2048


class BankPorts(wiring.Signature):
    """Ports of a memory of ``depth`` words of ``n_lanes`` lanes, from the user's side.

    ``read_data`` belong to the address of two cycles ago, if the read was enabled, and stay for that cycle only. A
    write is seen by reads of later cycles; a read in its cycle returns the old word.
    """

    def __init__(self, depth: int, n_lanes: int, lane_bits: int) -> None:
        for name, value in (("depth", depth), ("n_lanes", n_lanes), ("lane_bits", lane_bits)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        word = data.ArrayLayout(unsigned(lane_bits), n_lanes)
        super().__init__({
            "write_enable": Out(n_lanes),
            "write_address": Out(address_bits(depth)),
            "write_data": Out(word),
            "read_enable": Out(1),
            "read_address": Out(address_bits(depth)),
            "read_data": In(word),
        })  # fmt: skip


def _parts(depth: int) -> list[tuple[int, int]]:
    """First address and depth of each part: powers of two, deepest first, so that each is aligned to its depth."""
    parts, start = [], 0
    while start < depth:
        part = _DEEPEST
        while part > _SHALLOWEST and part > depth - start:
            part //= 2
        parts.append((start, part))
        start += part
    return parts


class EbrBank(wiring.Component):
    """A bank composed of block RAMs: each lane padded to a multiple of 9 bits, the depth cut into powers of two.

    Parameters
    ----------
    depth : int
        Words; 2,560 are a part of 2,048 (9-bit block RAMs) and one of 512 (36-bit block RAMs).
    n_lanes, lane_bits : int
        Lanes of a word, each with its own write enable, and their width.
    technology : Technology
        Passed on to the block RAMs.

    Ports: `BankPorts`. The part that was read is chosen after the output registers, so a bank of several parts adds a
    multiplexer to the path of ``read_data``.
    """

    def __init__(self, depth: int, n_lanes: int, lane_bits: int, technology: Technology = Technology.GENERIC) -> None:
        self.depth, self.n_lanes, self.lane_bits = depth, n_lanes, lane_bits
        self.technology = technology
        super().__init__(BankPorts(depth, n_lanes, lane_bits).flip())

    def elaborate(self, platform) -> Module:
        m = Module()
        slices_per_lane = -(-self.lane_bits // SLICE_BITS)
        padded = Signal(data.ArrayLayout(unsigned(slices_per_lane * SLICE_BITS), self.n_lanes))
        m.d.comb += [padded[lane].eq(self.write_data[lane]) for lane in range(self.n_lanes)]
        n_slices = self.n_lanes * slices_per_lane

        words = []
        for start, part_depth in _parts(self.depth):
            low = exact_log2(part_depth)
            is_written, is_read, was_read = Signal(), Signal(), Signal()
            m.d.comb += [
                is_written.eq(self.write_address >> low == start >> low),
                is_read.eq(self.read_address >> low == start >> low),
            ]
            read_q = Signal()
            m.d.sync += [read_q.eq(is_read), was_read.eq(read_q)]
            slices_per_ebr = EBR_BITS // part_depth // SLICE_BITS
            part = Signal(n_slices * SLICE_BITS)
            for first in range(0, n_slices, slices_per_ebr):
                ebr = Ebr(slices_per_ebr * SLICE_BITS, self.technology)
                m.submodules[f"from{start}_slice{first}"] = ebr
                slices = range(first, min(first + slices_per_ebr, n_slices))
                bits = slice(first * SLICE_BITS, slices.stop * SLICE_BITS)
                m.d.comb += [
                    ebr.write_address.eq(self.write_address),
                    ebr.write_data.eq(padded.as_value()[bits]),
                    ebr.read_enable.eq(1),  # whatever it reads: an enable would be one more wire to each
                    ebr.read_address.eq(self.read_address),
                    part[bits].eq(ebr.read_data),
                ]
                for i, index in enumerate(slices):
                    m.d.comb += ebr.write_enable[i].eq(self.write_enable[index // slices_per_lane] & is_written)
            words.append((was_read, part))

        _, word = words[-1]
        for was_read, part in words[-2::-1]:
            word = Mux(was_read, part, word)
        unpadded = Signal.like(padded)
        m.d.comb += unpadded.as_value().eq(word)
        m.d.comb += [self.read_data[lane].eq(unpadded[lane]) for lane in range(self.n_lanes)]
        return m


class Bank(wiring.Component):
    """The memory that units use: an `EbrBank` on the FPGA, one wide array with an output register otherwise.

    Parameters and ports are those of `EbrBank`. The array is several times faster to simulate than its block RAMs.
    """

    def __init__(self, depth: int, n_lanes: int, lane_bits: int, technology: Technology = Technology.GENERIC) -> None:
        self.depth, self.n_lanes, self.lane_bits = depth, n_lanes, lane_bits
        self.technology = technology
        super().__init__(BankPorts(depth, n_lanes, lane_bits).flip())

    def elaborate(self, platform) -> Module:
        m = Module()
        if self.technology is not Technology.GENERIC:
            m.submodules.ebrs = ebrs = EbrBank(self.depth, self.n_lanes, self.lane_bits, self.technology)
            connect(m, flipped(self), ebrs)
            return m
        m.submodules.array = array = memory.Memory(shape=self.write_data.shape(), depth=self.depth, init=[])
        write, read = array.write_port(granularity=1), array.read_port()
        data_q = Signal(self.read_data.shape(), reset_less=True)
        m.d.sync += data_q.eq(read.data)
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
            self.read_data.eq(data_q),
        ]
        return m
