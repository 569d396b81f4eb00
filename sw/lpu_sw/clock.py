"""The clock of a tile on the board: what place and route reached, or, until it has, what is aimed at."""

import json
from pathlib import Path
from typing import NamedTuple

from lpu_isa.config import TileConfig

__all__ = ["RESULTS", "Clock", "board_clock"]

RESULTS = Path("docs/results/fpga.json")
"""Figures of place and route, a list; from the folder of the project."""

BOARD = TileConfig().name
AIM_MHZ = 110.0


class Clock(NamedTuple):
    """A frequency, and whether the present design has been routed with it."""

    mhz: float
    is_routed: bool


def board_clock(tile: str, results: Path = RESULTS) -> Clock | None:
    """The fastest clock recorded for the present design of a tile; the aim for the board's; None for any other.

    tile : as `lpu_sw.run.find_tile` takes it.
    """
    entries = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else []
    routed = [entry["fmax_mhz"] for entry in entries if entry["tile"] == tile and entry["is_present_design"]]
    if routed:
        return Clock(max(routed), True)
    return Clock(AIM_MHZ, False) if tile == BOARD else None
