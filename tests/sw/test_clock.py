"""The clock of a tile on the board: the fastest that was recorded for the present design, else what is aimed at."""

import json
from pathlib import Path

import pytest

from lpu_sw.clock import AIM_MHZ, Clock, board_clock


@pytest.fixture
def results(tmp_path: Path) -> Path:
    entries = [
        {"tile": tile, "fmax_mhz": mhz, "is_present_design": is_present}
        for tile, mhz, is_present in (("8x16", 112.5, True), ("8x16", 111.0, True), ("8x16", 130.0, False),
                                      ("16x16", 120.0, False), ("8x16,wmem_words=3072", 101.0, True))
    ]  # fmt: skip
    (tmp_path / "fpga.json").write_text(json.dumps(entries))
    return tmp_path / "fpga.json"


def test_the_fastest_of_the_present_design(results: Path) -> None:
    assert board_clock("8x16", results) == Clock(112.5, True)
    assert board_clock("8x16,wmem_words=3072", results) == Clock(101.0, True)


def test_a_tile_without_a_record(results: Path, tmp_path: Path) -> None:
    assert board_clock("16x16", results) is None
    assert board_clock("16x16", tmp_path / "none.json") is None
    assert board_clock("8x16", tmp_path / "none.json") == Clock(AIM_MHZ, False)
