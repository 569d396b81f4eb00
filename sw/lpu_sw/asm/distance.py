"""The distance after which everything that a bundle started has landed."""

from collections.abc import Mapping

from lpu_isa import icu
from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.fields import REGISTERS

__all__ = ["cycles_until_done"]

_COUNTS = ("count", "inner", "outer")


def cycles_until_done(layout: BundleFormat, bundle: Bundle, largest: Mapping[int, int] | None = None) -> int:
    """Cycles from a bundle to the first later one that may read and overwrite all that the bundle touched.

    ``largest``: the largest value of each register that a count may name. Raises ``ValueError`` when a count depends on
    another register, or is not from 1 to its field's largest value.
    """
    # Addresses may depend on registers, the cycles of a known count do not: any values serve for the others.
    registers = [0] * REGISTERS
    for number, value in (largest or {}).items():
        registers[number] = value
    cycles = 1
    for name, operation in bundle.operations.items():
        values = layout.complete(operation)
        for count in _COUNTS:
            if count not in values:
                continue
            number = values[f"{count}_reg"]
            if number and number not in (largest or {}):
                raise ValueError(f"{count} depends on r{number}, whose largest value is not given")
            most = layout.slots[name].by_name[count].high
            if not 1 <= values[count] + registers[number] <= most:
                raise ValueError(f"{count} is {values[count] + registers[number]}, not from 1 to {most}")
        if name == "icu" and values["op"] in icu.REFETCHES:
            cycles = max(cycles, icu.BRANCH)
        use = layout.use(operation, registers)
        for touched in (*use.accesses, *use.claims):
            cycles = max(cycles, int(touched.cycle.max()) + 1)
    return cycles
