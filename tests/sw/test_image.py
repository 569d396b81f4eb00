"""The image file: what goes in comes out, and nothing else is accepted."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.fingerprint import fingerprint
from lpu_sw.asm import Section, assemble, disassemble
from lpu_sw.image import Image, ImageError

SMALL = SHAPES["4x4"]
TEXT = """
.tile 4x4
begin: li r1, 0.5f @2
  mxm.matmul inner=3 weights=1+r1 | vxm.pass source=acc write=vmem d=3 @timed
  jump begin @4
.data vmem 3: 1, 2, 3, 4, 5
.data wmem 500: -128, 127
.timing 0: 30, 31, 32
.inbox 4, 5
"""


@pytest.fixture
def image() -> Image:
    return Image.from_program(assemble(TEXT, prove=False), {"model": "Grüße", "cycles": [1, 2, 3]})


def test_a_program_comes_back_whole(image, tmp_path):
    path = tmp_path / "a.lpuimg"
    image.save(path)
    again = Image.load(path, SMALL)
    assert again.metadata == {"model": "Grüße", "cycles": [1, 2, 3], "inbox": [4, 5], "labels": {"begin": 0}}
    assert disassemble(again.to_program()) == disassemble(assemble(TEXT, prove=False))
    again.save(tmp_path / "b.lpuimg")
    assert (tmp_path / "b.lpuimg").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("config", [*SHAPES.values(), SMALL.replace(significand_bits=24)], ids=lambda c: c.name)
def test_every_shape_and_full_memories(config, tmp_path):
    rng = np.random.default_rng(3)
    beats = BundleFormat(config).beats
    image = Image(
        config,
        rng.integers(0, 1 << 32, (config.bundles, beats)).astype(np.uint32),
        rng.integers(0, 4096, config.timings).astype(np.uint16),
        [
            Section("wmem", 0, rng.integers(-128, 128, (config.wmem_words, config.rows, config.cols)).astype(np.int8)),
            Section("vmem", 5, rng.integers(0, 1 << 26, (config.vmem_words - 5, config.rows)).astype(np.uint32)),
            Section("smem", 0, np.zeros((0, config.rows), np.uint32)),
        ],
    )
    image.save(tmp_path / "a.lpuimg")
    again = Image.load(tmp_path / "a.lpuimg", config)
    assert again.config == config
    assert np.array_equal(again.program, image.program)
    assert np.array_equal(again.timings, image.timings)
    for ours, theirs in zip(again.sections, image.sections, strict=True):
        assert (ours.space, ours.address) == (theirs.space, theirs.address)
        assert np.array_equal(ours.data, theirs.data)


def test_every_flipped_bit_and_every_truncation_is_noticed(image, tmp_path):
    path = tmp_path / "a.lpuimg"
    image.save(path)
    raw = path.read_bytes()
    rng = np.random.default_rng(4)
    for at in [*range(48), *rng.integers(48, len(raw), 200).tolist()]:
        path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << rng.integers(8))]) + raw[at + 1 :])
        with pytest.raises(ImageError, match=r"a\.lpuimg: found .*, expected "):
            Image.load(path)
    for size in [0, 7, 8, 39, 40, *rng.integers(0, len(raw), 50).tolist(), len(raw) - 1]:
        path.write_bytes(raw[:size])
        with pytest.raises(ImageError, match=r"expected an LPU image|the file is truncated"):
            Image.load(path)
    path.write_bytes(raw + b"x")
    with pytest.raises(ImageError, match="something follows the image"):
        Image.load(path)


def patched(raw: bytes, offset: int, layout: str, value: int) -> bytes:
    """A file with one header field replaced and its checksum made right again."""
    out = bytearray(raw)
    struct.pack_into(layout, out, offset, value)
    struct.pack_into("<I", out, 12, zlib.crc32(out[16:]))
    return bytes(out)


def test_another_file_and_another_version(image, tmp_path):
    path = tmp_path / "a.lpuimg"
    image.save(path)
    raw = path.read_bytes()
    path.write_bytes(patched(raw, 8, "<I", 2))
    with pytest.raises(ImageError, match="found image format 2, expected 1: compile the model again"):
        Image.load(path)
    path.write_bytes(patched(raw, 16, "<Q", 0x1234))
    with pytest.raises(ImageError, match="found fingerprint 0000000000001234, expected .* another version of the ISA"):
        Image.load(path)
    path.write_text("once upon a time")
    with pytest.raises(ImageError, match=r"found b'once upo' at the start, expected an LPU image"):
        Image.load(path)


def test_an_image_for_another_tile_names_both(image, tmp_path):
    path = tmp_path / "a.lpuimg"
    image.save(path)
    other = SMALL.replace(vmem_words=512)
    with pytest.raises(ImageError) as caught:
        Image.load(path, other)
    ours, theirs = f"{fingerprint(SMALL):016x}", f"{fingerprint(other):016x}"
    assert f"found an image for tile 4x4 ({ours}, vmem_words 256), expected 4x4 ({theirs}, vmem_words 512)" in str(
        caught.value
    )
    with pytest.raises(ImageError, match="image for tile 4x4 .* expected 8x16 "):
        Image.load(path, TileConfig())


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"program": np.zeros((513, BundleFormat(SMALL).beats), np.uint32)}, "513 words of program from 0, .* 512"),
        ({"program": np.zeros((1, 1), np.uint32)}, r"found program of uint32 \(1, 1\), expected uint32 \(words, "),
        ({"timings": np.zeros(513, np.uint16)}, "found 513 words of timing from 0, expected at most 512"),
        ({"sections": [Section("vmem", 255, np.zeros((2, 4), np.uint32))]}, "2 words of vmem from 255, .* most 256"),
        ({"sections": [Section("wmem", -1, np.zeros((1, 4, 4), np.int8))]}, "1 words of wmem from -1"),
        ({"sections": [Section("wmem", 0, np.zeros((1, 4, 4), np.uint8))]}, r"wmem of uint8 .* expected int8"),
        ({"sections": [Section("acc", 0, np.zeros((1, 4), np.uint32))]}, "a section for 'acc', expected wmem, vmem"),
    ],
)
def test_parts_that_do_not_fit_the_tile(part, message):
    parts = {"program": np.zeros((0, BundleFormat(SMALL).beats), np.uint32)} | part
    with pytest.raises(ImageError, match=message):
        Image(SMALL, **parts)


def test_an_illegal_bundle_is_named():
    words = np.zeros((2, BundleFormat(SMALL).beats), np.uint32)
    words[:, 0] = 1
    words[1, 0] |= 31 << 16  # the sequencer's operation lies above the 16 bits of the header
    with pytest.raises(ImageError, match="bundle 1: op must be one of nop, li, .* not 31"):
        Image(SMALL, words).to_program()


def test_loading_takes_little_more_memory_than_the_file(tmp_path):
    config = TileConfig(16, 16, wmem_words=8192)
    weights = np.zeros((8192, 16, 16), np.int8)
    Image(config, np.zeros((0, BundleFormat(config).beats), np.uint32), sections=[Section("wmem", 0, weights)]).save(
        tmp_path / "a.lpuimg"
    )
    tracemalloc.start()
    Image.load(tmp_path / "a.lpuimg")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * weights.nbytes
