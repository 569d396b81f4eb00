"""The clock of a design under test: a bench starts it, unless the simulator was built with one that runs by itself."""

import os

from cocotb.clock import Clock

__all__ = ["CLOCK_NS", "RUNS", "start_clock"]

CLOCK_NS = 10
"""Period in simulated time."""

RUNS = "LPU_BENCH_CLOCK_RUNS"
"""Environment variable of a simulator process: whether the clock runs by itself, 1 or 0."""


def start_clock(clk) -> None:
    """Start the clock ``clk``, a signal of the design, unless it runs by itself."""
    if os.environ.get(RUNS) != "1":
        Clock(clk, CLOCK_NS, unit="ns").start()
