"""Sampling: the right probabilities, and the same choices on every machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lpu_sw.sampling import Sampler, portable_exp

PINNED_EXPONENTIALS = [
    "0x1.cf46d99d52b3ap-1",
    "0x1.78b56362cef38p-2",
    "0x1.7455fe323fafep-11",
    "0x1.245639c3a49f7p-433",
]
PINNED_CHOICES = [60, 63, 61, 51, 53, 62, 20, 62, 62, 57, 53, 53, 52, 57, 58, 59]


def test_the_exponential_is_that_of_the_c_library_to_the_last_bits():
    values = np.concatenate([-np.geomspace(1e-300, 700, 2000), -np.linspace(0, 3, 2001)])
    np.testing.assert_allclose(portable_exp(values), [math.exp(value) for value in values], rtol=1e-15)


def test_the_exponential_reaches_zero():
    assert portable_exp(np.array([0.0, -800.0, -1e9, -np.inf])).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_the_exponential_has_the_same_bits_everywhere():
    values = portable_exp(np.array([-0.1, -1.0, -7.25, -300.0]))
    assert [float(value).hex() for value in values] == PINNED_EXPONENTIALS


def test_the_same_seed_makes_the_same_choices_everywhere():
    logits = np.linspace(-3, 3, 64, dtype=np.float32)
    sampler = Sampler(temperature=0.8, seed=7)
    assert [sampler.choose(logits) for _ in range(16)] == PINNED_CHOICES


def test_draws_in_proportion():
    probabilities = np.array([0.5, 0.0, 0.3, 0.15, 0.05])
    temperature, n = 0.7, 20_000
    with np.errstate(divide="ignore"):
        logits = (temperature * np.log(probabilities)).astype(np.float32)
    sampler = Sampler(temperature, seed=3)
    counts = np.bincount([sampler.choose(logits) for _ in range(n)], minlength=5)
    five_deviations = 5 * np.sqrt(n * probabilities * (1 - probabilities))
    assert (np.abs(counts - n * probabilities) <= five_deviations).all()


def test_temperature_zero_takes_the_best_and_of_equals_the_first():
    assert Sampler().choose(np.array([1, 3, 3, 2], np.float32)) == 1


def test_a_tiny_temperature_takes_the_best():
    assert {Sampler(1e-300, seed).choose(np.array([1, 3, 2], np.float32)) for seed in range(20)} == {1}


@pytest.mark.parametrize(
    ("temperature", "seed", "message"),
    [
        (-0.1, 0, "the temperature must be 0 or a positive number, not -0.1"),
        (math.inf, 0, "the temperature must be 0 or a positive number, not inf"),
        (math.nan, 0, "the temperature must be 0 or a positive number, not nan"),
        (0.8, -1, "the seed must be 0 or a positive number, not -1"),
    ],
)
def test_refuses_impossible_settings(temperature, seed, message):
    with pytest.raises(ValueError, match=message):
        Sampler(temperature, seed)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_refuses_logits_that_are_not_numbers(temperature):
    with pytest.raises(ValueError, match="the logit of token 2 is not a number"):
        Sampler(temperature).choose(np.array([1, 2, np.nan], np.float32))
