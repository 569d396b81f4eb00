"""Multiplier, adder, converter, rounding and functions, each over a million operands and all its corners.

Expected values are the golden model's; binary32 products and sums are held against NumPy's float32 as well.
"""

import os

import numpy as np
import pytest

from lpu_isa import vxm
from lpu_isa.faults import Fault
from lpu_isa.formats import ACCUMULATOR_BITS, ACCUMULATOR_FRACTION_BITS, EXPONENT_BIAS, FloatFormat
from lpu_isa.tables import Function
from lpu_sw.sim.arithmetic import Arithmetic
from lpu_tb.benches.float_units import CONFIGS, run_unit

N_OPERANDS = int(os.environ.get("LPU_OPERANDS", 100_000))
"""Operands of each kind, of which a unit gets three or so in each format."""
BINARY32 = 24

FORMATS = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"p{config.significand_bits}")
EXPONENTS = (0, 1, 2, 3, 126, 127, 128, 252, 253, 254, 255)


def encoded(sign, exponent, fraction, p):
    return (
        np.asarray(sign, np.int64) << (p + 7)
        | np.asarray(exponent, np.int64) << (p - 1)
        | np.asarray(fraction, np.int64)
    )


def corners(p):
    """Both signs of floats at the ends of exponent and fraction, zeros with a fraction among them."""
    ones = (1 << (p - 1)) - 1
    fractions = [0, 1, 2, 1 << (p - 2), ones ^ 1, ones]
    grid = np.meshgrid([0, 1], EXPONENTS, fractions, indexing="ij")
    return encoded(*(axis.ravel() for axis in grid), p)


