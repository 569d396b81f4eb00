"""Link slot: reserved for sending a vector to a neighbour tile and receiving one at a known cycle."""

from enum import IntEnum

from .config import TileConfig
from .fields import Field, Slot

__all__ = ["LinkOp", "slot"]


class LinkOp(IntEnum):
    """Operations of the link slot."""

    NOP = 0


def slot(config: TileConfig) -> Slot:
    """Fields of the link slot."""
    return Slot("link", (Field("op", 2, "operation", enum=LinkOp), Field("reserved", 14, "must be zero")))
