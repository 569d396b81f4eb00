"""The faults that a unit raises at its ports."""

from functools import reduce
from operator import or_

from lpu_isa.faults import Fault

__all__ = ["lowest_fault"]


def lowest_fault(dut, n_ports: int) -> Fault:
    """This cycle's fault of the lowest code at any of ``faults``, which the sequencer would keep; NONE without one."""
    flags = reduce(or_, (int(getattr(dut, f"faults__{port}").value) for port in range(n_ports)))
    return Fault((flags & -flags).bit_length() - 1) if flags else Fault.NONE
