"""The tile's Verilog under a simulator that shares nothing with Verilator: same state, same cycles."""

import shutil
from pathlib import Path

import pytest

from lpu_isa.config import SHAPES
from lpu_sw.asm import assemble_file
from lpu_sw.image import Image
from lpu_tb.build import TILE, tile_text
from lpu_tb.icarus import build_icarus
from lpu_tb.runner import run_build

KERNELS = Path(__file__).resolve().parents[2] / "examples" / "kernels"
SMALL = SHAPES["4x4"]


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog: apt install iverilog")
def test_kernels_leave_the_state_of_the_golden_model(tmp_path):
    paths = []
    for kernel in ("matvec", "softmax"):
        paths.append(str(tmp_path / f"{kernel}.lpuimg"))
        Image.from_program(assemble_file(KERNELS / f"{kernel}.lpu", SMALL)).save(paths[-1])
    made = build_icarus(tile_text(SMALL), TILE)
    run_build(made, "lpu_tb.benches.tile", "programs", name="icarus", parameters={"images": paths, "seed": 1})
