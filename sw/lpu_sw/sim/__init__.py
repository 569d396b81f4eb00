"""Golden model of the tile: arithmetic, units and sequencer, exact to the bit and to the cycle."""

from .arithmetic import Arithmetic
from .state import Sent, TileState
from .tile import Event, Simulator, Status

__all__ = ["Arithmetic", "Event", "Sent", "Simulator", "Status", "TileState"]
