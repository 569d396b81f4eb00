"""Reader of llama2.c's ``.bin`` checkpoints: version 0 (legacy) and version 1, both float32.

Format: karpathy/llama2.c, ``export.py``; little-endian throughout. Seven int32 sizes, then float32 tensors without
padding, all layers of a kind together. Version 0 has no magic, says "classifier not tied" with a negative vocabulary
size and carries two rotary tables that nothing reads. Versions 1 and later open with a magic and a version number.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from lpu_sw.model import LlamaConfig, LlamaModel, ModelError, layer_shapes, model_shapes, split_heads

__all__ = ["read_llama2c"]

MAGIC = 0x616B3432
SIZES = struct.Struct("<7i")
VERSIONED_HEADER = struct.Struct("<Ii7iB")
VERSIONED_HEADER_BYTES = 256
PYTORCH_ARCHIVE = b"PK\x03\x04"

LEGACY_ORDER = (
    "embedding",
    "attention_norm",
    "wq",
    "wk",
    "wv",
    "wo",
    "feed_forward_norm",
    "gate",
    "down",
    "up",
    "final_norm",
    "rotary tables",
    "classifier",
)
VERSION_1_ORDER = (
    "attention_norm",
    "feed_forward_norm",
    "final_norm",
    "embedding",
    "wq",
    "wk",
    "wv",
    "wo",
    "gate",
    "down",
    "up",
    "classifier",
)


def read_llama2c(path: Path) -> LlamaModel:
    """Read a checkpoint. Raises ModelError when the header, or the file's size for it, is wrong.

    Nothing larger than the header is read before the sizes in it have been held against the file's.
    """
    with path.open("rb") as file:
        header = file.read(VERSIONED_HEADER_BYTES)
        config, order, header_bytes = _parse_header(header)
        blocks = _blocks(config, order)
        expected_bytes = header_bytes + 4 * sum(math.prod(shape) for _, shape in blocks)
        found_bytes = path.stat().st_size
        if found_bytes != expected_bytes:
            fault = "truncated" if found_bytes < expected_bytes else "longer than its header says"
            raise ModelError(f"the file is {fault}: {found_bytes} bytes found, {expected_bytes} expected for {config}")
        file.seek(header_bytes)
        numbers = np.fromfile(file, "<f4")
    tensors: dict[str, np.ndarray] = {}
    start = 0
    for name, shape in blocks:
        block = numbers[start : start + math.prod(shape)].reshape(shape)
        start += block.size
        if name in layer_shapes(config):
            tensors |= {f"layers.{layer}.{name}": block[layer] for layer in range(config.n_layers)}
        else:
            tensors[name] = block
    return LlamaModel.from_tensors(config, tensors)


def _parse_header(header: bytes) -> tuple[LlamaConfig, tuple[str, ...], int]:
    """Config, order of the tensors, and bytes before the first of them."""
    if header.startswith(PYTORCH_ARCHIVE):
        raise ModelError("this is a PyTorch archive, expected a llama2.c checkpoint; export it as safetensors")
    if len(header) < SIZES.size:
        raise ModelError(f"the file is truncated: {len(header)} bytes found, the header alone takes {SIZES.size}")
    if int.from_bytes(header[:4], "little") != MAGIC:
        *sizes, vocab_size, max_positions = SIZES.unpack_from(header)
        return _config(sizes, abs(vocab_size), max_positions, tied=vocab_size > 0), LEGACY_ORDER, SIZES.size
    version = int.from_bytes(header[4:8], "little", signed=True)
    if version != 1:
        raise ModelError(f"export version {version} is not supported, use version 0 or 1 (float32)")
    if len(header) < VERSIONED_HEADER_BYTES:
        raise ModelError(
            f"the file is truncated: {len(header)} bytes found, the header alone takes {VERSIONED_HEADER_BYTES}"
        )
    _, _, *sizes, vocab_size, max_positions, shared = VERSIONED_HEADER.unpack_from(header)
    return _config(sizes, vocab_size, max_positions, tied=bool(shared)), VERSION_1_ORDER, VERSIONED_HEADER_BYTES


def _config(sizes: list[int], vocab_size: int, max_positions: int, tied: bool) -> LlamaConfig:
    dim, hidden_dim, n_layers, n_heads, n_kv_heads = sizes
    # llama2.c ends a text at BOS, which delimits its training data; converted models end theirs with EOS.
    return LlamaConfig(
        dim,
        hidden_dim,
        n_layers,
        n_heads,
        n_kv_heads,
        split_heads(dim, n_heads),
        vocab_size,
        max_positions,
        rope_pairs="interleaved",
        tied=tied,
        bos_id=1,
        stop_ids=(1, 2),
    )


def _blocks(config: LlamaConfig, order: tuple[str, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each block in the file; a layer's tensor has the layers as its first axis."""
    shapes = model_shapes(config) | {"rotary tables": (2, config.max_positions, config.head_dim // 2)}
    shapes |= {name: (config.n_layers, *shape) for name, shape in layer_shapes(config).items()}
    return [(name, shapes[name]) for name in order if name in shapes]
