"""Quantised networks on the RTL: results, cycles and the whole state are the simulator's, which is onnxruntime's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lpu_isa.formats import FloatFormat
from lpu_sw.asm.program import Section
from lpu_sw.cli import application
from lpu_sw.engines import SimDevice, awaited
from lpu_sw.feed_forward.compile import compile_network
from lpu_sw.feed_forward.host import infer, input_vectors
from lpu_sw.frontends.onnx import read_onnx
from lpu_sw.image import Image
from lpu_sw.run import find_tile
from lpu_tb.build import build_tile
from lpu_tb.runner import run_build

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits"
TILE = "4x4,vmem_words=2048,act_blocks=128,accumulators=64,summed=64,bundles=1024,significand_bits=24"
"""The smallest that holds the network."""


def figures(engine: str, tile: str, network: Path, inputs: Path, count: int, folder: Path) -> dict[str, Any]:
    """What `lpu infer` writes of the first inputs; it fails when one takes other cycles than were predicted."""
    file = folder / f"{engine}.json"
    arguments = [network, inputs, "--engine", engine, "--tile", tile, "--limit", count, "--json", file]
    result = CliRunner().invoke(application(), ["infer", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found.pop("engine") == engine
    assert found["cycles"] == [found["predicted_cycles"]] * count
    return found


def test_the_command_finds_on_the_rtl_what_it_finds_on_the_simulator(tmp_path: Path) -> None:
    network = DIGITS / "digits.onnx", DIGITS / "heldout.npz", 3, tmp_path
    assert figures("rtl", TILE, *network) == figures("sim", TILE, *network)


@pytest.mark.parametrize("tile", ["16x16-cnn"])
def test_digits_on_the_rtl_of_the_default_tile(tile: str, tmp_path: Path) -> None:
    network = DIGITS / "digits.onnx", DIGITS / "heldout.npz", 20, tmp_path
    assert figures("rtl", tile, *network) == figures("sim", tile, *network)


@pytest.mark.parametrize("tile", ["16x16-cnn"])
def test_networks_of_mlperf_tiny_on_the_rtl(tile: str, mlperf_network: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, inputs = mlperf_network
    np.save(tmp_path / "inputs.npy", inputs[:3])
    network = path, tmp_path / "inputs.npy", 3, tmp_path
    assert figures("rtl", tile, *network) == figures("sim", tile, *network)


def test_the_whole_state_after_digits(tmp_path: Path) -> None:
    tile = find_tile(TILE)
    compiled = compile_network(read_onnx(DIGITS / "digits.onnx"), tile)
    with np.load(DIGITS / "heldout.npz") as loaded:
        images, labels = loaded["x"][:2], loaded["y"][:2]
    program, paths = compiled.program, []
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        result = awaited(infer(SimDevice(program), compiled, image))
        assert (result.largest, result.cycles) == (label, compiled.cycles)
        words = FloatFormat(tile.significand_bits).encode(input_vectors(compiled, image))
        loaded_image = Image.from_program(program)
        loaded_image.sections = [*program.sections, Section("vmem", compiled.given.first, words)]
        paths.append(str(tmp_path / f"digit{index}.lpuimg"))
        loaded_image.save(paths[-1])
    made = build_tile(tile, fast=True, clocked=True)  # the engine's build
    run_build(made, "lpu_tb.benches.tile", "programs", name="digits", parameters={"images": paths, "seed": 1})
