"""What Yosys makes of the tile for the ECP5: the cells that were counted, which do what the tile does."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from lpu_isa.budget import budget
from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.formats import ACCUMULATOR_BITS, FloatFormat
from lpu_sw.asm import Program, assemble_file
from lpu_sw.asm.builder import Builder
from lpu_sw.image import Image
from lpu_tb.build import TILE
from lpu_tb.gates import build_gates, tile_netlist
from lpu_tb.runner import run_build

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "kernels"
KERNELS = ("matvec", "softmax", "embedding", "rotary_halves")  # between them every unit and memory
if os.environ.get("LPU_LARGE"):
    KERNELS += ("argmax", "conv3x3", "gelu", "layernorm", "rmsnorm", "rotary_pairs", "swiglu")
SMALL = SHAPES["4x4"]

BLOCK_RAM = {
    "weight SRAM": r"wmem\.",
    "vector SRAM": r"vmem\.",
    "scale SRAM": r"smem\.",
    "function tables": r"(vxm\.lane\d+\.function\$\d+|icu\.functions\.lookup)\.table\.",
    "program": r"icu\.fetch\.program\.",
    "timing memory": r"icu\.fetch\.timing\.",
    "inbox": r"host\.inbox\.",
    "outbox": r"host\.outbox\.",
}
"""Names of the cells of each memory of `lpu_isa.budget`."""
WITHOUT_OUTPUT_REGISTER = {"inbox", "outbox"}  # inferred by Yosys, which does not use it; the host can wait


def lut_ram(config: TileConfig) -> dict[str, tuple[str, int, int]]:
    """Of each memory of distributed RAM, 16 x 4 bits a cell: its cells' names, the fewest and the most of them."""

    def cells(words: int, bits: int) -> int:
        return -(-words // 16) * -(-bits // 4)

    accumulators = config.rows * sum(cells(n, ACCUMULATOR_BITS) for n in (config.accumulators, config.summed))
    activations, exponents = cells(config.act_blocks, 8 * config.cols), cells(config.act_blocks, 8)
    bases = cells(config.accumulators, 8)
    return {
        "accumulators": (r"mxm\.row\d+\.(bank|summed)\.", accumulators, accumulators),
        "bases of the accumulators": (r"mxm\.bases\.", bases, bases),
        "activations": (r"mxm\.buffer\.part\d+\.", activations, activations),
        "exponents of the activations": (r"mxm\.buffer\.codes\.", exponents, exponents),
        "scalar registers": (r"icu\.registers\.", 120, 180),
        "agendas of the vector unit": (r"vxm\.\w*agenda\.|vxm\.\w+\.agenda\.", 40, 70),
    }


@pytest.fixture(scope="module")
def cells() -> dict[str, list[tuple[str, dict]]]:
    """Names and parameters of the small tile's cells, by type."""
    made = json.loads(tile_netlist(SMALL).read_text())["modules"][TILE]["cells"]
    kinds: dict[str, list[tuple[str, dict]]] = {}
    for name, cell in made.items():
        kinds.setdefault(cell["type"], []).append((name, cell["parameters"]))
    return kinds


def named(cells: list[tuple[str, dict]], pattern: str) -> list[dict]:
    """Parameters of the cells whose names begin like that."""
    return [parameters for name, parameters in cells if re.match(pattern, name)]


def test_every_memory_has_the_block_rams_that_were_counted_with_their_output_registers(cells):
    assert [use.memory for use in budget(SMALL)] == list(BLOCK_RAM)
    wrong = []
    for use in budget(SMALL):
        found = named(cells["DP16KD"], BLOCK_RAM[use.memory])
        if len(found) != use.ebr:
            wrong.append(f"{use.memory}: {len(found)} DP16KD, expected {use.ebr}")
        registered = {"NOREG" if use.memory in WITHOUT_OUTPUT_REGISTER else "OUTREG"}
        if modes := {cell["REGMODE_B"] for cell in found} - registered:
            wrong.append(f"{use.memory}: block RAM with {modes}, expected {registered}")
    assert wrong == []
    assert len(cells["DP16KD"]) == sum(use.ebr for use in budget(SMALL))


def test_every_memory_of_distributed_ram_is_as_large_as_it_should_be(cells):
    wrong, counted = [], 0
    for memory, (pattern, fewest, most) in lut_ram(SMALL).items():
        found = len(named(cells["TRELLIS_DPR16X4"], pattern))
        counted += found
        if not fewest <= found <= most:
            wrong.append(f"{memory}: {found} TRELLIS_DPR16X4, expected {fewest} to {most}")
    assert wrong == []
    assert len(cells["TRELLIS_DPR16X4"]) == counted


def test_every_multiplier_has_its_registers(cells):
    assert len(cells["MULT18X18D"]) == SMALL.multipliers + 3 * SMALL.rows + 1
    for name, parameters in cells["MULT18X18D"]:
        clocks = {stage: parameters[f"REG_{stage}_CLK"] for stage in ("INPUTA", "INPUTB", "OUTPUT")}
        assert set(clocks.values()) == {"CLK0"}, f"{name}: {clocks}"


def numbers() -> Program:
    """Nothing but numbers around 1 in vector and scale SRAM, with which every kernel goes through without a fault."""
    builder, number, draw = Builder(SMALL), FloatFormat(SMALL.significand_bits), np.random.default_rng(1)
    for space, words in (("vmem", SMALL.vmem_words), ("smem", SMALL.smem_words)):
        builder.data(space, 0, number.encode(number.round(draw.normal(size=(words, SMALL.rows)))))
    builder.bundle(icu={"op": "halt"})
    return builder.build()


def test_kernels_leave_the_state_of_the_golden_model_in_its_cycles(tmp_path):
    programs = {"numbers": numbers()} | {name: assemble_file(FOLDER / f"{name}.lpu", SMALL) for name in KERNELS}
    paths = [str(tmp_path / f"{name}.lpuimg") for name in programs]
    for path, program in zip(paths, programs.values(), strict=True):
        Image.from_program(program).save(path)
    made = build_gates(SMALL)
    run_build(made, "lpu_tb.benches.tile", "programs", name="gates", parameters={"images": paths, "seed": 1})
