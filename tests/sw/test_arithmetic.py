"""Golden arithmetic against NumPy's float32, exact rationals, Python integers and NumPy's functions."""

import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from lpu_isa.faults import Fault
from lpu_isa.formats import FloatFormat
from lpu_isa.tables import Function
from lpu_sw.sim.arithmetic import (
    Arithmetic,
    accumulate,
    align,
    argmax,
    misaligned,
    quantise_block,
    quantise_integers,
    quantise_static,
    reduce_max,
)

SIGNIFICANDS = pytest.mark.parametrize("p", [18, 24])
SMALLEST = 2.0**-126


@cache
def arithmetic(p):
    return Arithmetic(FloatFormat(p))


def random_floats(p, n, seed, exponents=(-100, 100)):
    """Values of the format, a tenth of them zeros of both signs or powers of two."""
    rng = np.random.default_rng(seed)
    x = FloatFormat(p).round(np.ldexp(rng.uniform(-2, 2, n), rng.integers(*exponents, n)))
    corners = np.array([0.0, -0.0, 1.0, -1.0, SMALLEST, -SMALLEST, 2.0 - 2.0 ** (1 - p)])
    return np.where(rng.random(n) < 0.1, rng.choice(corners, n), x)


def nearest_even(exact: Fraction, p: int) -> float:
    """An exact number rounded to p bits, without bounds of the exponent."""
    if exact == 0:
        return 0.0
    exponent = 0
    while abs(exact) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(exact) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - p + 1)
    return float(round(exact / unit) * unit)


def same_bits(a, b):
    return np.array_equal(np.asarray(a, float).view(np.int64), np.asarray(b, float).view(np.int64))


@SIGNIFICANDS
def test_every_tie_of_a_binade_goes_to_even(p):
    ties = np.arange(2.0 ** (p - 1), 2.0**p) + 0.5
    assert np.array_equal(arithmetic(p).nearest(ties), np.rint(ties))


@SIGNIFICANDS
def test_nearest_rounds_as_the_format_does(p):
    rng = np.random.default_rng(1)
    x = np.append(np.ldexp(rng.uniform(-2, 2, 100_000), rng.integers(-100, 100, 100_000)), [0.0, -0.0])
    assert same_bits(arithmetic(p).nearest(x), FloatFormat(p).round(x))


@pytest.mark.parametrize("name", ["add", "multiply"])
def test_24_bits_equal_float32(name):
    a, b = random_floats(24, 200_000, 2, (-126, 126)), random_floats(24, 200_000, 3, (-126, 126))
    with np.errstate(over="ignore", under="ignore"):
        expected = {"add": np.add, "multiply": np.multiply}[name](a.astype(np.float32), b.astype(np.float32))
    values, faults = getattr(arithmetic(24), name)(a, b)
    assert np.array_equal(faults == Fault.FLOAT, np.isinf(expected))
    judged = np.isfinite(expected) & ((np.abs(expected) > SMALLEST) | (expected == 0))
    assert judged.mean() > 0.5
    assert same_bits(values[judged], expected[judged].astype(float))


@pytest.mark.parametrize("name", ["add", "multiply"])
def test_18_bits_equal_exact_rounding(name):
    a, b = random_floats(18, 3_000, 4, (-20, 20)), random_floats(18, 3_000, 5, (-20, 20))
    values, faults = getattr(arithmetic(18), name)(a, b)
    assert not faults.any()
    for x, y, value in zip(a.tolist(), b.tolist(), values.tolist(), strict=True):
        exact = Fraction(x) + Fraction(y) if name == "add" else Fraction(x) * Fraction(y)
        expected = nearest_even(exact, 18)
        assert value == (expected if abs(expected) >= SMALLEST else 0), (x, y)


@SIGNIFICANDS
def test_zeros_have_the_sign_of_ieee(p):
    a = arithmetic(p)
    x = np.array([1.5, -0.0, -0.0, 0.0])
    assert same_bits(a.add(x, np.array([-1.5, -0.0, 0.0, -0.0])).values, [0.0, -0.0, 0.0, 0.0])
    assert same_bits(a.multiply(x, np.array([-0.0, 3.0, -3.0, -1.0])).values, [-0.0, -0.0, 0.0, -0.0])


