"""Switch unit: reads vector SRAM through port A and moves lanes on the way to the vector unit.

A switch operation feeds the vector operation of the same bundle, whose ``source`` is SXM and whose ``count`` and
``interval`` drive both.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np

from .config import TileConfig, address_bits
from .fields import Access, Field, Slot, Use, register_field

__all__ = ["SxmOp", "slot", "use"]


class SxmOp(IntEnum):
    """Operations of the switch slot; R is the number of rows, indices are taken modulo R."""

    NOP = 0
    ROTATE = 1  # lane i takes lane i + amount
    EXCHANGE = 2  # lane i takes lane i xor amount: 1 swaps pairs, 4 swaps halves of groups of eight
    BROADCAST = 3  # every lane takes lane `amount`


def slot(config: TileConfig) -> Slot:
    """Fields of the switch slot."""
    return Slot("sxm", (
        Field("op", 3, "operation", enum=SxmOp),
        Field("amount", address_bits(config.rows), "distance, mask or lane"),
        register_field("amount_reg", "added to `amount`"),
    ))  # fmt: skip


def use(config: TileConfig, op: Mapping[str, int], registers: Sequence[int]) -> Use:
    """What a switch operation touches beside the vector operation that it feeds."""
    if op["op"] == SxmOp.NOP:
        return Use((), ())
    return Use((Access("register", np.array([op["amount_reg"]]), np.zeros(1, int), write=False),), ())
