"""Switch unit: where each lane comes from."""

from collections.abc import Mapping

import numpy as np

from lpu_isa.sxm import SxmOp

from .state import TileState

__all__ = ["Switch"]


class Switch:
    """A switch operation, bound to a tile's state. ``op`` holds every field."""

    def __init__(self, state: TileState, op: Mapping[str, int]) -> None:
        self._registers = state.registers
        self._amount = op["amount"]
        self._register = op["amount_reg"]
        rows = state.config.rows
        lane, amount = np.arange(rows), np.arange(rows)[:, None]
        self._sources = {
            SxmOp.ROTATE: (lane + amount) % rows,
            SxmOp.EXCHANGE: lane ^ amount,
            SxmOp.BROADCAST: lane * 0 + amount,
        }[SxmOp(op["op"])]

    def sources(self) -> np.ndarray:
        """For every lane the lane that it takes, as the amount stands now; int64 (rows,)."""
        return self._sources[(self._amount + self._registers[self._register]) % len(self._sources)]
