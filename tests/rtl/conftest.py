"""What the tests of the tile share: its simulator, images on disk, and a program to run after others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lpu_isa.config import SHAPES, TileConfig
from lpu_sw.asm import Program
from lpu_sw.image import Image
from lpu_tb.build import build_tile
from lpu_tb.runner import run_build


@pytest.fixture(scope="session")
def small() -> TileConfig:
    """The tile that is built fastest."""
    return SHAPES["4x4"]


@pytest.fixture
def run_tile(request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Run one bench of the whole tile: ``run_tile(config, bench, testcase, seed, **parameters)``."""

    def run(config: TileConfig, bench: str, testcase: str, seed: int = 1, **parameters: object) -> Path:
        name = request.node.nodeid.split("/")[-1].replace("::", "-").replace("[", "-").replace("]", "")
        return run_build(
            build_tile(config),
            f"lpu_tb.benches.{bench}",
            testcase,
            name=name,
            seed=seed,
            parameters={"seed": seed, **parameters},
        )

    return run


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str, Program], str]:
    """Write the image of a program: ``saved(name, program)`` gives its path."""

    def save(name: str, program: Program) -> str:
        path = tmp_path / f"{name}.lpuimg"
        Image.from_program(program).save(path)
        return str(path)

    return save
