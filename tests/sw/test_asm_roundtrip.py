"""Text -> bits -> text -> bits is the identity, for every field of every operation."""

import re

import numpy as np
import pytest

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.fields import Operation
from lpu_sw.asm import Program, Section, assemble, disassemble

TILES = {
    **SHAPES,
    "4x4-24": SHAPES["4x4"].replace(significand_bits=24),
    "4x8": TileConfig(4, 8, wmem_words=100, bundles=256),
}


def random_bundle(layout: BundleFormat, rng: np.random.Generator) -> Bundle:
    """Any bits that decode: every field anywhere in its range, often at an end or at its default."""
    bundle = Bundle(int(rng.integers(1, 4096)), bool(rng.integers(2)))
    for name, slot in layout.slots.items():
        codes = [int(member) for member in slot.by_name["op"].enum or () if member]
        if not codes or rng.random() < 0.2:
            continue
        values = {}
        for f in slot.fields:
            if f.enum is not None:
                values[f.name] = int(rng.choice([int(member) for member in f.enum]))
            else:
                choices = [f.default, f.low, f.high, 0, int(rng.integers(f.low, f.high + 1))]
                values[f.name] = choices[rng.integers(len(choices))]
        values["op"] = int(rng.choice(codes))
        bundle.operations[name] = Operation(name, values)
    return bundle


def words(program: Program) -> list[int]:
    layout = BundleFormat(program.config)
    return [layout.encode(bundle) for bundle in program.bundles]


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize("seed", range(3))
def test_random_programs_survive(name, seed):
    rng = np.random.default_rng(seed)
    config = TILES[name]
    layout = BundleFormat(config)
    bits = config.float_bits
    program = Program(
        config,
        [random_bundle(layout, rng) for _ in range(150)],
        timings=rng.integers(0, 4096, rng.integers(0, 100)).astype(np.uint16),
        sections=[
            Section("vmem", 5, rng.integers(0, 1 << bits, (7, config.rows)).astype(np.uint32)),
            Section("smem", 0, np.zeros((2, config.rows), np.uint32)),
            Section("wmem", 90, rng.integers(-128, 128, (3, config.rows, config.cols)).astype(np.int8)),
        ],
        inbox=rng.integers(0, 1 << 32, 5).tolist(),
    )
    text = disassemble(program)
    again = assemble(text, prove=False)
    assert again.config == config
    assert words(again) == words(program)
    assert np.array_equal(again.timings, program.timings)
    assert again.inbox == program.inbox
    for ours, theirs in zip(again.sections, program.sections, strict=True):
        assert (ours.space, ours.address, ours.data.dtype) == (theirs.space, theirs.address, theirs.data.dtype)
        assert np.array_equal(ours.data, theirs.data)
    assert disassemble(again) == text


def test_patterns_that_no_operation_makes_keep_their_bits():
    config = SHAPES["4x4"]
    subnormal, huge, minus_zero = 1, 255 << 17, 1 << 25
    program = Program(
        config, [], sections=[Section("vmem", 0, np.array([[subnormal, huge, minus_zero, 0]], np.uint32))]
    )
    assert np.array_equal(assemble(disassemble(program)).sections[0].data, program.sections[0].data)


def test_a_program_reads_as_it_was_written():
    text = """\
.tile 4x4

    li r1, 5 @2
again:
    mxm.matmul inner=3 weights=10+r4 weights_inner=1 clear=inner
      | vxm.pass count=r1 source=acc multiply=scalar multiply_reg=r2 write=vmem @40
    bne r1, r0, again @4
    nop @timed
    halt @1

.data vmem 2: 1.0, -2.5, 0.0, 0.0

.timing 0: 4, 5

.inbox 7
"""
    assert disassemble(assemble(text, prove=False)).replace("L1", "again") == text


def test_labels_of_any_text_become_names():
    program = assemble("jump 1 @4\n jump 2 @4\n jump 3 @4\n jump 4 @4\n halt", SHAPES["4x4"], prove=False)
    program.labels = {"the end": 4, "r7": 2, "2nd": 3, "L1": 0}
    text = disassemble(program)
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == ["L1", "L1_", "r7_", "_2nd", "the_end"]
    assert words(assemble(text, prove=False)) == words(program)
