"""Bench: how near a tile comes to its floor, and how fast simulator, RTL and compiler are on this machine."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lpu_sw.clock import board_clock
from lpu_sw.compiler.llama import facts_to_metadata
from lpu_sw.engines import EngineError
from lpu_sw.frontends import load_model
from lpu_sw.image import Image
from lpu_sw.processor import llama2c_speeds
from lpu_sw.profile.figures import token_profile
from lpu_sw.run import Plan, Record, find_tile, n_parameters, plan_run

__all__ = ["MEAN_POSITIONS", "bench", "figures_table"]

MEAN_POSITIONS = 128
"""Utilisation is averaged over positions 0..127, or over the context where it is shorter."""
SHOWN_POSITIONS = (0, 63, 127, 255)
SIM_RUNS = 5
"""The fastest run of the simulator counts: what else the machine does can only slow it down."""


def bench(
    pairs: list[tuple[Path, str]], sim_tokens: int, rtl_tokens: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure; each entry of ``runs`` is one of the ``pairs``, a model and a tile.

    sim_tokens, rtl_tokens : length of the runs whose speed is measured; 0 leaves them out. The first pair is the one
    that also runs on the RTL. ``board`` : speed at `board_clock`, None without one. ``llama2c`` : see
    `llama2c_speeds`. Raises ValueError for a model or a tile that cannot be used, before anything is measured if that
    shows from its file or name alone.
    """
    for model, tile in pairs:
        load_model(model)
        find_tile(tile)
    runs = []
    for model, tile in pairs:
        say(f"{model} on {tile}")
        plan = plan_run(model, "", 1 << 20, "sim", tile)
        entry = {"model": plan.model_path.stem, "tile": tile, **_planned(plan), "board": _on_board(plan, tile)}
        if sim_tokens:
            plan = plan_run(model, "", sim_tokens, "sim", tile)
            entry["sim"] = max((_ran(plan) for _ in range(SIM_RUNS)), key=itemgetter("tokens_per_second"))
        if rtl_tokens and not runs:
            entry["rtl"] = _ran_on_rtl(model, tile, rtl_tokens, say)
        runs.append(entry)
    models = list(dict.fromkeys(model for model, _ in pairs))
    return {"runs": runs, "llama2c": llama2c_speeds(models, MEAN_POSITIONS, say)}


def _planned(plan: Plan) -> dict[str, Any]:
    """What is known without running: cycles, utilisation, sizes."""
    facts = plan.job.compiled.facts
    cycles, floor = plan.predicted_cycles, plan.floor_cycles
    utilisation = np.array(floor) / np.array(cycles)
    shown = [position for position in SHOWN_POSITIONS if position < facts.context]
    with TemporaryDirectory() as folder:
        image = Path(folder) / "image"
        Image.from_program(plan.job.program, {"llama": facts_to_metadata(facts)}).save(image)
        image_bytes = image.stat().st_size
    return {
        "context": facts.context,
        "mean_positions": min(MEAN_POSITIONS, facts.context),
        "mean_utilisation": float(utilisation[:MEAN_POSITIONS].mean()),
        "utilisation": sum(floor) / sum(cycles),
        "mean_cycles": float(np.mean(cycles[:MEAN_POSITIONS])),
        "positions": {
            str(position): {
                "cycles": cycles[position],
                "floor_cycles": floor[position],
                "utilisation": float(utilisation[position]),
            }
            for position in shown
        },
        "matmuls": [
            asdict(kind) for kind in token_profile(plan.job.compiled, plan.job.model.config, facts.context - 1).kinds
        ],
        "bundles": len(plan.job.compiled.program.bundles),
        "image_bytes": image_bytes,
        "compile_seconds": plan.compile_seconds,
    }


def _on_board(plan: Plan, tile: str) -> dict[str, Any] | None:
    """Speed over the positions of the mean, at the board's clock."""
    clock = board_clock(tile)
    if clock is None:
        return None
    speed = clock.mhz * 1e6 / float(np.mean(plan.predicted_cycles[:MEAN_POSITIONS]))
    return {
        "clock_mhz": clock.mhz,
        "is_routed": clock.is_routed,
        "tokens_per_second": speed,
        "weights_per_second": speed * n_parameters(plan.job.model),
    }


