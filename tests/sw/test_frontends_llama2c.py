"""llama2.c checkpoints: every float32 layout is read exactly, every broken file refused in one line."""

from __future__ import annotations

import dataclasses
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lpu_sw.frontends import load_model
from lpu_sw.model import LlamaConfig, LlamaModel, ModelError

MAGIC = 0x616B3432
# No two sizes alike, so that a swapped axis or tensor cannot go unseen.
CONFIG = LlamaConfig(
    dim=24, hidden_dim=52, n_layers=2, n_heads=6, n_kv_heads=3, head_dim=4, vocab_size=77, max_positions=19,
    stop_ids=(1, 2),
)  # fmt: skip


def sizes(config: LlamaConfig) -> list[int]:
    return [config.dim, config.hidden_dim, config.n_layers, config.n_heads, config.n_kv_heads]


def write_legacy(path: Path, model: LlamaModel) -> None:
    """Version 0, in the order of llama2.c's export.py."""
    config, layers = model.config, model.layers
    vocab_size = config.vocab_size if config.tied else -config.vocab_size
    tensors = [model.embedding, *(layer.attention_norm for layer in layers)]
    for name in ("wq", "wk", "wv", "wo", "feed_forward_norm", "gate", "down", "up"):
        tensors += [getattr(layer, name) for layer in layers]
    # What stands in the rotary tables must not matter.
    tensors += [model.final_norm, np.full(config.max_positions * config.head_dim, np.nan, np.float32)]
    tensors += [] if config.tied else [model.classifier]
    header = struct.pack("<7i", *sizes(config), vocab_size, config.max_positions)
    path.write_bytes(header + b"".join(tensor.tobytes() for tensor in tensors))


def write_version_1(path: Path, model: LlamaModel) -> None:
    config, layers = model.config, model.layers
    tensors = [layer.attention_norm for layer in layers] + [layer.feed_forward_norm for layer in layers]
    tensors += [model.final_norm, model.embedding]
    for name in ("wq", "wk", "wv", "wo", "gate", "down", "up"):
        tensors += [getattr(layer, name) for layer in layers]
    tensors += [] if config.tied else [model.classifier]
    path.write_bytes(versioned_header(config, 1) + b"".join(tensor.tobytes() for tensor in tensors))


def versioned_header(config: LlamaConfig, version: int) -> bytes:
    header = struct.pack("<Ii7i", MAGIC, version, *sizes(config), config.vocab_size, config.max_positions)
    return (header + bytes([config.tied])).ljust(256, b"\0")


def assert_same(found: LlamaModel, expected: LlamaModel) -> None:
    assert found.config == expected.config
    for name in ("embedding", "final_norm", "classifier"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for layer, expected_layer in zip(found.layers, expected.layers, strict=True):
        for field in dataclasses.fields(layer):
            np.testing.assert_array_equal(getattr(layer, field.name), getattr(expected_layer, field.name))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("write", [write_legacy, write_version_1])
def test_reads_what_llama2c_exports(tmp_path, random_model, write, tied):
    model = random_model(dataclasses.replace(CONFIG, tied=tied))
    write(tmp_path / "model.bin", model)
    found = load_model(tmp_path / "model.bin")
    assert_same(found, model)
    assert (found.classifier is found.embedding) == tied


def test_version_1_of_stories260k_is_the_same_model(tmp_path, stories260k):
    model = load_model(stories260k / "stories260K.bin")
    write_version_1(tmp_path / "model.bin", model)
    assert_same(load_model(tmp_path / "model.bin"), model)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "the file is truncated: 0 bytes found, the header alone takes 28"),
        (b"\1\0\0\0" * 6, "the file is truncated: 24 bytes found, the header alone takes 28"),
        (versioned_header(CONFIG, 1)[:100], "the file is truncated: 100 bytes found, the header alone takes 256"),
        (versioned_header(CONFIG, 2), "export version 2 is not supported, use version 0 or 1 (float32)"),
        (versioned_header(CONFIG, 3), "export version 3 is not supported, use version 0 or 1 (float32)"),
        (versioned_header(CONFIG, -7), "export version -7 is not supported, use version 0 or 1 (float32)"),
        (b"PK\3\4" + bytes(100), "this is a PyTorch archive"),
        (struct.pack("<7i", 0, 52, 2, 6, 3, 77, 19), "impossible sizes: dim 0 cannot be split into 6 heads"),
        (struct.pack("<7i", 24, 52, 2, 0, 3, 77, 19), "impossible sizes: dim 24 cannot be split into 0 heads"),
        (struct.pack("<7i", 24, 52, 2, 5, 5, 77, 19), "impossible sizes: dim 24 cannot be split into 5 heads"),
        (struct.pack("<7i", 24, 52, 2, 6, 4, 77, 19), "6 heads cannot share 4 key/value heads evenly"),
        (struct.pack("<7i", 24, 52, 2, 8, 4, 77, 19), "the head size must be even for the rotary embedding, not 3"),
        (struct.pack("<7i", 24, -52, 2, 6, 3, 77, 19), "hidden_dim must be at least 1, not -52"),
        (struct.pack("<7i", 24, 52, 0, 6, 3, 77, 19), "n_layers must be at least 1, not 0"),
        (struct.pack("<7i", 24, 52, 2, 6, 0, 77, 19), "n_kv_heads must be at least 1, not 0"),
        (struct.pack("<7i", 24, 52, 2, 6, 3, 0, 19), "vocab_size must be at least 1, not 0"),
        (struct.pack("<7i", 24, 52, 2, 6, 3, 77, 0), "max_positions must be at least 1, not 0"),
        (struct.pack("<7i", *[2**30] * 3, 2**20, 2**20, 2**30, 2**30), "the file is truncated: 28 bytes found"),
    ],
)
def test_refuses_bad_headers_quickly(tmp_path, contents, message):
    path = tmp_path / "model.bin"
    path.write_bytes(contents)
    tracemalloc.start()
    started = time.monotonic()
    try:
        with pytest.raises(ModelError) as error:
            load_model(path)
        seconds, (_, peak_bytes) = time.monotonic() - started, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert seconds < 1 and peak_bytes < 200e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda contents: contents[:-4], "the file is truncated: {short} bytes found, {size} expected"),
        (lambda contents: contents + b"\0", "longer than its header says: {long} bytes found, {size} expected"),
    ],
)
def test_refuses_a_wrong_size(tmp_path, random_model, change, message):
    path = tmp_path / "model.bin"
    write_legacy(path, random_model(CONFIG))
    size = path.stat().st_size
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelError) as error:
        load_model(path)
    assert message.format(size=size, short=size - 4, long=size + 1) in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_names_the_place_of_what_is_not_a_number(tmp_path, random_model, value):
    model = random_model(CONFIG)
    model.layers[1].wk[5, 7] = value
    write_legacy(tmp_path / "model.bin", model)
    with pytest.raises(ModelError, match=rf"tensor layers.1.wk holds {value} at row 5, column 7"):
        load_model(tmp_path / "model.bin")


@pytest.mark.parametrize("name", ["model.gguf", "model.pt"])
def test_refuses_other_kinds_of_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ModelError, match="unknown kind of model, expected a llama2.c .bin file"):
        load_model(tmp_path / name)


def test_names_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.bin: no such file or folder"):
        load_model(tmp_path / "nothing.bin")
