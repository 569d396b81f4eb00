"""The whole tile through place and route: clock, utilisation, tokens/s and bitstream."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lpu_isa.config import TileConfig
from lpu_rtl.primitives import Technology
from lpu_rtl.tile import Tile
from lpu_sw.run import plan_run

from .synth import ShiftHarness, area, bitstream, netlist, place_and_route, provenance

__all__ = ["mean_cycles", "record"]

_TOP = "tile_harness"
_POSITIONS = 128


def mean_cycles(model: Path, config: TileConfig) -> float:
    """Cycles a token of ``model``, averaged over positions 0..127, or over its context where that is shorter."""
    return float(np.mean(plan_run(model, "", _POSITIONS, "sim", config.name).predicted_cycles[:_POSITIONS]))


def record(
    config: TileConfig,
    model: Path,
    folder: Path,
    seeds: Sequence[int],
    target_mhz: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Build the tile behind a `ShiftHarness` once for each seed; return the fastest with what made it.

    The harness stands for the board: its host port is clocked like the tile's, so that no clock is unconstrained.
    """
    made = netlist(ShiftHarness(Tile(config, Technology.ECP5)), _TOP, folder)
    fingerprint = hashlib.sha256(made.with_suffix(".v").read_bytes()).hexdigest()[:16]
    size = area(made, _TOP)
    progress(f"{size.lut4} LUT4, {size.ff} registers, {size.dsp} DSP, {size.ebr} EBR; fingerprint {fingerprint}")
    runs = {}
    for seed in seeds:
        runs[seed] = place_and_route(made, seed=seed, target_mhz=target_mhz)
        progress(f"seed {seed}: {runs[seed].fmax_mhz} MHz")
    best = max(runs, key=lambda seed: runs[seed].fmax_mhz)
    routed = runs[best]
    cycles = mean_cycles(model, config)
    return {
        "tile": config.name,
        "top": "whole tile behind a shift-register harness",
        "fmax_mhz": routed.fmax_mhz,
        "tokens_per_second": round(routed.fmax_mhz * 1e6 / cycles),
        "model": model.stem,
        "mean_cycles": round(cycles, 1),
        "lut4": size.lut4,
        "ff": size.ff,
        "dsp": size.dsp,
        "ebr": size.ebr,
        "utilisation": routed.utilisation,
        "critical_path": routed.path,
        "logic_ns": routed.logic_ns,
        "routing_ns": routed.routing_ns,
        "seed": best,
        "seeds": {str(seed): run.fmax_mhz for seed, run in runs.items()},
        "target_mhz": target_mhz,
        "bitstream": bitstream(made, best).name,
        **provenance(),
        "fingerprint": fingerprint,
    }
