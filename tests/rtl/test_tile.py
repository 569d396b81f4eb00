"""The whole tile: every fault code raised and read by the host, resets in the middle, the exported ports."""

import random
import re

import numpy as np
import pytest

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import SHAPES
from lpu_isa.faults import Fault
from lpu_isa.formats import FloatFormat
from lpu_isa.icu import ALU, LANE, LOOP_DEPTH
from lpu_sw.asm.builder import Builder
from lpu_sw.image import Image
from lpu_tb.build import tile_text
from lpu_tb.public import ports

SMALL = SHAPES["4x4"]
FORMAT = BundleFormat(SMALL)


def floats(value: float, words: int = 4) -> np.ndarray:
    """Vectors that hold one value in every lane."""
    number = FloatFormat(SMALL.significand_bits)
    return number.encode(np.full((words, SMALL.rows), number.round(np.float64(value))))


def image_of(*bundles: dict, sections=(), inbox=(), timings=(), halts: bool = True) -> Image:
    """An image of bundles given as keyword arguments of `Builder.bundle`; nothing proves that they are legal.

    halts : whether a HALT follows, long after the last one, so that this is the bundle of its faults.
    """
    b = Builder(SMALL)
    for number, bundle in enumerate(bundles):
        is_last = halts and number == len(bundles) - 1
        b.bundle(**{"wait": 1} | bundle | ({"wait": 60} if is_last and "timed" not in bundle else {}))
    if halts:
        b.bundle(icu={"op": "halt"})
    for space, address, data in sections:
        b.data(space, address, data)
    if timings:
        b.timing(0, np.array(timings, np.uint16))
    program = b.build(prove=False)
    program.inbox = list(inbox)
    return Image.from_program(program)


def with_field(slot: str, field: str, value: int, **bundle) -> Image:
    """An image whose first bundle holds a value that its field's enumeration does not have."""
    image = image_of({"wait": 2, **bundle})
    layout = FORMAT.header if slot == "header" else FORMAT.slots[slot]
    at = FORMAT.offsets[slot] + layout.offsets[field]
    mask = ((1 << layout.by_name[field].bits) - 1) << at
    word = sum(int(beat) << (32 * n) for n, beat in enumerate(image.program[0])) & ~mask | value << at
    image.program[0] = [(word >> (32 * beat)) & 0xFFFF_FFFF for beat in range(FORMAT.beats)]
    return image


def li(register: int, value: int, wait: int = 2) -> dict:
    return {"icu": {"op": "li", "rd": register, "imm": value}, "wait": wait}


def matmul(**fields) -> dict:
    """A bundle with a matmul; its base is so high that no block that happens to be there is a fault."""
    return {"mxm": {"op": "matmul", "exponent": 255, **fields}}


def pass_(**fields) -> dict:
    return {"vxm": {"op": "pass", **fields}}


def first_illegal(field) -> int | None:
    """The smallest value of a field that its enumeration does not have."""
    members = {int(member) for member in field.enum}
    return next((value for value in range(1 << field.bits) if value not in members), None)


ENUMERATIONS = [
    (slot, f.name, value)
    for slot, layout in FORMAT.slots.items()
    for f in layout.fields
    if f.enum is not None and (value := first_illegal(f)) is not None
]

