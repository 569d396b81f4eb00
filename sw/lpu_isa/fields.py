"""The few classes in which the ISA is written: fields, slots, operations, and what an operation touches when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np

__all__ = ["REGISTERS", "Access", "Claim", "Field", "Operation", "Slot", "Use", "register_field"]

REGISTERS = 32
"""Scalar registers of 32 bits; register 0 reads as zero and ignores writes."""


@dataclass(frozen=True)
class Field:
    """One bit field of a slot.

    ``enum`` makes it symbolic; ``register`` makes it a scalar register number. ``default`` is what an assembler or
    builder puts when the field is not given. Where a slot has a field ``x`` and a register field ``x_reg``, the
    operand is ``x + register[x_reg]``, read in the cycle of issue.
    """

    name: str
    bits: int
    doc: str
    signed: bool = False
    enum: type[IntEnum] | None = None
    register: bool = False
    default: int = 0

    @property
    def low(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def check(self, value: int) -> None:
        """Raise ``ValueError`` naming field, value and range when ``value`` does not fit."""
        if self.enum is not None:
            if value not in {int(member) for member in self.enum}:
                members = ", ".join(member.name.lower() for member in self.enum)
                raise ValueError(f"{self.name} must be one of {members}, not {value!r}")
        elif not self.low <= value <= self.high:
            raise ValueError(f"{self.name} must be from {self.low} to {self.high}, not {value}")


def register_field(name: str, doc: str) -> Field:
    """A field that names a scalar register."""
    return Field(name, (REGISTERS - 1).bit_length(), doc, register=True)


@dataclass(frozen=True)
class Slot:
    """A unit's part of the bundle: an ordered tuple of fields, the first of which is ``op`` with NOP = 0."""

    name: str
    fields: tuple[Field, ...]

    @cached_property
    def by_name(self) -> dict[str, Field]:
        """Fields by name."""
        return {f.name: f for f in self.fields}

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Lowest bit of each field within the slot; the first field is the lowest."""
        offsets, at = {}, 0
        for f in self.fields:
            offsets[f.name] = at
            at += f.bits
        return offsets

    @property
    def bits(self) -> int:
        """Width of the slot."""
        return sum(f.bits for f in self.fields)

    def encode(self, values: Mapping[str, int]) -> int:
        """Pack field values (missing ones take their default). Raises ``ValueError`` for an unknown field or value."""
        unknown = set(values) - set(self.by_name)
        if unknown:
            raise ValueError(f"{self.name} has no field {sorted(unknown)[0]!r}")
        word = 0
        for f in self.fields:
            value = int(values.get(f.name, f.default))
            f.check(value)
            word |= (value & ((1 << f.bits) - 1)) << self.offsets[f.name]
        return word

    def decode(self, word: int) -> dict[str, int]:
        """Unpack to field values, signed fields sign-extended; values are not checked."""
        values = {}
        for f in self.fields:
            value = (word >> self.offsets[f.name]) & ((1 << f.bits) - 1)
            values[f.name] = value - (1 << f.bits) if f.signed and value >> (f.bits - 1) else value
        return values


@dataclass
class Operation:
    """One operation of one slot: the slot's name and its field values (missing fields mean their defaults)."""

    slot: str
    values: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        return self.values[name]


@dataclass(frozen=True, slots=True)
class Access:
    """State that an operation reads or writes: ``index[k]`` of ``space`` in cycle ``issue + cycle[k]``.

    A read in cycle c sees the writes of cycles before c. Spaces: ``wmem vmem smem act acc tracker register mailbox``.
    """

    space: str
    index: np.ndarray
    cycle: np.ndarray
    write: bool


class Claim(NamedTuple):
    """A unit or port that an operation holds alone in the cycles ``issue + cycle[k]``."""

    resource: str
    cycle: np.ndarray


class Use(NamedTuple):
    """Everything that an operation touches, in cycles after its issue."""

    accesses: tuple[Access, ...]
    claims: tuple[Claim, ...]
