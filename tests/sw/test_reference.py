"""The float32 reference against what others computed: llama2.c, PyTorch, and a slow float64 model written here."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from lpu_sw.frontends import load_model
from lpu_sw.frontends.tokenizer import decode, load_tokenizer
from lpu_sw.heldout import read_stories, story_tokens
from lpu_sw.model import LlamaConfig, LlamaModel
from lpu_sw.reference.llama import FloatLlama, greedy, next_token_losses

CONFIG = LlamaConfig(
    dim=24, hidden_dim=52, n_layers=2, n_heads=6, n_kv_heads=3, head_dim=10, vocab_size=77, max_positions=41
)  # fmt: skip


def plain_logits(model: LlamaModel, tokens: list[int]) -> np.ndarray:
    """All logits in float64, (n, vocab): keys and values repeated for every query head, angles as complex numbers."""
    config, n = model.config, len(tokens)
    frequencies = config.rope_theta ** (-2.0 * np.arange(config.head_dim // 2) / config.head_dim)
    turns = np.exp(1j * np.outer(np.arange(n), frequencies))

    def normed(hidden: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.array([row * weight / np.sqrt(row @ row / config.dim + config.norm_epsilon) for row in hidden])

    def rotated(head: np.ndarray) -> np.ndarray:
        if config.rope_pairs == "interleaved":
            turned = (head[:, 0::2] + 1j * head[:, 1::2]) * turns
            return np.stack([turned.real, turned.imag], axis=-1).reshape(head.shape)
        real, imaginary = np.split(head, 2, axis=1)
        turned = (real + 1j * imaginary) * turns
        return np.concatenate([turned.real, turned.imag], axis=1)

    hidden = model.embedding[tokens].astype(np.float64)
    for layer in model.layers:
        inputs = normed(hidden, layer.attention_norm)
        heads = []
        for head in range(config.n_heads):
            kv_head = head * config.n_kv_heads // config.n_heads
            rows, kv_rows = (slice(index * config.head_dim, (index + 1) * config.head_dim) for index in (head, kv_head))
            query, key = rotated(inputs @ layer.wq[rows].T), rotated(inputs @ layer.wk[kv_rows].T)
            value = inputs @ layer.wv[kv_rows].T
            outputs = []
            for position in range(n):
                scores = np.exp(key[: position + 1] @ query[position] / config.head_dim**0.5)
                outputs.append(scores @ value[: position + 1] / scores.sum())
            heads.append(outputs)
        hidden = hidden + np.concatenate(heads, axis=1) @ layer.wo.T
        inputs = normed(hidden, layer.feed_forward_norm)
        gate = inputs @ layer.gate.T
        hidden = hidden + (gate / (1 + np.exp(-gate)) * (inputs @ layer.up.T)) @ layer.down.T
    return normed(hidden, model.final_norm) @ model.classifier.T


def config(**changes: Any) -> LlamaConfig:
    return dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize("rope_pairs", ["interleaved", "half"])
@pytest.mark.parametrize(("n_heads", "n_kv_heads"), [(8, 8), (8, 4), (8, 2), (8, 1), (6, 3)])
def test_matches_a_plain_float64_model(random_model, rope_pairs, n_heads, n_kv_heads):
    sizes = config(n_heads=n_heads, n_kv_heads=n_kv_heads, rope_pairs=rope_pairs, tied=n_kv_heads > 1, rope_theta=100.0)
    model = random_model(sizes)
    tokens = np.random.default_rng(1).integers(0, 77, 41).tolist()
    expected = plain_logits(model, tokens)
    np.testing.assert_allclose(FloatLlama(model).forward(tokens), expected, atol=1e-4)

    one_by_one = FloatLlama(model)
    np.testing.assert_allclose([one_by_one.step(token) for token in tokens], expected, atol=1e-4)
    assert one_by_one.position == 41

    in_parts = FloatLlama(model)
    parts = [in_parts.forward(tokens[:7]), in_parts.forward(tokens[7:8]), in_parts.forward(tokens[8:])]
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-4)


def test_tells_the_story_that_llama2c_publishes(stories260k):
    path = stories260k / "stories260K.bin"
    expected = json.loads((stories260k / "expected.json").read_text())
    model = load_model(path)
    tokenizer = load_tokenizer(path, model.config)
    prompt = tokenizer.encode("")
    tokens = greedy(model, prompt, 200)
    assert tokens == expected["ids"]
    assert decode(tokenizer, prompt + tokens) == expected["text"]


def test_matches_pytorch_on_the_shipped_model(story_llama):
    model = load_model(story_llama)
    reference = json.loads((story_llama / "reference.json").read_text())
    logits = FloatLlama(model).forward(reference["greedy"][0]["prompt_ids"])[-1]
    np.testing.assert_allclose(logits, reference["logits_after_first_prompt"], atol=1e-4)
    for continuation in reference["greedy"]:
        assert greedy(model, continuation["prompt_ids"], 100) == continuation["greedy_ids"]


def test_the_loss_on_held_out_stories_is_that_of_pytorch(story_llama):
    model = load_model(story_llama)
    tokenizer = load_tokenizer(story_llama, model.config)
    reference = json.loads((story_llama / "reference.json").read_text())["heldout"]
    stories = read_stories(story_llama / reference["file"])
    losses = [next_token_losses(model, story_tokens(story, tokenizer, model.config)) for story in stories]
    assert len(stories) == reference["stories"]
    assert sum(map(len, losses)) == reference["predicted_tokens"]
    assert np.concatenate(losses).mean() == pytest.approx(reference["mean_loss"], abs=2e-5)


def test_greedy_never_takes_padding_and_breaks_ties_low(random_model):
    model = random_model(config(tied=False, stop_ids=()))
    model.classifier[:] = 0
    assert greedy(model, [1], 3) == [0, 0, 0]
    model.classifier[70] = 1
    model.classifier[70] *= np.sign(FloatLlama(model).step(1)[70])
    assert greedy(model, [1], 1) == [70]
    assert greedy(model, [1], 1, n_valid=70) == [0]


def test_greedy_ends_at_a_stop_id_and_at_the_end_of_the_context(random_model):
    model = random_model(config(tied=False, stop_ids=(0,)))
    model.classifier[:] = 0
    assert greedy(model, [1], 5) == [0]
    model = random_model(config(stop_ids=()))
    assert len(greedy(model, [1] * 39, 100)) == 3


@pytest.mark.parametrize("is_portable", [False, True])
@pytest.mark.parametrize(
    ("name", "says"),
    [("wq", "layer's input"), ("down", "layer's input"), ("final_norm", "logit"), ("classifier", "logit")],
)
def test_weights_that_lead_beyond_float32_are_refused(random_model, name, says, is_portable):
    model = random_model(config(tied=False))
    (model.layers[0] if hasattr(model.layers[0], name) else model).__dict__[name][:] = 3e38
    with pytest.raises(ValueError, match=f"{says} is beyond float32: the model's weights are too large"):
        FloatLlama(model, is_portable=is_portable).forward([1, 2])


def test_refuses_what_does_not_fit(random_model):
    llama = FloatLlama(random_model(config()))
    llama.forward([1] * 41)
    with pytest.raises(ValueError, match="42 tokens do not fit into the context of 41"):
        llama.step(1)
    for token in (-1, 77):
        with pytest.raises(ValueError, match=f"token {token} is outside the vocabulary of 77"):
            FloatLlama(llama.model).step(token)
