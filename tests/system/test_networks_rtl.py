"""A quantised network on the RTL: the whole state, cycles included, is the simulator's, which is onnxruntime's."""

from pathlib import Path

import numpy as np

from lpu_isa.config import SHAPES
from lpu_isa.formats import FloatFormat
from lpu_sw.asm.program import Section
from lpu_sw.engines import SimDevice, awaited
from lpu_sw.feed_forward.compile import compile_network
from lpu_sw.feed_forward.host import infer, input_vectors
from lpu_sw.frontends.onnx import read_onnx
from lpu_sw.image import Image
from lpu_tb.build import build_tile
from lpu_tb.runner import run_build

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits"
TILE = SHAPES["4x4"].replace(vmem_words=2048, act_blocks=128, accumulators=64, bundles=1024, significand_bits=24)
"""The smallest that holds the network."""


def test_digits(tmp_path: Path) -> None:
    compiled = compile_network(read_onnx(DIGITS / "digits.onnx"), TILE)
    with np.load(DIGITS / "heldout.npz") as loaded:
        images, labels = loaded["x"][:2], loaded["y"][:2]
    program, paths = compiled.program, []
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        result = awaited(infer(SimDevice(program), compiled, image))
        assert (result.largest, result.cycles) == (label, compiled.cycles)
        words = FloatFormat(TILE.significand_bits).encode(input_vectors(compiled, image))
        loaded_image = Image.from_program(program)
        loaded_image.sections = [*program.sections, Section("vmem", compiled.given.first, words)]
        paths.append(str(tmp_path / f"digit{index}.lpuimg"))
        loaded_image.save(paths[-1])
    run_build(
        build_tile(TILE), "lpu_tb.benches.tile", "programs", name="digits", parameters={"images": paths, "seed": 1}
    )
