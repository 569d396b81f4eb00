"""Lane reads of the sequencer: one float of vector or scale SRAM into a scalar register."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.icu import LANE

from .interfaces import FAULT_BITS, MemoryRead, RegisterWrite, vector_layout

__all__ = ["LaneReader"]


class LaneReader(wiring.Component):
    """VLANE and SLANE: the memory is addressed one cycle after issue, the register written `LANE` cycles after it.

    Ports
    -----
    vector, scale : In(1)                   An operation, in its cycle of issue.
    address, lane, destination : In         Its word, its lane (taken modulo rows) and its register.
    cancel : In(1)                          Drop what is on the way.
    vmem, smem : Out(MemoryRead)            To the memories.
    result : Out(RegisterWrite)             The lane's encoding.
    fault : Out                             ADDRESS for a word outside its memory.

    A lane read a cycle.
    """

    def __init__(self, config: TileConfig) -> None:
        assert LANE == 5  # address at 1, data at 3, result registered at 4 for the next cycle
        self.config = config
        super().__init__({
            "vector": In(1),
            "scale": In(1),
            "address": In(signed(32)),
            "lane": In(address_bits(config.rows)),
            "destination": In(address_bits(REGISTERS)),
            "cancel": In(1),
            "vmem": Out(MemoryRead(config.vmem_words, vector_layout(config))),
            "smem": Out(MemoryRead(config.smem_words, vector_layout(config))),
            "result": Out(RegisterWrite),
            "fault": Out(FAULT_BITS),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        address = Signal.like(self.address)
        m.d.sync += address.eq(self.address)
        faults = []
        for memory, depth, start in (
            (self.vmem, self.config.vmem_words, self.vector),
            (self.smem, self.config.smem_words, self.scale),
        ):
            wanted = Signal()
            inside = (address >= 0) & (address < depth)
            m.d.sync += wanted.eq(start & ~self.cancel)
            m.d.comb += [memory.enable.eq(wanted), memory.address.eq(address)]
            faults.append(wanted & ~inside)
        m.d.comb += self.fault.eq(Mux(Cat(faults).any(), Fault.ADDRESS, Fault.NONE))

        # What travels beside the memories, cycle by cycle after issue.
        valid, scale, lane, destination = self.vector | self.scale, self.scale, self.lane, self.destination
        for cycle in range(1, LANE - 1):
            travelling = [Signal.like(x, name=f"{name}_q{cycle}") for name, x in
                          (("scale", scale), ("lane", lane), ("destination", destination))]  # fmt: skip
            valid_q = Signal(name=f"valid_q{cycle}")
            m.d.sync += [valid_q.eq(valid & ~self.cancel)]
            m.d.sync += [q.eq(x) for q, x in zip(travelling, (scale, lane, destination), strict=True)]
            valid, (scale, lane, destination) = valid_q, travelling
        word = Mux(scale, self.smem.data.as_value(), self.vmem.data.as_value())
        m.d.sync += [
            self.result.enable.eq(valid & ~self.cancel),
            self.result.index.eq(destination),
            self.result.data.eq(word.word_select(lane, self.config.float_bits)),
        ]
        return m