LARGE = 1e38
FAULTS: dict[str, tuple[Image, Fault]] = {
    **{f"{slot}_{name}": (with_field(slot, name, value), Fault.OPCODE) for slot, name, value in ENUMERATIONS},
    "header_reserved": (with_field("header", "reserved", 1), Fault.OPCODE),
    "link_reserved": (with_field("link", "reserved", 1), Fault.OPCODE),
    "function_none": (image_of({"icu": {"op": "function"}, "wait": 9}), Fault.OPCODE),
    "matmul_busy": (image_of(matmul(inner=9), matmul()), Fault.ISSUE),
    "pass_busy": (image_of(pass_(count=9), pass_()), Fault.ISSUE),
    "two_weight_readers": (image_of(matmul(inner=9), {"wait": 4}, pass_(source="wmem")), Fault.CONFLICT),
    "two_register_writers": (
        image_of({"icu": {"op": "vlane", "rd": 1}, "wait": LANE - ALU}, {"icu": {"op": "li", "rd": 2}}),
        Fault.CONFLICT,
    ),
    "switch_alone": (image_of({"sxm": {"op": "rotate"}}), Fault.CONFLICT),
    "switch_source_alone": (image_of(pass_(source="sxm")), Fault.CONFLICT),
    "lane_past_end": (image_of({"icu": {"op": "vlane", "rd": 1, "imm": SMALL.vmem_words}}), Fault.ADDRESS),
    "lane_negative": (image_of({"icu": {"op": "slane", "rd": 1, "imm": -1}}), Fault.ADDRESS),
    "weights_past_end": (image_of(li(1, SMALL.wmem_words - 2), matmul(inner=9, weights_inner=1, weights_reg=1)),
                         Fault.ADDRESS),
    "act_past_end": (image_of(matmul(inner=9, act=SMALL.act_blocks - 2, act_inner=1)), Fault.ADDRESS),
    "acc_negative": (image_of(matmul(inner=9, acc=2, acc_inner=-1, clear="inner")), Fault.ADDRESS),
    "source_past_end": (image_of(li(1, 2**31 - 1), pass_(x_reg=1)), Fault.ADDRESS),
    "operand_past_end": (image_of(pass_(count=9, b=SMALL.vmem_words - 1, add="b")), Fault.ADDRESS),
    "no_distance": (image_of({"timed": True}, timings=[0]), Fault.COUNT),
    "inner_zero": (image_of(li(1, -1), matmul(inner_reg=1)), Fault.COUNT),
    "outer_too_large": (image_of(li(1, 1023), matmul(outer_reg=1)), Fault.COUNT),
    "count_zero": (image_of(li(1, -1), pass_(count_reg=1)), Fault.COUNT),
    "lanes_zero": (image_of(pass_(lanes=0)), Fault.COUNT),
    "lanes_too_many": (image_of(li(1, 1), pass_(lanes_reg=1)), Fault.COUNT),
    "float_too_large": (
        image_of(pass_(multiply="b"), sections=[("vmem", 0, floats(LARGE))]),
        Fault.FLOAT,
    ),
    "block_above_base": (
        image_of(
            {**pass_(quantise="act"), "wait": 30},
            matmul(clear="inner", exponent=1),
            sections=[("vmem", 0, floats(1.0)), ("wmem", 0, np.ones((1, SMALL.rows, SMALL.cols), np.int8))],
        ),
        Fault.ACCUMULATOR,
    ),
    "reciprocal_of_zero": (image_of({"icu": {"op": "function", "function": "reciprocal"}, "wait": 9}), Fault.FUNCTION),
    "rsqrt_of_negative": (
        image_of(pass_(function="rsqrt"), sections=[("vmem", 0, floats(-1.0))]),
        Fault.FUNCTION,
    ),
    # Two faults of one bundle: the first in time is kept, of those in one cycle the one with the lowest code.
    "source_past_end_before_float": (
        image_of(pass_(count=3, x=SMALL.vmem_words - 2, multiply="b"),
                 sections=[("vmem", 0, floats(LARGE)), ("vmem", SMALL.vmem_words - 2, floats(LARGE, 2))]),
        Fault.ADDRESS,
    ),
    "float_before_operand_past_end": (
        image_of(pass_(count=30, multiply="b", gain="c", c=SMALL.smem_words - 20),
                 sections=[("vmem", 0, floats(LARGE))]),
        Fault.FLOAT,
    ),
    "matmul_beside_float": (
        image_of({**pass_(multiply="b"), **matmul(act=SMALL.act_blocks - 1, act_inner=1, inner=9)},
                 sections=[("vmem", 0, floats(LARGE))]),
        Fault.ADDRESS,
    ),
    "float_beside_matmul": (
        image_of({**pass_(multiply="b"), **matmul(act=SMALL.act_blocks - 20, act_inner=1, inner=30)},
                 sections=[("vmem", 0, floats(LARGE))]),
        Fault.FLOAT,
    ),
    "end_without_loop": (image_of({"icu": {"op": "end"}, "wait": 4}), Fault.LOOP),
    "loop_of_none": (image_of({"icu": {"op": "loop", "imm": 0}}), Fault.LOOP),
    "loop_too_deep": (image_of(*[{"icu": {"op": "loop", "imm": 1}}] * (LOOP_DEPTH + 1)), Fault.LOOP),
    "receive_beside_matmul": (image_of(matmul(inner=9), {"icu": {"op": "recv"}}, inbox=[1]), Fault.SYNC),
    "jump_past_end": (image_of({"icu": {"op": "jump", "imm": SMALL.bundles}, "wait": 4}), Fault.PROGRAM),
    "jump_negative": (image_of({"icu": {"op": "jump", "imm": -1}, "wait": 4}), Fault.PROGRAM),
    "no_halt": (image_of(*[{}] * SMALL.bundles, halts=False), Fault.PROGRAM),
    "outbox_full": (
        image_of(
            {"icu": {"op": "loop", "imm": SMALL.mailbox_words + 1}}, {"icu": {"op": "send"}},
            {"icu": {"op": "end"}, "wait": 4},
        ),
        Fault.MAILBOX,
    ),
}  # fmt: skip


