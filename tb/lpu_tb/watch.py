"""Watches a tile from inside: which bundle issues in which cycle, and how many steps the units take after it."""

import cocotb
from cocotb.triggers import FallingEdge

from lpu_sw.profile.watch import Seen

from .build import TILE
from .public import Public

__all__ = ["WATCHED", "Watch"]

WATCHED = (
    Public(f"{TILE}.icu", "cycles"),
    Public(f"{TILE}.icu", "issued"),
    Public(f"{TILE}.icu", "mxm__start"),
    Public(f"{TILE}.icu", "vxm__start"),
    Public(f"{TILE}.icu.fetch", "issue"),
    Public(f"{TILE}.mxm.loop", "active"),
    Public(f"{TILE}.vxm.steps", "running"),
)
"""Signals that the build must make public."""


class Watch:
    """Notes what issues, from now on until it is taken. ``dut`` is a tile that was built with `WATCHED`."""

    def __init__(self, dut) -> None:
        self._clk = dut.clk
        self._cycles, self._issued, self._issue = dut.icu.cycles, dut.icu.issued, dut.icu.fetch.issue
        # For each unit: its operation is issued; it takes a step, from the next cycle on.
        self._units = [(dut.icu.mxm__start, dut.mxm.loop.active), (dut.icu.vxm__start, dut.vxm.steps.running)]
        self._seen: dict[int, list[int]] = {}  # cycle -> bundle, steps of each unit
        self._task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        issue: int | None = None  # the cycle before, if a bundle was issued in it
        latest = [0, 0]  # cycles in which the operations were issued that the units are at
        starts = [False, False]
        while True:
            await FallingEdge(self._clk)
            # The bundle's number shows in the cycle after. A RECV that waits stands at issue in one counted cycle.
            if issue is not None:
                self._seen[issue] = [int(self._issued.value), 0, 0]
                latest = [issue if start else before for start, before in zip(starts, latest, strict=True)]
            for unit, (_, steps) in enumerate(self._units):
                if steps.value:
                    self._seen[latest[unit]][1 + unit] += 1
            issue = int(self._cycles.value) if self._issue.value else None
            starts = [bool(start.value) for start, _ in self._units] if issue is not None else starts

    def take(self) -> list[Seen]:
        """Everything that has issued, in order; the watch is over."""
        self._task.cancel()
        return [Seen(cycle, *rest) for cycle, rest in sorted(self._seen.items())]