def pairs(p, seed):
    """Uniform bits; operands close to each other, so that they cancel and tie; all pairs of corners."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.integers(0, 1 << (p + 8), (3, N_OPERANDS))
    distance = rng.integers(-p - 3, p + 4, N_OPERANDS)
    exponent = np.clip((c >> (p - 1) & 255) + distance, 0, 255)
    fraction = rng.integers(0, 1 << (p - 1), N_OPERANDS)
    few_bits = -(1 << rng.integers(0, p, N_OPERANDS))  # fractions that end in zeros make ties
    near = encoded(rng.integers(0, 2, N_OPERANDS), exponent, fraction & few_bits, p)
    is_twin = rng.random(N_OPERANDS) < 0.2
    twin = (c ^ (1 << (p + 7))) + rng.integers(-2, 3, N_OPERANDS) & ((1 << (p + 8)) - 1)
    left, right = np.meshgrid(corners(p), corners(p))
    return {
        "a": np.concatenate([a, c, left.ravel()]),
        "b": np.concatenate([b, np.where(is_twin, twin, near), right.ravel()]),
    }


def assert_equal(p, found, wanted, fault_flags, operands):
    """Flags where the model has a fault, and elsewhere the same bits."""
    for fault, flag in fault_flags.items():
        where = np.flatnonzero((wanted.faults == fault) != (found[flag] == 1))
        assert not len(where), (flag, {name: hex(values[where[0]]) for name, values in operands.items()})
    is_good = wanted.faults == Fault.NONE
    bits = FloatFormat(p).encode(np.where(is_good, wanted.values, 0))
    where = np.flatnonzero(is_good & (found["result"] != bits))
    assert not len(where), (
        {name: hex(values[where[0]]) for name, values in operands.items()},
        hex(found["result"][where[0]]),
        hex(bits[where[0]]),
    )  # fmt: skip


@FORMATS
@pytest.mark.parametrize(("unit", "latency"), [("multiply", vxm.MULTIPLY), ("add", vxm.ADD)])
def test_multiply_and_add(unit, latency, config, tmp_path):
    p = config.significand_bits
    operands = pairs(p, seed=1)
    found = run_unit(config, unit, operands, latency=latency, name=f"float-{unit}-{p}", folder=tmp_path)
    a, b = (FloatFormat(p).decode(operands[operand]) for operand in "ab")
    golden = Arithmetic(FloatFormat(p))
    assert_equal(p, found, getattr(golden, unit)(a, b), {Fault.FLOAT: "overflow"}, operands)
    if p == BINARY32:
        # Where float32 has normal numbers: NumPy itself.
        a, b = (operands[operand].astype(np.uint32).view(np.float32) for operand in "ab")
        with np.errstate(all="ignore"):
            ieee = np.multiply(a, b) if unit == "multiply" else np.add(a, b)
        is_number = np.isfinite(a) & np.isfinite(b) & (abs(a) >= 2.0**-126) & (abs(b) >= 2.0**-126)
        is_normal = is_number & np.isfinite(ieee) & (abs(ieee) > 2.0**-126)
        assert np.count_nonzero(is_normal) > len(a) // 2
        assert np.array_equal(found["result"][is_normal], ieee.view(np.uint32)[is_normal])
        assert np.array_equal(found["overflow"][is_number] == 1, np.isinf(ieee[is_number]))


@FORMATS
def test_convert(config, tmp_path):
    p = config.significand_bits
    rng = np.random.default_rng(2)
    limit = 1 << (ACCUMULATOR_BITS - 1)
    sums = rng.integers(-limit, limit, 2 * N_OPERANDS) >> rng.integers(0, ACCUMULATOR_BITS + 1, 2 * N_OPERANDS)
    # Just on, above and below a tie: the bits below the significand are 1000..., give or take one.
    scale = rng.integers(1, ACCUMULATOR_BITS - p, N_OPERANDS)
    ties = (rng.integers(1 << (p - 1), 1 << p, N_OPERANDS) * 2 + 1 << scale - 1) + rng.integers(-1, 2, N_OPERANDS)
    powers = 1 << np.arange(ACCUMULATOR_BITS - 1)
    edges = np.concatenate([[0, -limit, limit - 1], powers, powers - 1, -powers, 1 - powers])
    sums = np.concatenate([sums, ties * rng.choice([-1, 1], N_OPERANDS), np.repeat(edges, 256)])
    bases = np.concatenate([rng.integers(0, 256, 3 * N_OPERANDS), np.tile(np.arange(256), len(edges))])
    operands = {"value": sums, "unit": bases - ACCUMULATOR_FRACTION_BITS}
    name = f"float-convert-{p}"
    found = run_unit(config, "convert", operands, latency=vxm.CONVERT - 1, name=name, folder=tmp_path)
    wanted = Arithmetic(FloatFormat(p)).convert(sums, bases)
    assert_equal(p, found, wanted, {Fault.FLOAT: "overflow"}, operands)


@FORMATS
def test_round(config, tmp_path):
    p = config.significand_bits
    rng = np.random.default_rng(3)
    n = 3 * N_OPERANDS
    significand = rng.integers(1 << (p - 1), (1 << (p + 1)) - 2, n)
    ends = rng.random(n) < 0.3
    significand[ends] |= (1 << rng.integers(1, p - 1, n)[ends]) - 1  # long carries
    significand[significand >= (1 << (p + 1)) - 2] &= ~2  # rounded it stays below 4
    guard, sticky, sign = rng.integers(0, 2, (3, n))
    exponent = np.where(rng.random(n) < 0.5, rng.choice([-1, 0, 1, 253, 254, 255], n), rng.integers(-300, 500, n))
    operands = {"sign": sign, "exponent": exponent, "significand": significand, "guard": guard, "sticky": sticky}
    found = run_unit(config, "round", operands, latency=0, name=f"float-round-{p}", folder=tmp_path)
    exact = significand + guard * 0.5 + sticky * 0.25
    values = np.where(sign, -1, 1) * np.ldexp(exact, exponent - EXPONENT_BIAS - (p - 1))
    golden = Arithmetic(FloatFormat(p))
    assert_equal(p, found, golden.settle(golden.nearest(values)), {Fault.FLOAT: "overflow"}, operands)


def arguments(function, p, rng):
    """Every table argument where that is few enough (p = 18), a sample where not; and floats of any size."""
    bits = 17 if p == 18 else 15
    fraction = np.arange(1 << bits) << max(0, p - 1 - bits)
    fraction |= rng.integers(0, 1 << max(0, p - 1 - bits), len(fraction))
    exponents = {
        Function.EXP2: [EXPONENT_BIAS, EXPONENT_BIAS + 6],
        Function.RECIPROCAL: [EXPONENT_BIAS],
        Function.RSQRT: [EXPONENT_BIAS, EXPONENT_BIAS + 1],
        Function.SIGMOID: range(EXPONENT_BIAS - 1, EXPONENT_BIAS + 4),
    }[function]
    signs = [0] if function is Function.RSQRT else [0, 1]
    table = [encoded(sign, exponent, fraction, p) for exponent in exponents for sign in signs]
    exponent = rng.integers(EXPONENT_BIAS - 30, EXPONENT_BIAS + 9, 100_000)
    moderate = encoded(rng.integers(0, 2, 100_000), exponent, rng.integers(0, 1 << (p - 1), 100_000), p)
    # Exact fixed-point numbers, at which a floor changes.
    exact = FloatFormat(p).encode(rng.integers(-(1 << 17), 1 << 17, 50_000) / 1024.0).astype(np.int64)
    anything = rng.integers(0, 1 << (p + 8), 100_000)
    return np.concatenate([*table, moderate, exact, anything, corners(p)])


@FORMATS
def test_functions(config, tmp_path):
    p = config.significand_bits
    rng = np.random.default_rng(4)
    functions = [function for function in Function if function is not Function.NONE]
    parts = [arguments(function, p, rng) for function in functions]
    which = np.repeat([int(function) for function in functions], [len(part) for part in parts])
    operands = {"argument": np.concatenate(parts), "function": which}
    found = run_unit(config, "lookup", operands, latency=vxm.FUNCTION, name=f"float-functions-{p}", folder=tmp_path)
    golden = Arithmetic(FloatFormat(p))
    for function, part in zip(functions, parts, strict=True):
        is_it = which == function
        wanted = golden.function(function, FloatFormat(p).decode(part))
        answers = {name: values[is_it] for name, values in found.items()}
        flags = {Fault.FLOAT: "overflow", Fault.FUNCTION: "is_outside_domain"}
        assert_equal(p, answers, wanted, flags, {"argument": part})
