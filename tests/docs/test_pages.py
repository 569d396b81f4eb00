"""The generated pages are current, and what they say of the board holds."""

from pathlib import Path

import pytest

from lpu_isa.budget import BOARD_EBR, blocks, budget
from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.icu import IcuOp
from lpu_sw.docs import pages, write_pages

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", pages())
def test_committed_pages_are_current(name):
    assert (ROOT / name).read_text(encoding="utf-8") == pages()[name], "out of date: run `lpu docs`"


def test_pages_are_written_where_they_belong(tmp_path):
    assert [str(path.relative_to(tmp_path)) for path in write_pages(tmp_path)] == list(pages())
    assert (tmp_path / "docs" / "isa.md").read_text(encoding="utf-8") == pages()["docs/isa.md"]


def test_the_reference_names_every_operation_and_field():
    text = pages()["docs/isa.md"]
    for op in IcuOp:
        assert f"`{op.name.lower()}" in text
    for name in ("weights_inner", "reduce_reg", "q_step", "amount_reg", "OUTBOX_STAMP", "ACCUMULATOR_HEADROOM"):
        assert f"`{name}`" in text


def test_the_board_has_block_ram_enough():
    assert sum(use.ebr for use in budget(TileConfig())) <= BOARD_EBR


def test_weights_take_a_block_a_multiplier_and_a_quarter_for_the_last_512_words():
    def weights(**changes: int) -> int:
        return budget(TileConfig(**changes))[0].ebr

    assert weights(wmem_words=2048) == 128
    assert weights(wmem_words=2560) == 160
    assert weights(wmem_words=4096) == 256
    assert budget(SHAPES["16x16"])[0].ebr == 256


@pytest.mark.parametrize(
    ("words", "bits", "ebr"), [(512, 36, 1), (512, 37, 2), (4096, 12, 3), (1024, 18, 1), (1, 1, 1)]
)
def test_blocks(words, bits, ebr):
    assert blocks(words, bits) == ebr
