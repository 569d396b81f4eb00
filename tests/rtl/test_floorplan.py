"""Sites of the LFE5U-85F for the block RAMs and multipliers of the 8x16 tile, by the names of the tile's own cells."""

import json
import re
from pathlib import Path

from lpu_isa.config import SHAPES
from lpu_rtl.export import verilog_text
from lpu_rtl.primitives import Technology
from lpu_rtl.tile import Tile
from lpu_tb.floorplan import floorplan

_INSTANCE = re.compile(r"^  (DP16KD|MULT18X18D) #\((?:.|\n)*?^  \) (\S+) \(", re.MULTILINE)


def flattened(shape: str) -> dict[str, dict]:
    """The block RAMs and multipliers of a tile, named as Yosys does when it flattens the board that holds it."""
    modules = re.split(r"^module \\?(\S+) ?\(", verilog_text(Tile(SHAPES[shape], Technology.ECP5), "tile"), flags=re.M)
    return {
        f"top.tile.{name}.{instance}": {"type": kind, "attributes": {}}
        for name, body in zip(modules[1::2], modules[2::2], strict=True)
        for kind, instance in _INSTANCE.findall(body)
    }


def placed(shape: str, made: Path) -> tuple[bool, dict[str, dict]]:
    made.write_text(json.dumps({"modules": {"board": {"cells": flattened(shape)}}}))
    return floorplan(made, "board"), json.loads(made.read_text())["modules"]["board"]["cells"]


def test_each_cell_of_the_matrix_unit_has_a_site_of_its_own_and_kind(tmp_path):
    done, cells = placed("8x16", tmp_path / "board.json")
    assert done
    sites = {name: cell["attributes"]["BEL"] for name, cell in cells.items() if cell["attributes"]}
    assert len(set(sites.values())) == len(sites)
    kinds = {"DP16KD": "EBR", "MULT18X18D": "MULT18"}
    assert all(kinds[cells[name]["type"]] in site for name, site in sites.items())
    assert sum(".mxm." in name for name in sites) == 8 * 16
    assert sum(".wmem." in name for name in sites) == 8 * (16 + 4)
    left = [name for name in cells if name not in sites]
    assert not [name for name in left if re.search(r"\.(mxm|wmem|vmem|vxm)\.", name)]


def test_another_shape_is_left_to_the_placer(tmp_path):
    done, cells = placed("4x4", tmp_path / "board.json")
    assert not done
    assert not any(cell["attributes"] for cell in cells.values())