ILLEGAL_TIMING = {"matmul_busy", "pass_busy", "two_weight_readers", "two_register_writers", "receive_beside_matmul"}
"""Faults that a program of proven timing never has; the simulator, which executes one operation at a time, has none."""
NOT_DECODED = {"header_reserved", "link_reserved", *(f"{slot}_{name}" for slot, name, _ in ENUMERATIONS)}
"""Values that a bundle cannot hold before it is encoded, so that the simulator never sees them."""


def good_image() -> Image:
    """A matrix-vector product, its result in vector SRAM, a lane and a word sent."""
    rng = np.random.default_rng(3)
    weights = rng.integers(-127, 128, (4, SMALL.rows, SMALL.cols)).astype(np.int8)
    return image_of(
        {**pass_(count=2, quantise="act"), "wait": 30},
        {**matmul(inner=2, act_inner=1, weights_inner=1, acc=3, clear="inner", exponent=120), "wait": 40},
        {**pass_(source="acc", x=3, write="vmem", d=7), "wait": 30},
        {"icu": {"op": "vlane", "rd": 5, "imm": 7}, "wait": 6},
        {"icu": {"op": "send", "rs": 5}},
        {"icu": {"op": "recv", "rd": 6}, "wait": 2},
        sections=[("vmem", 0, floats(1.5, 2)), ("wmem", 0, weights)],
        inbox=[77],
    )


def test_every_fault_code_has_a_program():
    assert {fault for _, fault in FAULTS.values()} == set(Fault) - {Fault.NONE}


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault], ids=lambda fault: fault.name)
def test_fault_stops_the_tile_and_loses_nothing(run_tile, tmp_path, fault):
    cases = []
    for name, (image, code) in FAULTS.items():
        if code is fault:
            image.save(tmp_path / name)
            cases.append((str(tmp_path / name), int(code), name not in ILLEGAL_TIMING | NOT_DECODED))
    good_image().save(tmp_path / "good")
    run_tile(SMALL, "tile", "faults", faults=cases, good=str(tmp_path / "good"))


def test_reset_or_stop_in_the_middle_is_recovered_from(run_tile, tmp_path):
    good_image().save(tmp_path / "good")
    run_tile(SMALL, "tile", "resets", image=str(tmp_path / "good"), delays=60)


def test_reset_leaves_no_fault_that_was_on_its_way(run_tile, tmp_path):
    images = {code: image for image, code in FAULTS.values()}
    for code, image in images.items():
        image.save(tmp_path / code.name)
    run_tile(SMALL, "tile", "reset_wins", images=[str(tmp_path / code.name) for code in images], delays=40)


@pytest.mark.parametrize("seed", range(5))
def test_result_does_not_depend_on_state_that_no_reset_sets(run_tile, tmp_path, seed):
    good_image().save(tmp_path / "good")
    run_tile(SMALL, "tile", "programs", seed=random.Random(seed).randrange(1, 1 << 30), images=[str(tmp_path / "good")])


def test_ports_of_the_exported_tile_are_these():
    axi = "aw w b ar r".split()
    names = {signal.signal for signal in ports(tile_text(SMALL), "tile")}
    channels = {name for name in names if name.startswith("host__")}
    assert names - channels == {"clk", "rst", "irq", "running", "faulted"}
    assert channels == {
        *(f"host__{channel}{kind}" for channel in axi for kind in ("valid", "ready")),
        "host__awaddr", "host__awprot", "host__wdata", "host__wstrb", "host__bresp", "host__araddr", "host__arprot",
        "host__rdata", "host__rresp",
    }  # fmt: skip
    assert not re.search(r"U\$\d", tile_text(SMALL)), "every submodule has a name"
