"""The quantiser alone: shared exponents, ties, zeros, large gaps, blocks that close early, clamping."""

import numpy as np
import pytest

from lpu_isa.formats import EXPONENT_BIAS, INTEGER_CODE, FloatFormat
from lpu_isa.vxm import Quantise, quantise_latency
from lpu_rtl.float.quantise import quantise_layout
from lpu_sw.sim.arithmetic import quantise_block, quantise_integers, quantise_static
from lpu_tb.benches.float_units import CONFIGS, run_unit

N_BLOCKS = 3_000
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)


def blocks(rng, config, n):
    """Vectors of random blocks, float64 (n, words_per_block, rows), of every kind that a block can be."""
    shape = (n, config.words_per_block, config.rows)
    p = config.significand_bits
    fmt = FloatFormat(p)
    exponent = rng.integers(1, 255, (n, 1, 1))
    spread = rng.choice([0, 3, 9, 200], (n, 1, 1))
    exponents = np.clip(exponent - rng.integers(0, 256, shape) % (spread + 1), 0, 254)
    values = fmt.decode(
        rng.integers(0, 2, shape) << (p + 7) | exponents << (p - 1) | rng.integers(0, 1 << (p - 1), shape)
    )
    kind = rng.integers(0, 5, (n, 1, 1))
    with np.errstate(over="ignore"):
        largest = np.exp2(np.floor(np.log2(np.maximum(np.abs(values).max(axis=(1, 2), keepdims=True), 2.0**-120))))
    ties = np.clip(rng.integers(-255, 256, shape) / 128, -255 / 128, 255 / 128) * largest  # halves of a unit
    small = fmt.decode(rng.integers(0, 12, shape) << (p - 1))  # around the smallest block that is not zero
    values = np.where(kind == 1, ties, np.where(kind == 2, small, values))
    return np.where((rng.random(shape) < 0.2) | (rng.random((n, 1, 1)) < 0.05), 0.0, fmt.round(values))


def stream(config, vectors, kind, block):
    """Operands of the quantiser for vectors (steps, rows) in blocks of ``block``."""
    steps = np.arange(len(vectors))
    closes = (steps % block == block - 1) | (steps == len(steps) - 1)
    layout = quantise_layout(config)
    rng = np.random.default_rng(5)
    fields = {
        "kind": np.full(len(steps), int(kind)),
        "address": rng.integers(0, config.act_blocks, len(steps)),
        "is_outside": rng.integers(0, 2, len(steps)),
        "part": steps % block,
        "closes": closes,
        "is_first_block": steps < block,
        "tracker": rng.integers(0, 4, len(steps)),
        "index": rng.integers(0, config.cols, len(steps)),
    }
    event = sum(np.asarray(fields[name], np.int64) << layout[name].offset for name in fields)
    return {"event": event, "vector": FloatFormat(config.significand_bits).encode(vectors)}, fields


def unscaled(config):
    """Vectors (20,000, rows) for a scale of 1: ties and values around the clamp, or of any size."""
    rng = np.random.default_rng(2)
    shape = (20_000, config.rows)
    ties = rng.choice([1.0, 0.5], shape) * rng.integers(-300, 301, shape)
    any_size = FloatFormat(config.significand_bits).round(
        np.ldexp(rng.uniform(-2, 2, shape), rng.integers(-EXPONENT_BIAS, EXPONENT_BIAS - 1, shape))
    )
    return np.where(rng.random((len(ties), 1)) < 0.5, ties, any_size)


def run(config, operands, tmp_path, name):
    return run_unit(config, "quantiser", operands, latency=quantise_latency(config), name=name, folder=tmp_path)


def signed(bytes_):
    return bytes_.astype(np.uint8).view(np.int8)


@EVERY_CONFIG
def test_blocks(config, tmp_path):
    p = config.significand_bits
    rng = np.random.default_rng(1)
    for block in range(1, config.words_per_block + 1):
        vectors = blocks(rng, config, N_BLOCKS)[:, :block].reshape(-1, config.rows)
        vectors = vectors[: len(vectors) - (block > 1)]  # the last block closes early
        operands, fields = stream(config, vectors, Quantise.ACT, block)
        found = run(config, operands, tmp_path, f"quantise-{config.name}-{p}-{block}")
        padded = np.zeros((-(-len(vectors) // block) * block, config.rows))
        padded[: len(vectors)] = vectors
        values, codes = quantise_block(padded.reshape(-1, block * config.rows))
        assert found["block_write__enable"].all() and not found["weight_write__enable"].any()
        assert np.array_equal(signed(found["block_write__data"]), values.reshape(-1, config.rows)[: len(vectors)])
        assert np.array_equal(found["block_write__code"], np.repeat(codes, block)[: len(vectors)])
        for port, field in (
            ("block", "address"),
            ("part", "part"),
            ("first", "is_first_block"),
            ("tracker", "tracker"),
        ):
            assert np.array_equal(found[f"block_write__{port}"], fields[field]), port
        assert np.array_equal(found["is_outside"], fields["is_outside"])
        assert not found["clamped"].any()


@EVERY_CONFIG
@pytest.mark.parametrize("kind", [Quantise.ROW, Quantise.COLUMN])
def test_scale_of_one(config, kind, tmp_path):
    p = config.significand_bits
    vectors = unscaled(config)
    operands, fields = stream(config, vectors, kind, config.words_per_block)
    found = run(config, operands, tmp_path, f"quantise-{kind.name}-{config.name}-{p}")
    values, clamped = quantise_static(vectors)
    assert found["weight_write__enable"].all() and not found["block_write__enable"].any()
    assert np.array_equal(signed(found["weight_write__data"]), values)
    assert np.array_equal(found["clamped"], clamped.sum(axis=1))
    assert np.array_equal(found["weight_write__by_column"], np.full(len(vectors), kind is Quantise.COLUMN))
    assert np.array_equal(found["weight_write__address"], fields["address"])
    all_rows = (1 << config.rows) - 1
    if kind is Quantise.COLUMN:
        assert (found["weight_write__rows"] == all_rows).all()
        assert np.array_equal(found["weight_write__columns"], 1 << fields["index"])
    else:
        assert np.array_equal(found["weight_write__rows"], 1 << fields["index"] % config.rows)
        assert np.array_equal(found["weight_write__columns"], all_rows << fields["part"] * config.rows)


@EVERY_CONFIG
def test_blocks_of_integers(config, tmp_path):
    p = config.significand_bits
    vectors = unscaled(config)
    operands, fields = stream(config, vectors, Quantise.INTEGERS, config.words_per_block)
    found = run(config, operands, tmp_path, f"quantise-integers-{config.name}-{p}")
    values, _ = quantise_integers(vectors)
    assert values.min() == -128 and values.max() == 127
    assert found["block_write__enable"].all() and not found["weight_write__enable"].any()
    assert np.array_equal(signed(found["block_write__data"]), values)
    assert (found["block_write__code"] == INTEGER_CODE).all() and not found["clamped"].any()
    for port, field in (("block", "address"), ("part", "part"), ("first", "is_first_block"), ("tracker", "tracker")):
        assert np.array_equal(found[f"block_write__{port}"], fields[field]), port
