"""The bundle: a header that says when the next bundle issues, and a slot for each unit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from . import icu, link, mxm, sxm, vxm
from .config import TileConfig
from .fields import Field, Operation, Slot, Use

__all__ = ["Bundle", "BundleFormat", "SLOTS"]

SLOTS = {"icu": icu, "mxm": mxm, "vxm": vxm, "sxm": sxm, "link": link}
"""Slot name -> the module that declares it, in the order in which they lie above the header."""

_UNITS = {"icu": icu.use, "mxm": mxm.use, "vxm": vxm.use, "sxm": sxm.use}


@dataclass
class Bundle:
    """One bundle: ``wait`` cycles to the next issue (1 or more), and the operations by slot name.

    When ``timed``, the distance is read from timing memory at ``timing base + pc`` instead.
    """

    wait: int = 1
    timed: bool = False
    operations: dict[str, Operation] = field(default_factory=dict)


class BundleFormat:
    """Layout of a bundle for one tile: header in the lowest bits, then the slots in the order of `SLOTS`.

    In program memory a bundle takes ``beats`` words of 32 bits, lowest first.
    """

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        self.header = Slot("header", (
            Field("wait", 12, "cycles to the next bundle, at least 1", default=1),
            Field("timed", 1, "1: the distance comes from timing memory"),
            Field("reserved", 3, "must be zero"),
        ))  # fmt: skip
        self.slots: dict[str, Slot] = {name: module.slot(config) for name, module in SLOTS.items()}

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Lowest bit of each slot."""
        offsets, at = {"header": 0}, self.header.bits
        for name, slot in self.slots.items():
            offsets[name] = at
            at += slot.bits
        return offsets

    @property
    def bits(self) -> int:
        """Bits of a bundle without padding."""
        return self.header.bits + sum(slot.bits for slot in self.slots.values())

    @property
    def beats(self) -> int:
        """32-bit words of a bundle."""
        return -(-self.bits // 32)

    def encode(self, bundle: Bundle) -> int:
        """A bundle as an integer of ``32 * beats`` bits. Raises ``ValueError`` naming slot, field and range."""
        word = self.header.encode({"wait": bundle.wait, "timed": int(bundle.timed)})
        if bundle.wait < 1:
            raise ValueError("wait must be at least 1, not 0")
        for name, operation in bundle.operations.items():
            try:
                word |= self.slots[name].encode(operation.values) << self.offsets[name]
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        # A slot without an operation still carries its fields' defaults: NOP decodes to itself.
        for name, slot in self.slots.items():
            if name not in bundle.operations:
                word |= slot.encode({}) << self.offsets[name]
        return word

    def decode(self, word: int) -> Bundle:
        """The bundle behind an integer, without slots that hold NOP. Raises ``ValueError`` for an illegal value."""
        header = self.header.decode(word & ((1 << self.header.bits) - 1))
        bundle = Bundle(header["wait"], bool(header["timed"]))
        for name, slot in self.slots.items():
            values = slot.decode((word >> self.offsets[name]) & ((1 << slot.bits) - 1))
            for f in slot.fields:
                if f.enum is not None:
                    f.check(values[f.name])
            if values["op"]:
                bundle.operations[name] = Operation(name, values)
        return bundle

    def complete(self, operation: Operation) -> dict[str, int]:
        """All field values of an operation, defaults filled in."""
        return {f.name: int(operation.values.get(f.name, f.default)) for f in self.slots[operation.slot].fields}

    def use(self, operation: Operation, registers: Sequence[int]) -> Use:
        """What an operation touches, in cycles after its issue; ``registers`` are the scalar registers then."""
        return _UNITS[operation.slot](self.config, self.complete(operation), registers)