@SIGNIFICANDS
def test_tininess_is_judged_after_rounding(p):
    a = arithmetic(p)
    just_below_one = 1 - 2.0**-p
    largest = 2.0 - 2.0 ** (1 - p)
    products = a.multiply(np.array([SMALLEST, -SMALLEST, SMALLEST]), np.array([just_below_one, 0.5, 1.0]))
    assert same_bits(products.values, [0.0, -0.0, SMALLEST])
    # (2 - u) * (1/2 + u/2) lies so close below 1 that it rounds to 1.
    rounds_up = a.multiply(np.array([largest * 2.0**-126]), np.array([0.5 + 2.0**-p]))
    assert rounds_up.values[0] == SMALLEST


@SIGNIFICANDS
def test_a_result_from_2_to_the_128_on_is_a_fault(p):
    a = arithmetic(p)
    largest = (2.0 - 2.0 ** (1 - p)) * 2.0**127
    assert a.multiply(np.array([2.0**64, largest, -largest]), np.array([2.0**64, 1.0, -2.0])).faults.tolist() == [
        Fault.FLOAT, Fault.NONE, Fault.FLOAT]  # fmt: skip
    assert a.add(np.array([largest]), np.array([largest])).faults[0] == Fault.FLOAT


@SIGNIFICANDS
def test_accumulator_sums_convert_with_one_rounding(p):
    rng = np.random.default_rng(6)
    sums = rng.integers(-(1 << 43), 1 << 43, 500) >> rng.integers(0, 43, 500)
    bases = rng.integers(60, 200, 500)
    values, faults = arithmetic(p).convert(sums, bases)
    assert not faults.any()
    for total, base, value in zip(sums.tolist(), bases.tolist(), values.tolist(), strict=True):
        assert value == nearest_even(total * Fraction(2) ** (base - 127 - 14), p)
    assert same_bits(arithmetic(p).convert(np.array([0]), 127).values, [0.0])
    assert arithmetic(p).convert(np.array([1 << 42]), 255).faults[0] == Fault.FLOAT


DOMAINS = {
    Function.EXP2: (np.exp2, [(-3.0, 3.0), (-126.0, 127.9)]),
    Function.RECIPROCAL: (np.reciprocal, [(1.0, 2.0), (-1e9, -1e-9)]),
    Function.RSQRT: (lambda x: 1 / np.sqrt(x), [(1.0, 4.0), (1e-20, 1e20)]),
    Function.SIGMOID: (lambda x: 1 / (1 + np.exp(-x)), [(0.0, 17.0)]),
}
WORST_ULP = {
    18: {Function.EXP2: 2.3, Function.RECIPROCAL: 1.8, Function.RSQRT: 2.2, Function.SIGMOID: 16},
    24: {Function.EXP2: 36, Function.RECIPROCAL: 81, Function.RSQRT: 106, Function.SIGMOID: 821},
}


@SIGNIFICANDS
@pytest.mark.parametrize("function", DOMAINS)
def test_functions_are_as_exact_as_documented(p, function):
    exact, domains = DOMAINS[function]
    errors = []
    for low, high in domains:
        x = FloatFormat(p).round(np.random.default_rng(13).uniform(low, high, 1 << 19))
        values, faults = arithmetic(p).function(function, x)
        assert not faults.any()
        unit = 2.0 ** (np.floor(np.log2(np.abs(exact(x)))) - p + 1)
        errors.append(np.max(np.abs(values - exact(x)) / unit))
    assert WORST_ULP[p][function] * 0.8 < max(errors) <= WORST_ULP[p][function]


@SIGNIFICANDS
def test_sigmoid_of_negative_numbers_complements(p):
    x = random_floats(p, 10_000, 7, (-10, 5))
    values = arithmetic(p).function(Function.SIGMOID, np.abs(x)).values
    assert np.array_equal(arithmetic(p).function(Function.SIGMOID, -np.abs(x)).values[x != 0], 1 - values[x != 0])


@SIGNIFICANDS
@pytest.mark.parametrize("function", DOMAINS)
def test_a_scalar_s_function_is_that_of_a_vector(p, function):
    x = np.append(random_floats(p, 2_000, 8, (-120, 127)), random_floats(p, 2_000, 9, (-8, 8)))
    x = np.append(x, [127.99, 128.0, -126.0, -126.001, 15.9999, 16.0, 1000.0, 2.0**-100, -(2.0**-100), 2.0**-101])
    x = FloatFormat(p).round(x)
    values, faults = arithmetic(p).function(function, x)
    scalars = [arithmetic(p).scalar_function(function, value) for value in x.tolist()]
    assert [fault for _, fault in scalars] == faults.tolist()
    fine = faults == 0
    assert same_bits(np.array([value for value, _ in scalars])[fine], values[fine])


