"""How the error of the tile's numbers grows from layer to layer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lpu_isa.config import SHAPES
from lpu_sw.compiler.calibrate import calibrate
from lpu_sw.frontends import load_model
from lpu_sw.frontends.tokenizer import load_tokenizer
from lpu_sw.heldout import read_stories, story_tokens
from lpu_sw.layer_errors import layer_errors
from lpu_sw.model import LlamaConfig
from lpu_sw.reference.llama import rms_norm
from lpu_sw.reference.quantised import QuantisedLlama

TILE = SHAPES["8x16"]


@pytest.fixture(scope="module")
def model(story_llama):
    return load_model(story_llama)


@pytest.fixture(scope="module")
def stories(story_llama, model):
    tokenizer = load_tokenizer(story_llama, model.config)
    return [story_tokens(t, tokenizer, model.config)[:50] for t in read_stories(story_llama / "heldout.txt")[:2]]


@pytest.fixture(scope="module")
def errors(model, stories):
    return layer_errors(model, TILE, stories)


def test_every_sum_and_the_logits_have_an_error(errors, model):
    layers = range(model.config.n_layers)
    sums = [f"layer {layer} {part}" for layer in layers for part in ("attention", "feed-forward")]
    assert list(errors) == ["embedding", *sums, "logits"]


def test_errors_grow_no_faster_than_the_number_of_sums_and_never_cancel(errors):
    *hidden, logits = errors.values()
    per_sum = hidden[1]
    assert 0.001 < hidden[0] < per_sum < 0.02, "8 bits round to a few parts in a thousand"
    for sums, (before, after) in enumerate(zip(hidden[1:], hidden[2:], strict=False), start=2):
        assert 0.8 * before < after < sums * per_sum
    assert logits < 1.5 * hidden[-1]


def test_a_wrong_layer_shows_from_where_it_is(model, stories, errors):
    layers = list(model.layers)
    layers[2] = dataclasses.replace(layers[2], wo=layers[2].wo * np.float32(0.9))
    wrong = layer_errors(model, TILE, stories, dataclasses.replace(model, layers=tuple(layers)))
    ratios = {stage: wrong[stage] / errors[stage] for stage in errors}
    assert {stage for stage, ratio in ratios.items() if ratio == 1} == set(list(errors)[:5])
    assert ratios["layer 2 attention"] > 1.2


def test_the_last_hidden_state_is_what_the_logits_are_made_of(random_model):
    config = LlamaConfig(24, 20, 3, 2, 1, 12, 50, 16)
    model, seen = random_model(config, seed=3), []
    quantised = QuantisedLlama(model, TILE, calibrate(model, [[3, 1, 4]]), observe=lambda *what: seen.append(what))
    for token in (3, 1, 4):
        logits = quantised.step(token)
        name, layer, hidden = seen[-1]
        assert (name, layer) == ("hidden", 3)
        expected = rms_norm(hidden, model.final_norm, config.norm_epsilon) @ model.classifier.T
        assert np.linalg.norm(logits - expected) < 0.02 * np.linalg.norm(expected)
    assert [layer for _, layer, _ in seen] == [0, 0, 1, 1, 2, 2, 3] * 3
