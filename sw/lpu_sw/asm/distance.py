"""The distance after which everything that a bundle started has landed."""

from lpu_isa import icu
from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.fields import REGISTERS

__all__ = ["cycles_until_done"]

_COUNTS = ("count", "inner", "outer")
_SMALLEST = {
    **dict.fromkeys(icu.BRANCHES, icu.BRANCH),
    icu.IcuOp.END: icu.BRANCH,
    icu.IcuOp.TIMING: icu.TIMING,
}


def cycles_until_done(layout: BundleFormat, bundle: Bundle) -> int:
    """Cycles from a bundle to the first later one that may read and overwrite all that the bundle touched.

    Raises ``ValueError`` when a count depends on a register, or is 0.
    """
    cycles = 1
    for name, operation in bundle.operations.items():
        values = layout.complete(operation)
        for count in _COUNTS:
            if values.get(f"{count}_reg"):
                raise ValueError(f"{count} depends on register r{values[f'{count}_reg']}")
            if values.get(count) == 0:
                raise ValueError(f"{count} is 0")
        if name == "icu":
            cycles = max(cycles, _SMALLEST.get(icu.IcuOp(values["op"]), 1))
        # Addresses may depend on registers, the cycles of a known count do not: zeros serve.
        use = layout.use(operation, [0] * REGISTERS)
        for touched in (*use.accesses, *use.claims):
            cycles = max(cycles, int(touched.cycle.max()) + 1)
    return cycles
