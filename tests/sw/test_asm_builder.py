"""The builder makes what the text form makes, and refuses what it refuses."""

import numpy as np
import pytest

from lpu_isa.config import SHAPES
from lpu_isa.vxm import Source
from lpu_sw.asm import Builder, assemble, disassemble

SMALL = SHAPES["4x4"]


def test_builder_and_text_agree():
    b = Builder(SMALL)
    count = b.register("count")
    b.bundle(icu={"op": "li", "rd": count, "imm": 5}, wait=2)
    b.label("again")
    with b.loop(3):
        b.bundle(mxm={"op": "matmul", "inner": 2}, vxm={"op": "pass", "source": Source.ACC, "write": "vmem"}, wait=None)
    b.bundle(icu={"op": "bne", "rs": count, "rt": 0, "imm": "again"}, wait=4)
    b.bundle(icu={"op": "halt"}, timed=True)
    b.data("vmem", 3, np.zeros((1, 4), np.uint32))
    b.timing(1, np.array([9]))
    text = """
        .register count = r1
        li count, 5 @2
        again: loop 3
          mxm.matmul inner=2 | vxm.pass source=acc write=vmem @done
        end @4
        bne count, r0, again @4
        halt @timed
        .data vmem 3: 0, 0, 0, 0
        .timing 1: 9
    """
    assert disassemble(b.build(prove=False)) == disassemble(assemble(text, SMALL, prove=False))


def test_a_register_keeps_its_number_and_they_run_out():
    b = Builder(SMALL)
    assert [b.register("a"), b.register("b"), b.register("a")] == [1, 2, 1]
    for n in range(29):
        b.register(f"n{n}")
    with pytest.raises(ValueError, match="register 'last' is one too many: a tile has 31 beside r0"):
        b.register("last")


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        ({"vxm": {"op": "pass", "count": 1024}}, "bundle 1: vxm: count must be from 0 to 1023, not 1024"),
        (
            {"vxm": {"op": "pass", "source": "ac"}},
            "bundle 1: vxm: source must be one of vmem, acc, wmem, sxm, not",
        ),
        ({"vxm": {"op": "pass", "counts": 3}}, "bundle 1: vxm: vxm has no field 'counts'"),
        ({"vxm": {"op": "pass", "count": "n"}}, "bundle 1: vxm: count must be a number, not 'n'"),
        ({"vmx": {"op": "pass"}}, "bundle 1: 'vmx' is no slot; they are icu, mxm, vxm, sxm, link"),
        ({"wait": 4096}, "bundle 1: wait must be from 0 to 4095, not 4096"),
        ({"wait": None, "vxm": {"op": "pass", "count_reg": 3}}, "bundle 1: count depends on r3, whose largest"),
    ],
)
def test_mistakes_name_bundle_slot_and_field(bundle, message):
    b = Builder(SMALL)
    b.bundle()
    with pytest.raises(ValueError, match=message):
        b.bundle(**bundle)


def test_labels_and_loops_are_checked_at_the_end():
    b = Builder(SMALL)
    b.bundle(icu={"op": "jump", "imm": "nowhere"}, wait=4)
    with pytest.raises(ValueError, match="bundle 0: label 'nowhere' is not defined"):
        b.build()
    b.label("nowhere")
    with pytest.raises(ValueError, match="label 'nowhere' is taken by bundle 1"):
        b.label("nowhere")
    with pytest.raises(ValueError, match=r"branch target: bundle 0 \(.*test_asm_builder.py:\d+:1\) branches to 1"):
        b.build()


def test_timing_is_proved():
    b = Builder(SMALL)
    b.bundle(icu={"op": "li", "rd": 1, "imm": 5})
    b.bundle(icu={"op": "send", "rs": 1})
    b.bundle(icu={"op": "halt"})
    with pytest.raises(ValueError, match="read before write: bundle 1 .* reads register 1 in cycle 1 .icu., bundle 0 "):
        b.build()


def test_bundles_remember_the_line_that_made_them():
    b = Builder(SMALL)
    b.bundle()
    assert str(b.build(prove=False).sources[0]).startswith(__file__)
