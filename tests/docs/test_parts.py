"""Generated parts of hand-written pages are current, and the picture has a line for every flow and no other."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from lpu_isa.bundle import SLOTS
from lpu_isa.config import SHAPES, TileConfig
from lpu_sw.docs import parts
from lpu_sw.page_parts import read_part, write_part
from lpu_sw.picture import BOXES, LINES, flows, picture

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("page", "part"), parts())
def test_committed_parts_are_current(page: str, part: str) -> None:
    assert read_part(ROOT / page, part) == parts()[page, part], "out of date: run `lpu docs`"


def test_a_part_is_replaced_and_the_rest_is_kept(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin table: by hand -->\nold\n<!-- end table -->\nafter\n")
    write_part(page, "table", "new")
    assert page.read_text() == "before\n<!-- begin table: by hand -->\n\nnew\n\n<!-- end table -->\nafter\n"
    assert read_part(page, "table") == "new"
    with pytest.raises(ValueError, match="found no part between <!-- begin figures -->"):
        read_part(page, "figures")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_picture_draws_every_flow_of_the_isa(shape: TileConfig) -> None:
    assert set(LINES) == flows(shape)


def test_the_picture_has_a_box_for_every_slot_and_is_well_formed() -> None:
    assert set(SLOTS) <= set(BOXES)
    texts = [element.text or "" for element in ElementTree.fromstring(picture(TileConfig())).iter()]
    for name in SLOTS:
        assert any(text.startswith(name) for text in texts), name


def test_lines_start_and_end_at_their_boxes() -> None:
    for (source, target), corners in LINES.items():
        for name, (x, y) in ((source, corners[0]), (target, corners[-1])):
            left, top, width, height = BOXES[name]
            on_side = x in (left, left + width) and top <= y <= top + height
            on_edge = y in (top, top + height) and left <= x <= left + width
            assert on_side or on_edge, (source, target, name)