def _ran(plan: Plan) -> dict[str, Any]:
    """A run, and its speed by processor time."""
    record = Record(plan)
    for _ in record.run():
        pass
    return {
        "positions": len(record.posts),
        "cycles": sum(record.cycles),
        "is_as_predicted": record.first_difference() is None,
        "tokens_per_second": len(record.posts) / plan.engine.cpu_seconds,
        "cycles_per_second": sum(record.cycles) / plan.engine.cpu_seconds,
    }


def _ran_on_rtl(model: Path, tile: str, tokens: int, say: Callable[[str], None]) -> dict[str, Any]:
    try:
        plan = plan_run(model, "", tokens, "rtl", tile)
        plan.engine.prepare(plan.job, say)
        return _ran(plan)
    except EngineError as error:
        return {"unavailable": str(error)}


def figures_table(figures: dict[str, Any]) -> str:
    """The Markdown tables of ``docs/performance.md``."""
    lines = [
        "| model | tile | context | "
        + " | ".join(f"position {position}" for position in SHOWN_POSITIONS)
        + " | mean | whole context |",
        "| --- " * (len(SHOWN_POSITIONS) + 5) + "|",
    ]
    for run in figures["runs"]:
        cells = []
        for position in map(str, SHOWN_POSITIONS):
            at = run["positions"].get(position)
            cells.append(f"{at['utilisation']:.2f} ({at['cycles']:,})" if at else "-")
        mean = f"{run['mean_utilisation']:.3f} ({run['mean_cycles']:,.0f})"
        lines.append(f"| {run['model']} | {run['tile']} | {run['context']} | {' | '.join(cells)} | {mean} "
                     f"| {run['utilisation']:.3f} |")  # fmt: skip
    lines += [
        "",
        "| model | tile | bundles | image, bytes | compiled in | simulator | as predicted | RTL |",
        "| --- " * 8 + "|",
    ]
    for run in figures["runs"]:
        sim, rtl = run.get("sim"), run.get("rtl")
        equal = [side["is_as_predicted"] for side in (sim, rtl) if side and "is_as_predicted" in side]
        lines.append(
            f"| {run['model']} | {run['tile']} | {run['bundles']} | {run['image_bytes']:,} "
            f"| {run['compile_seconds']:.1f} s | {_speed(sim)} | {'yes' if equal and all(equal) else 'no'} "
            f"| {_speed(rtl)} |"
        )
    for speed in figures["llama2c"]:
        lines += ["", *_beside(speed, [run for run in figures["runs"] if run["model"] == speed["model"]])]
    return "\n".join(lines)


def _beside(speed: dict[str, Any], runs: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of the table of llama2.c's speed on a model beside that of the tiles which have a clock."""
    yield f"| {speed['model']} on | clock, MHz | cycles a token | tokens/s | weights/s | times llama2.c |"
    yield "| --- " * 6 + "|"
    flags = f", {speed['flags']}" if speed["flags"] else ""
    rows = [(f"llama2.c{flags}, one core of {speed['processor']}", speed, speed)]
    for run in runs:
        if run["board"]:
            origin = "routed" if run["board"]["is_routed"] else "a clock not yet routed"
            rows.append((f"tile {run['tile']}, {origin}", run, run["board"]))
    for name, cycles, at in rows:
        clock, mean = (f"{value:,.0f}" if value else "-" for value in (at["clock_mhz"], cycles["mean_cycles"]))
        ratio = at["tokens_per_second"] / speed["tokens_per_second"]
        yield (
            f"| {name} | {clock} | {mean} | {at['tokens_per_second']:,.0f} | {at['weights_per_second']:.2e} "
            f"| {ratio:.2f} |"
        )


def _speed(run: dict[str, Any] | None) -> str:
    if run is None or "unavailable" in run:
        return "-"
    return f"{run['tokens_per_second']:,.1f} tokens/s, {run['cycles_per_second']:,.0f} cycles/s"
