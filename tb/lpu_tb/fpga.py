"""The board through place and route to clock, tokens/s and bitstream; which of the recorded figures still hold."""

import importlib
import importlib.util
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lpu_isa.serial import BAUD
from lpu_rtl.board.top import BoardTop
from lpu_rtl.board.ulx3s import OSCILLATOR_HZ, Ulx3s
from lpu_rtl.fingerprint import design_fingerprint
from lpu_rtl.primitives import Technology
from lpu_sw.bench import MEAN_POSITIONS
from lpu_sw.clock import RESULTS
from lpu_sw.compiler.memory import DoesNotFit
from lpu_sw.run import find_tile, plan_run

from .floorplan import floorplan
from .part import PARTS
from .paths import slow_paths
from .synth import Routed, SynthesisError, area, bitstream, delays, place_and_route, provenance, run_yosys

__all__ = ["RESULTS", "fingerprint", "mean_cycles", "record", "remember", "stale"]

_TOP = "board"
_MISMATCH = 0.001
_SLOW = 0.8
"""Of the longest path: what takes longer is told, up to so many paths."""
_MAX_PATHS = 12


def mean_cycles(model: Path, tile: str) -> float:
    """Cycles a token of ``model``, averaged over positions 0..127, or over its context where that is shorter."""
    return float(np.mean(plan_run(model, "", MEAN_POSITIONS, "sim", tile).predicted_cycles[:MEAN_POSITIONS]))


@cache
def fingerprint(tile: str, clock_mhz: float, baud: int) -> str:
    """`design_fingerprint` of a tile on the board."""
    clock_hz = round(clock_mhz * 1e6)
    return design_fingerprint(BoardTop(find_tile(tile), OSCILLATOR_HZ, clock_hz, baud, Technology.ECP5))


def record(
    tile: str,
    model: Path,
    folder: Path,
    seeds: Sequence[int],
    clock_mhz: float,
    progress: Callable[[str], None],
    *,
    baud: int = BAUD,
    part: str = "85F",
    jobs: int = 1,
    minutes: float | None = None,
) -> dict[str, Any]:
    """Build the ULX3S with a tile once for each seed, ``jobs`` at a time; return the fastest with what made it.

    tile : as `lpu_sw.run.find_tile` takes it. part : of `lpu_tb.part.PARTS`. Tokens/s are those of the routed clock,
    None for a model that the tile does not hold.

    Raises ValueError for a design that cannot be, or that the part does not hold, and `SynthesisError`.
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}, expected one of {', '.join(PARTS)}")
    try:
        cycles = mean_cycles(model, tile)
    except DoesNotFit as error:
        progress(f"tokens/s are not stated: {error}")
        cycles = None
    made = _netlist(tile, round(clock_mhz * 1e6), baud, part, folder)
    size = area(made, _TOP)
    design = fingerprint(tile, clock_mhz, baud)
    progress(f"{size.lut4} LUT4, {size.ff} registers, {size.dsp} DSP, {size.ebr} EBR; fingerprint {design}")
    PARTS[part].check(size)
    runs = _routed(made, seeds, part, jobs, minutes, progress)
    best = max(runs, key=lambda seed: runs[seed].fmax_mhz)
    routed, clocks = runs[best], [run.fmax_mhz for run in runs.values()]
    if abs(routed.constraint_mhz / clock_mhz - 1) > _MISMATCH:
        raise SynthesisError(
            f"nextpnr derived a clock of {routed.constraint_mhz} MHz, {clock_mhz:g} MHz were to be made"
        )
    paths = slow_paths(delays(made, best), _SLOW * 1e3 / routed.fmax_mhz)[:_MAX_PATHS]
    for path in paths:
        progress(f"{path.ns:.1f} ns, {path.logic_ns:.1f} of logic: {path.start} to {path.end} ({path.endpoints})")
    return {
        "tile": tile,
        "fmax_mhz": routed.fmax_mhz,
        "tokens_per_second": None if cycles is None else round(routed.fmax_mhz * 1e6 / cycles),
        "lut4": size.lut4,
        "ff": size.ff,
        "dsp": size.dsp,
        "ebr": size.ebr,
        "seed": best,
        "clock_mhz": clock_mhz,
        "baud": baud,
        "part": f"LFE5U-{part}",
        "model": model.stem,
        "mean_cycles": None if cycles is None else round(cycles, 1),
        "utilisation": routed.utilisation,
        "critical_path": routed.path,
        "logic_ns": routed.logic_ns,
        "routing_ns": routed.routing_ns,
        "slow_paths": [path._asdict() for path in paths],
        "seeds": {str(seed): run.fmax_mhz for seed, run in runs.items()},
        "seeds_mhz": {"lowest": min(clocks), "median": statistics.median(clocks), "highest": max(clocks)},
        "bitstream": bitstream(made, best).name,
        **provenance(PARTS[part].option),
        "fingerprint": design,
    }


def _netlist(tile: str, clock_hz: int, baud: int, part: str, folder: Path) -> Path:
    """What Amaranth's platform for the board makes of the tile: pins, clocks and Yosys' script; run here by pyosys.

    The platform would start programs called ``yosys`` and ``nextpnr-ecp5``, of which the wheels have none.
    """
    if importlib.util.find_spec("amaranth_boards") is None:
        raise SynthesisError("amaranth-boards is missing: pip install amaranth-boards")
    platform = getattr(importlib.import_module("amaranth_boards.ulx3s"), PARTS[part].platform)()
    design = Ulx3s(find_tile(tile), clock_hz, baud)
    platform.prepare(design, _TOP, emit_src=False, debug_verilog=False).extract(folder)
    made = folder / f"{_TOP}.json"
    run_yosys(f"script {_TOP}.ys\n", made.with_suffix(".log"))
    if part == "85F":
        floorplan(made, _TOP)
    return made


def _routed(
    made: Path, seeds: Sequence[int], part: str, jobs: int, minutes: float | None, progress: Callable[[str], None]
) -> dict[int, Routed]:
    """Each seed's result; a seed that cannot be routed is told and left out, unless there is no other."""
    option, constraints = PARTS[part].option, made.with_suffix(".lpf")
    runs, failure = {}, None
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            seed: pool.submit(place_and_route, made, seed=seed, constraints=constraints, part=option, minutes=minutes)
            for seed in seeds
        }
        for seed, future in waiting.items():
            try:
                runs[seed] = future.result()
                progress(f"seed {seed}: {runs[seed].fmax_mhz} MHz")
            except SynthesisError as error:
                failure = error
                progress(f"seed {seed}: {error}")
    if failure is not None and not runs:
        raise failure
    return runs


def remember(figures: dict[str, Any], path: Path = RESULTS) -> None:
    """Append figures to the list, as those of the present design; those of the same build by another are so no more."""
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    build = ("tile", "clock_mhz", "baud")
    for entry in entries:
        if [entry[key] for key in build] == [figures[key] for key in build]:
            entry["is_present_design"] &= entry["fingerprint"] == figures["fingerprint"]
    entries.append(figures | {"is_present_design": True})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def stale(entries: Iterable[dict[str, Any]]) -> list[str]:
    """What is wrong with each entry that claims to be of the present design, and is not."""
    return [
        f"{entry['tile']}, seed {entry['seed']}: recorded for design {entry['fingerprint']}, the present one is {now}: "
        "record it anew, or set is_present_design to false"
        for entry in entries
        if entry["is_present_design"]
        and entry["fingerprint"] != (now := fingerprint(entry["tile"], entry["clock_mhz"], entry["baud"]))
    ]