@SIGNIFICANDS
def test_functions_at_the_ends_of_their_domains(p):
    a = arithmetic(p)
    exp2 = a.function(Function.EXP2, np.array([0.0, -0.0, 1.0, -126.0, -127.0, -1e30, 128.0, 1e30]))
    assert exp2.values[:6].tolist() == [1.0, 1.0, 2.0, SMALLEST, 0.0, 0.0]
    assert exp2.faults.tolist() == [0, 0, 0, 0, 0, 0, Fault.FLOAT, Fault.FLOAT]
    reciprocal = a.function(Function.RECIPROCAL, np.array([2.0**-100, -(2.0**-101), 0.0, -4.0, 2.0**127]))
    assert reciprocal.values[[0, 3, 4]].tolist() == [2.0**100, -0.25, 0.0]
    assert reciprocal.faults.tolist() == [0, Fault.FUNCTION, Fault.FUNCTION, 0, 0]
    rsqrt = a.function(Function.RSQRT, np.array([2.0**-100, 2.0**-101, -1.0, -0.0, 16.0]))
    assert rsqrt.values[[0, 4]].tolist() == [2.0**50, 0.25]
    assert rsqrt.faults.tolist() == [0, Fault.FUNCTION, Fault.FUNCTION, Fault.FUNCTION, 0]
    sigmoid = a.function(Function.SIGMOID, np.array([16.0, 1e30, -16.0, -1e30, 0.0, -0.0]))
    assert same_bits(sigmoid.values, [1.0, 1.0, 0.0, 0.0, 0.5, 0.5])


@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0, 100.0])
def test_softmax_keeps_the_argmax(spread):
    a = arithmetic(18)
    rng = np.random.default_rng(int(spread * 10))
    for _ in range(2_500):
        n = int(rng.integers(2, 513))
        scores = FloatFormat(18).round(rng.uniform(-spread, spread, n))
        best = int(scores.argmax())
        numerators = a.function(Function.EXP2, scores).values
        assert numerators[best] == numerators.max()
        lanes = np.zeros(-(-n // 16) * 16)
        lanes[:n] = numerators
        blocks = lanes.reshape(-1, 16)
        total, overflows = a.reduce_sum(0.0, blocks)
        assert not overflows
        scale, fault = a.scalar_function(Function.RECIPROCAL, total)
        assert fault is Fault.NONE
        assert abs(a.multiply(numerators, scale).values.sum() - 1) < 1e-3
        quantised, codes = quantise_block(blocks)
        probabilities = (quantised * np.ldexp(1.0, codes - 127)[:, None]).ravel()
        assert probabilities[best] == probabilities.max()


def integer_sum(p, start, vectors):
    """The definition of a reduction, on Python integers."""

    def parts(x):
        fraction, exponent = math.frexp(abs(x))
        significand = int(math.ldexp(fraction, p)) << 8
        return (exponent + 126 if x else 0), significand if x > 0 else -significand

    largest, running = parts(start)
    for vector in vectors:
        lanes = [parts(x) for x in vector]
        field = max([largest, *(f for f, _ in lanes)])
        running = (running >> (field - largest)) + sum(s >> (field - f) for f, s in lanes if s)
        largest = field
    return nearest_even(running * Fraction(2) ** (largest - 127 - (p - 1) - 8), p)


@SIGNIFICANDS
@pytest.mark.parametrize("exponents", [(-3, 3), (-40, 40), (-120, 120)])
def test_reductions_sum_aligned_significands(p, exponents):
    for seed in range(40):
        vectors = random_floats(p, 8 * (1 + seed % 7), seed, exponents).reshape(-1, 8)
        start = float(random_floats(p, 1, seed + 100, exponents)[0])
        assert arithmetic(p).reduce_sum(start, vectors) == (integer_sum(p, start, vectors.tolist()), False)


@SIGNIFICANDS
def test_reductions_ignore_invalid_lanes_and_report_overflow(p):
    a = arithmetic(p)
    vectors = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 2.0**120, -1.0, 7.0]])
    valid = np.array([[True] * 4, [True, False, True, False]])
    assert a.reduce_sum(0.5, vectors, valid) == (14.5, False)
    assert reduce_max(vectors, valid) == 5.0
    assert argmax(vectors, valid) == (4, 5.0)
    assert a.reduce_sum(0.0, np.full((2, 4), 2.0**125))[1]
    assert same_bits(a.reduce_sum(-0.0, np.zeros((1, 4)))[0], 0.0)


