# amaranth: UnusedElaboratable=no
"""The board: its clock and reset, and a program through its pins."""

import os
from pathlib import Path

import numpy as np
import pytest

from lpu_isa.config import SHAPES, TileConfig
from lpu_rtl.board.pll import PllSettings, pll_settings
from lpu_rtl.board.top import BoardTop
from lpu_sw.asm.builder import Builder
from lpu_sw.image import Image
from lpu_tb.runner import run_bench

SMALL = SHAPES["4x4"]
LOADED = SMALL.replace(wmem_words=18_750) if os.environ.get("LPU_LARGE") else SMALL  # 300 kB of weights, or 8 kB
CLOCK_HZ = 25_000_000
DIVISOR = 4  # the top rate


def run(config: TileConfig, bench: str, path: Path, name: str, **parameters: object) -> None:
    """Run a bench of the board with an image that adds 5 to what it receives, and that fills the weight SRAM."""
    b = Builder(config)
    b.bundle(icu={"op": "recv", "rd": 1}, wait=8)
    b.bundle(icu={"op": "addi", "rd": 2, "rs": 1, "imm": 5}, wait=8)
    b.bundle(icu={"op": "send", "rs": 2}, wait=8)
    b.bundle(icu={"op": "halt"})
    weights = np.random.default_rng(1).integers(-127, 128, (config.wmem_words, config.rows, config.cols))
    b.data("wmem", 0, weights.astype(np.int8))
    Image.from_program(b.build()).save(path)
    given = {"image": str(path), "divisor": DIVISOR, "seed": 3, **parameters}
    top = BoardTop(config, CLOCK_HZ, CLOCK_HZ, CLOCK_HZ // DIVISOR)
    # An FPGA's registers start as they are told to, which the reset out of power-up relies on.
    run_bench(top, "board", "lpu_tb.benches.board", bench, name=name, parameters=given, fast=True)


@pytest.mark.parametrize("badness", [0.0, 0.15])
def test_a_program_is_loaded_and_run_through_the_pins(badness, tmp_path):
    run(SMALL, "program", tmp_path / "image", f"board-{badness}", badness=badness)


@pytest.mark.parametrize(
    ("byte_badness", "error"),
    [(1e-3, None), (0.02, r"no answer from the board after 8 attempts at address 0x[1-7][0-9a-f]{5}")],
    ids=["arrives", "fails"],
)
def test_an_image_arrives_whole_over_a_line_that_spoils_bytes_or_the_load_says_where_it_failed(
    byte_badness, error, tmp_path
):
    name = f"board-load-{byte_badness}"
    run(LOADED, "load", tmp_path / "image", name, byte_badness=byte_badness, error=error)


@pytest.mark.parametrize("mhz", [12.5, 25, 50, 62.5, 80, 100, 110, 112.5, 115, 120, 125])
def test_clocks_that_can_be_made_are_made_exactly_and_within_the_chips_limits(mhz):
    divide, multiply, output = pll_settings(25_000_000, round(mhz * 1e6))
    assert 25 / divide >= 10
    assert 400 <= 25 / divide * multiply <= 800
    assert 25 / divide * multiply / output == mhz


def test_the_oscillator_runs_as_slowly_compared_as_need_be():
    assert pll_settings(25_000_000, 110_000_000) == PllSettings(1, 22, 5)


def test_a_clock_that_cannot_be_made_is_refused_with_its_neighbours():
    with pytest.raises(ValueError, match=r"a clock of 111 MHz cannot be made of 25 MHz; .*: 110\.714 and 112\.5 MHz"):
        BoardTop(SMALL, 25_000_000, 111_000_000)
    with pytest.raises(ValueError, match=r"a clock of 500 MHz cannot be made of 25 MHz; .*: 400 MHz"):
        pll_settings(25_000_000, 500_000_000)
    with pytest.raises(ValueError, match="the PLL's input must be 8 to 400 MHz, not 1 MHz"):
        pll_settings(1_000_000, 100_000_000)


def test_a_rate_that_the_clock_does_not_hit_is_refused():
    with pytest.raises(ValueError, match="3000000 baud cannot be had from 25000000 Hz: the nearest is 3125000 baud"):
        BoardTop(SMALL, 25_000_000, 25_000_000, 3_000_000)
    with pytest.raises(ValueError, match="10000000 baud must be at most a quarter of the clock, 25000000 Hz"):
        BoardTop(SMALL, 25_000_000, 25_000_000, 10_000_000)
