"""The ECP5 netlist of a tile as Verilog that a simulator can run: Yosys' cells, with a model of each.

Carries, registers, multiplexers and distributed RAM have models that Yosys brings. Block RAM and multiplier are empty
boxes there: theirs are in ``ecp5_cells.v``, with a quicker look-up table.
"""

import hashlib
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from lpu_isa.config import TileConfig
from lpu_rtl.export import verilog_text
from lpu_rtl.primitives import Technology
from lpu_rtl.tile import Tile

from .build import SIM_BUILD, TILE, Build, build_text, make_once
from .synth import run_yosys, synthesise, tool_versions

__all__ = ["build_gates", "tile_netlist"]

_OURS = Path(__file__).with_name("ecp5_cells.v")
_NOT_NEEDED = re.compile(
    r"^\s*specify$.*?^\s*endspecify$|^`include .*?$|^module LUT4\(.*?^endmodule$", re.MULTILINE | re.DOTALL
)
"""Of Yosys' models: times, which a simulator ignores; cells under names that Yosys does not use; what is ours."""

_WAIVERS = "/* verilator lint_off INITIALDLY */"
"""Yosys' memories start by assignments that are not blocking."""


@cache
def tile_netlist(config: TileConfig) -> Path:
    """Netlist of a whole tile after ``synth_ecp5``, JSON of one module `TILE`; kept as long as tile and Yosys stay.

    The 4x4 tile takes two minutes. Raises `SynthesisError`.
    """
    text = verilog_text(Tile(config, Technology.ECP5), TILE)
    key = hashlib.sha256(f"{tool_versions()}\0{text}".encode()).hexdigest()
    folder = SIM_BUILD / "netlist" / key[:16]

    def make() -> None:
        source = folder / f"{TILE}.v"
        source.write_text(text)
        synthesise(source, TILE, folder / f"{TILE}.json")

    make_once(folder, make)
    return folder / f"{TILE}.json"


def build_gates(config: TileConfig) -> Build:
    """Simulator of `tile_netlist`; registers and memories start as they do on the chip. Raises `BuildError`."""
    made = tile_netlist(config)
    gates, log = made.with_name("gates.v"), made.with_name("gates.log")
    # A signal a bit, without the names that tell where it came from: half the text, and a quarter of the time.
    steps = ["delete t:$scopeinfo", "splitnets", "rename -hide", "opt_clean", f"write_verilog -noattr {gates.name}"]
    run_yosys("\n".join([f"read_json {made.name}", *steps]), log)
    theirs = files("pyosys") / "share" / "ecp5"
    models = [_NOT_NEEDED.sub("", (theirs / file).read_text()) for file in ("common_sim.vh", "ccu2c_sim.vh")]
    text = "\n".join([_WAIVERS, gates.read_text(), *models, _OURS.read_text()])
    return build_text(text, TILE, fast=True, options=("-CFLAGS", "-O0"))
