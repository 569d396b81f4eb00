"""Images are the same to the byte whatever the machine that compiles: its threads, its BLAS, its vector registers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

COMPILE = """
import sys
from pathlib import Path
from lpu_isa.config import SHAPES
from lpu_sw.compiler.llama import compile_llama
from lpu_sw.frontends import load_model
from lpu_sw.image import Image
model, image = map(Path, sys.argv[1:])
Image.from_program(compile_llama(load_model(model), SHAPES["16x16"], context=16).program).save(image)
"""


def image(model: Path, path: Path, **environment: str) -> bytes:
    """Compile a model in a process of its own, whose NumPy reads the environment."""
    subprocess.run(
        [sys.executable, "-c", COMPILE, str(model), str(path)],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
    )
    return path.read_bytes()


def test_images_do_not_depend_on_the_machine(story_llama: Path, tmp_path: Path) -> None:
    vector_features = np.show_config(mode="dicts")["SIMD Extensions"]["found"]  # pyright: ignore
    one_thread = image(story_llama, tmp_path / "image", OPENBLAS_NUM_THREADS="1")
    assert one_thread == image(story_llama, tmp_path / "image", OPENBLAS_NUM_THREADS="2")
    another = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": " ".join(vector_features)}
    assert one_thread == image(story_llama, tmp_path / "image", **another)
