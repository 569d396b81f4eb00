"""The commands of ``lpu`` that need the hardware description; the entry points of ``lpu.command`` name them."""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from lpu_isa.serial import BAUD
from lpu_rtl.export import tile_file
from lpu_rtl.primitives import Technology
from lpu_rtl.tile import Tile
from lpu_sw.asm import assemble_file
from lpu_sw.cli import DEFAULT_MODEL, TileOption
from lpu_sw.image import Image
from lpu_sw.run import find_tile

from . import fpga as board
from .build import SIM_BUILD, TILE, build_tile, tile_text
from .route import record
from .runner import run_build
from .synth import Area, areas, tool_versions
from .xilinx import XilinxArea, xilinx_area

__all__ = ["Target", "fpga", "route", "rtl", "synth", "wave"]


class Target(StrEnum):
    """What `synth` counts the cells of."""

    ECP5 = "ecp5"
    XILINX = "xilinx"


def _write(path: Path, contents: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    typer.echo(f"written  {path}")


def _table(sizes: Mapping[str, Area | XilinxArea]) -> list[str]:
    width = max(map(len, sizes))
    head = "".join(f"{name:>9}" for name in next(iter(sizes.values()))._fields)
    return [f"{'':{width}}{head}"] + [
        f"{name:{width}}" + "".join(f"{n:>9}" for n in size) for name, size in sizes.items()
    ]


def rtl(
    tile: TileOption = "8x16",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> None:
    """Write the Verilog of a tile, by default to sim_build/rtl/tile_TILE.v, where TILE has only letters and digits."""
    path = output or SIM_BUILD / "rtl" / f"tile_{re.sub(r'[^0-9A-Za-z]+', '_', tile)}.v"
    config = find_tile(tile)
    text = tile_file(config, tile_text(config))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    typer.echo(f"written  {path}: module {TILE}, {len(text):,} bytes")


def wave(
    kernel: Annotated[Path, typer.Argument(help="Assembly, .lpu.")] = Path("examples/kernels/matvec.lpu"),
    tile: TileOption = "4x4",
) -> None:
    """Record the waveform of a kernel on the tile's Verilog."""
    program = assemble_file(kernel, find_tile(tile))
    with TemporaryDirectory() as folder:
        image = Path(folder) / "kernel.lpuimg"
        Image.from_program(program).save(image)
        made = build_tile(program.config, fast=True, waves=True, say=typer.echo)
        run = run_build(made, "lpu_tb.benches.kernel", name="wave", parameters={"image": str(image)}, waves=True)
    path = run / "dump.vcd"
    typer.echo(f"written  {path}, {path.stat().st_size:,} bytes")
    typer.echo("open it with GTKWave (apt install gtkwave) or at https://app.surfer-project.org")
    typer.echo("look at tile.icu: fetch.issue and fetch.pc show each bundle in its cycle, mxm and vxm what it starts")


def synth(
    tile: TileOption = "8x16",
    target: Annotated[
        Target, typer.Option(help="ecp5 counts each unit as well; xilinx takes the exported text, for a 7-series chip.")
    ] = Target.ECP5,
    json_file: Annotated[Path, typer.Option("--json", help="File to write the figures to.")] = SIM_BUILD / "synth.json",
) -> None:
    """Count the cells of the tile with Yosys."""
    config = find_tile(tile)
    folder = SIM_BUILD / target / config.name
    if target is Target.XILINX:
        sizes = {TILE: xilinx_area(tile_text(config, typer.echo), TILE, folder)}
    else:
        sizes = areas(Tile(config, Technology.ECP5), TILE, folder)
    for line in _table(sizes):
        typer.echo(line)
    figures = {name: size._asdict() for name, size in sizes.items()}
    total = figures.pop(TILE)
    contents = {"tile": tile, "target": target, "tools": tool_versions(), "total": total, "modules": figures}
    _write(json_file, contents)


def route(
    tile: TileOption = "8x16",
    seeds: Annotated[list[int] | None, typer.Option("--seed", min=0, help="Of the placer; may be repeated.")] = None,
    target_mhz: Annotated[float, typer.Option(help="Clock that the placer works towards.")] = 115.0,
    json_file: Annotated[Path, typer.Option("--json", help="File to write the figures to.")] = SIM_BUILD / "route.json",
) -> None:
    """Place and route what sets the clock, for the LFE5U-85F, with nextpnr: minutes a seed."""
    config = find_tile(tile)
    _write(json_file, record(config, SIM_BUILD / "fpga" / config.name, seeds or [1], target_mhz, typer.echo))


def fpga(
    tile: TileOption = "8x16",
    seeds: Annotated[list[int] | None, typer.Option("--seed", min=0, help="Of the placer; may be repeated.")] = None,
    clock_mhz: Annotated[float, typer.Option(min=1, help="Clock of the tile; to miss it is an error.")] = 50.0,
    baud: Annotated[int, typer.Option(min=1, help="Rate of the serial line.")] = BAUD,
    part: Annotated[str, typer.Option(help="Chip on the board: 12F, 25F, 45F or 85F.")] = "85F",
    jobs: Annotated[int, typer.Option(min=1, help="Seeds that are placed and routed side by side.")] = 1,
    minutes: Annotated[float, typer.Option(min=0, help="After which a seed is given up.")] = 60.0,
    model: Annotated[Path, typer.Option(help="Model whose tokens/s are stated.")] = DEFAULT_MODEL,
    json_file: Annotated[Path, typer.Option("--json", help="File to write the figures to.")] = SIM_BUILD / "fpga.json",
    is_recorded: Annotated[bool, typer.Option("--record", help="Append them to docs/results/fpga.json.")] = False,
) -> None:
    """Build the bitstream of a ULX3S with the tile; of several seeds the fastest. Half an hour a seed."""
    folder = SIM_BUILD / "fpga" / re.sub(r"\W+", "_", f"{tile}_{part}_{clock_mhz:g}")
    figures = board.record(
        tile, model, folder, seeds or [1], clock_mhz, typer.echo, baud=baud, part=part, jobs=jobs,
        minutes=minutes,
    )  # fmt: skip
    _write(json_file, figures)
    typer.echo(f"written  {folder / figures['bitstream']}")
    if figures["fmax_mhz"] < clock_mhz:
        typer.echo(f"lpu: found {figures['fmax_mhz']} MHz, {clock_mhz:g} MHz were to be reached", err=True)
        raise typer.Exit(1)
    if is_recorded:
        board.remember(figures)
        typer.echo(f"recorded {board.RESULTS}")