def test_argmax_takes_the_lowest_index_and_treats_zeros_alike():
    assert argmax(np.array([[-1.0, -0.0], [0.0, -2.0]])) == (1, 0.0)
    assert same_bits(reduce_max(np.array([[-1.0, -0.0]])), 0.0)


@pytest.mark.parametrize(
    "value, expected",
    [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (126.5, 126), (127.5, 127), (-1e30, -127)],
)
def test_static_quantiser_rounds_half_to_even_and_clamps(value, expected):
    quantised, clamped = quantise_static(np.array([value]))
    assert quantised[0] == expected
    assert clamped[0] == (abs(value) >= 127.5)


def test_blocks_of_integers_round_half_to_even_and_reach_minus_128():
    quantised, codes = quantise_integers(np.array([[0.5, 1.5, -2.5, 126.5], [127.5, -127.5, -128.5, -1e30]]))
    assert quantised.tolist() == [[0, 2, -2, 126], [127, -128, -128, -128]]
    assert codes.tolist() == [127, 127]


def test_blocks_are_quantised_with_the_largest_exponent():
    blocks = random_floats(18, 160, 11, (-20, 20)).reshape(10, 16)
    quantised, codes = quantise_block(blocks)
    for block, row, code in zip(blocks.tolist(), quantised.tolist(), codes.tolist(), strict=True):
        assert code == math.frexp(max(map(abs, block)))[1] + 126 - 6
        units = [Fraction(x) / Fraction(2) ** (code - 127) for x in block]
        assert row == [max(-127, min(127, round(unit))) for unit in units]


def test_a_block_never_holds_minus_128_and_is_zero_below_its_smallest_exponent():
    just_below_two = 2.0 - 2.0**-17
    quantised, codes = quantise_block(np.array([[-just_below_two, 1.0], [2.0**-120, 0.0], [2.0**-119, 0.0]]))
    assert quantised.tolist() == [[-127, 64], [0, 0], [64, 0]]
    assert codes.tolist() == [121, 0, 2]


def test_row_sums_are_shifted_left_exactly_and_right_with_floor():
    sums = np.array([[5.0, -5.0, 100_000.0]])
    for code, base in [(127, 127), (135, 127), (100, 127), (113, 127), (2, 250), (1, 255)]:
        shift = 14 + code - base
        expected = [int(s) << shift if shift >= 0 else int(s) >> -shift for s in sums[0]]
        assert align(sums, np.array([code]), base)[0].tolist() == expected
        assert not misaligned(np.array([code]), base)[0]
    assert align(sums, np.array([0]), 3).tolist() == [[0.0, 0.0, 0.0]]
    assert misaligned(np.array([0, 9, 8]), 0).tolist() == [False, True, False]


def test_an_accumulator_holds_44_bits():
    limit = 2.0**43
    total = accumulate(np.array([limit - 2, limit - 1, 1 - limit, -limit]), np.array([1.0, 1.0, -1.0, -1.0]))
    assert total.faults.tolist() == [Fault.NONE, Fault.ACCUMULATOR, Fault.NONE, Fault.ACCUMULATOR]
    assert total.values[0] == limit - 1


@SIGNIFICANDS
def test_registers_hold_the_words_of_the_format(p):
    x = random_floats(p, 1_000, 12, (-126, 127))
    words = [arithmetic(p).encode(value) for value in x.tolist()]
    assert words == FloatFormat(p).encode(x).tolist()
    assert same_bits([arithmetic(p).decode(word) for word in words], x)
    # An exponent field of 0 reads as zero whatever the fraction; high bits of a register do not matter.
    assert same_bits(arithmetic(p).decode(3 | 1 << (p + 7) | (1 << 32 if p == 24 else 1 << 30)), -0.0)
