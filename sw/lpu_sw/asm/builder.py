"""Programs from Python: the same checks and names as the text form, without the text."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum

import numpy as np

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.fields import REGISTERS, Operation
from lpu_isa.icu import BRANCH, IcuOp

from .distance import cycles_until_done
from .errors import Span
from .program import Program, Section
from .proof import prove as prove_timing

__all__ = ["Builder"]

Value = int | str | IntEnum
"""A field's value: a number, an enumeration's member, its name in lower case, or (``imm``) a label."""


class Builder:
    """Collects bundles for one tile.

    >>> b = Builder(TileConfig())
    >>> count = b.register("count")
    >>> b.bundle(icu={"op": "li", "rd": count, "imm": 3})
    >>> with b.loop(4):
    ...     b.bundle(icu={"op": "addi", "rd": count, "rs": count, "imm": -1}, wait=2)
    >>> b.bundle(icu={"op": "halt"})
    >>> len(b.build().bundles)
    5
    """

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        self.layout = BundleFormat(config)
        self._program = Program(config, [])
        self._targets: list[tuple[int, str]] = []

    @property
    def here(self) -> int:
        """Number of the next bundle."""
        return len(self._program.bundles)

    def register(self, name: str) -> int:
        """The scalar register of that name; a new name takes the next free one. Raises ``ValueError`` at the 32nd."""
        registers = self._program.registers
        if name not in registers:
            if len(registers) == REGISTERS - 1:
                raise ValueError(f"register {name!r} is one too many: a tile has {REGISTERS - 1} beside r0")
            registers[name] = len(registers) + 1
        return registers[name]

    def label(self, name: str) -> None:
        """Name the next bundle. Raises ``ValueError`` when the name is taken."""
        if name in self._program.labels:
            raise ValueError(f"label {name!r} is taken by bundle {self._program.labels[name]}")
        self._program.labels[name] = self.here

    def bundle(self, *, wait: int | None = 1, timed: bool = False, **operations: Mapping[str, Value]) -> None:
        """Append a bundle: ``wait`` cycles to the next (None: until it is done), and field values by slot.

        Raises ``ValueError`` naming bundle, slot and field for a value that the ISA does not have.
        """
        bundle = Bundle(wait or 1, timed)
        for slot, values in operations.items():
            if slot not in self.layout.slots:
                raise ValueError(f"bundle {self.here}: {slot!r} is no slot; they are {', '.join(self.layout.slots)}")
            bundle.operations[slot] = Operation(slot, self._values(slot, values))
        try:
            self.layout.encode(bundle)
            if wait is None:
                bundle.wait = cycles_until_done(self.layout, bundle)
        except ValueError as error:
            raise ValueError(f"bundle {self.here}: {error}") from None
        caller = sys._getframe(1)
        file, line = caller.f_code.co_filename, caller.f_lineno
        self._program.bundles.append(bundle)
        self._program.sources.append(Span(file, line, 1, 1, ""))

    @contextmanager
    def loop(self, count: int, register: int = 0, wait: int = BRANCH) -> Iterator[None]:
        """Repeat the bundles inside ``count + register`` times; ``wait`` is the distance after the closing END."""
        self.bundle(icu={"op": IcuOp.LOOP, "imm": count, "rs": register})
        yield
        self.bundle(icu={"op": IcuOp.END}, wait=wait)

    def data(self, space: str, address: int, values: np.ndarray) -> None:
        """Start contents of a memory; see `Section` for the array."""
        self._program.sections.append(Section(space, address, values))

    def timing(self, address: int, cycles: np.ndarray) -> None:
        """Contents of timing memory from ``address`` on."""
        timings = np.zeros(max(len(self._program.timings), address + len(cycles)), np.uint16)
        timings[: len(self._program.timings)] = self._program.timings
        timings[address : address + len(cycles)] = cycles
        self._program.timings = timings

    def build(self, prove: bool = True) -> Program:
        """The program, labels resolved and, if asked, its timing proved (see `lpu_sw.asm.proof`).

        Raises ``ValueError`` for an unknown label, and with everything that the proof found.
        """
        for pc, name in self._targets:
            if name not in self._program.labels:
                raise ValueError(f"bundle {pc}: label {name!r} is not defined")
            self._program.bundles[pc].operations["icu"].values["imm"] = self._program.labels[name]
        violations = prove_timing(self._program) if prove and self._program.bundles else []
        if violations:
            raise ValueError("\n".join(map(str, violations)))
        return self._program

    def _values(self, slot: str, values: Mapping[str, Value]) -> dict[str, int]:
        numbers: dict[str, int] = {}
        for name, value in values.items():
            f = self.layout.slots[slot].by_name.get(name)
            if isinstance(value, str) and f is not None and f.enum is not None:
                members = {member.name.lower(): int(member) for member in f.enum}
                if value not in members:
                    known = ", ".join(members)
                    raise ValueError(f"bundle {self.here}: {slot}: {name} must be one of {known}, not {value!r}")
                numbers[name] = members[value]
            elif isinstance(value, str):
                if (slot, name) != ("icu", "imm"):
                    raise ValueError(f"bundle {self.here}: {slot}: {name} must be a number, not {value!r}")
                self._targets.append((self.here, value))
                numbers[name] = 0
            else:
                numbers[name] = int(value)
        return numbers
