"""Reductions alone, against exact integers."""

import numpy as np
import pytest

from lpu_isa.formats import EXPONENT_BIAS, REDUCE_FRACTION_BITS, FloatFormat
from lpu_isa.vxm import REDUCE, Reduce
from lpu_rtl.float.reduce import reduce_layout
from lpu_sw.sim.arithmetic import Arithmetic
from lpu_tb.benches.float_units import CONFIGS, run_unit

N_REDUCTIONS = 1_500


def random_words(rng, p, shape):
    """Encoded floats of one reduction: near each other, far from each other, or anything; many zeros."""
    spread = int(rng.choice([0, 2, 12, 40, 250]))
    top = int(rng.integers(spread, 251))
    exponent = rng.integers(top - spread, top + 1, shape)
    exponent = np.where(rng.random(shape) < 0.1, 0, exponent)
    fraction = np.where(exponent == 0, 0, rng.integers(0, 1 << (p - 1), shape))
    return rng.integers(0, 2, shape) << (p + 7) | exponent << (p - 1) | fraction


def exact_sum(p, start, words):
    """The definition on Python integers: running exponent and sum of aligned significands, then one rounding."""

    def parts(word):
        field = word >> (p - 1) & 255
        significand = ((1 << (p - 1)) | word & ((1 << (p - 1)) - 1)) << REDUCE_FRACTION_BITS if field else 0
        return field, -significand if word >> (p + 7) else significand

    field, total = parts(start)
    for vector in words:
        lanes = [parts(word) for word in vector]
        largest = max(field, *(lane for lane, _ in lanes))
        total = (total >> largest - field) + sum(value >> largest - lane for lane, value in lanes)
        field = largest
    # Round to nearest even by hand.
    magnitude, drop = abs(total), max(0, abs(total).bit_length() - p)
    kept, rest = magnitude >> drop, magnitude & ((1 << drop) - 1)
    half = 1 << drop >> 1
    kept += rest > half or (drop > 0 and rest == half and kept & 1)
    exponent = field - EXPONENT_BIAS - (p - 1) - REDUCE_FRACTION_BITS + drop
    value = float(kept) * 2.0**exponent * (-1 if total < 0 else 1)
    return float(np.copysign(0.0, value)) if abs(value) < 2.0**-126 else value


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_reductions(config, tmp_path):
    p, rows = config.significand_bits, config.rows
    rng = np.random.default_rng(1)
    layout = reduce_layout(config)
    golden = Arithmetic(FloatFormat(p))
    vectors, events, valids, ends = [], [], [], []
    for _ in range(N_REDUCTIONS):
        kind = Reduce(int(rng.integers(1, 5)))
        count, lanes = int(rng.integers(1, 6)), int(rng.integers(1, rows + 1))
        words, start = random_words(rng, p, (count, rows)), int(random_words(rng, p, ()))
        words[-1, lanes:] = 0
        if rng.random() < 0.2:
            words[:] = words[0, 0]  # equal values: the first one is the maximum
            words[-1, lanes:] = 0
        register = int(rng.integers(1, 31))
        if kind in (Reduce.SUM, Reduce.SUM_SQUARES):
            total = exact_sum(p, start, words.tolist())
            wanted = [golden.encode(total) if abs(total) < 2.0**128 else None]
        else:
            flat = FloatFormat(p).decode(words).ravel()[: (count - 1) * rows + lanes] + 0.0
            largest = golden.encode(flat.max())
            wanted = [largest] if kind is Reduce.MAX else [int(flat.argmax()), largest]
        for step in range(count):
            fields = {
                "kind": kind,
                "is_first": step == 0,
                "is_last": step == count - 1,
                "register": register,
                "start": start,
            }
            events.append(sum(int(value) << layout[name].offset for name, value in fields.items()))
            valids.append((1 << rows) - 1 if step < count - 1 else (1 << lanes) - 1)
            vectors.append(words[step])
        ends.append((len(events) - 1, register, wanted))
        idle = int(rng.integers(0, 3)) + (kind is Reduce.ARGMAX)  # its second write needs the port
        events += [0] * idle
        valids += [0] * idle
        vectors += [words[0]] * idle
    operands = {"event": np.array(events), "valid": np.array(valids), "vector": np.array(vectors)}
    name = f"reduce-{config.name}-{p}"
    found = run_unit(config, "reducer", operands, latency=REDUCE - 1, name=name, folder=tmp_path)

    expected = np.zeros(len(events), bool)
    for end, register, wanted in ends:
        for offset, word in enumerate(wanted):
            if end + offset < len(events):
                expected[end + offset] = True
                assert found["write__index"][end + offset] == register + offset
                assert found["overflow"][end + offset] == (word is None)
                assert word is None or found["write__data"][end + offset] == word, (end, offset)
    assert np.array_equal(found["write__enable"] == 1, expected)
    assert not found["conflict"].any()
