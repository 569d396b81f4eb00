"""Functions of scalars for the sequencer: one lane of the vector unit's function unit."""

from amaranth import Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.icu import SCALAR_FUNCTION
from lpu_isa.tables import Function
from lpu_isa.vxm import FUNCTION

from .float.encoding import delayed
from .float.lookup import Lookup
from .interfaces import FAULT_BITS, RegisterWrite
from .primitives import Technology

__all__ = ["ScalarFunction"]


class ScalarFunction(wiring.Component):
    """FUNCTION: a float in a scalar register to its function in another, `SCALAR_FUNCTION` cycles after issue.

    Golden model: ``lpu_sw.sim.icu``.

    Ports
    -----
    start : In(1)                   An operation, in its cycle of issue.
    function : In                   `Function`, not NONE.
    argument : In(32)               The source register.
    destination : In                Register that receives the result.
    cancel : In(1)                  Drop what is on the way.
    result : Out(RegisterWrite)
    fault : Out(FAULT_BITS)         FLOAT or FUNCTION, in the cycle of ``result``.

    A function a cycle.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        self.config = config
        self.technology = technology
        super().__init__({
            "start": In(1),
            "function": In(range(max(Function) + 1)),
            "argument": In(32),
            "destination": In(address_bits(REGISTERS)),
            "cancel": In(1),
            "result": Out(RegisterWrite),
            "fault": Out(FAULT_BITS),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        assert SCALAR_FUNCTION == FUNCTION + 2  # a register after the function unit, and the cycle of the write
        m.submodules.lookup = lookup = Lookup(self.config.significand_bits, self.technology)
        m.d.comb += [
            lookup.function.eq(self.function),
            Value.cast(lookup.argument).eq(self.argument),
        ]
        is_due = self.start
        for cycle in range(SCALAR_FUNCTION - 1):
            is_due = delayed(m, is_due & ~self.cancel, 1, name=f"is_due{cycle}", reset_less=False)
        fault = Mux(lookup.is_outside_domain, Fault.FUNCTION, Mux(lookup.overflow, Fault.FLOAT, Fault.NONE))
        m.d.comb += [
            self.result.enable.eq(is_due),
            self.result.index.eq(delayed(m, self.destination, SCALAR_FUNCTION - 1, name="destination")),
            self.result.data.eq(delayed(m, Value.cast(lookup.result), 1, name="result")),
            self.fault.eq(Mux(is_due, delayed(m, fault, 1, name="fault"), Fault.NONE)),
        ]
        return m
