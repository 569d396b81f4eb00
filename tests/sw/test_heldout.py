"""Held-out text: how a file becomes stories, and a story tokens."""

from __future__ import annotations

import numpy as np
import pytest

from lpu_sw.frontends import load_model
from lpu_sw.frontends.tokenizer import load_tokenizer
from lpu_sw.heldout import cross_entropy, read_stories, story_tokens


def test_stories_stand_between_blank_lines(tmp_path):
    (tmp_path / "text").write_text("\nOne.\nTwo.\n\nThree.\n\n\n\n", encoding="utf-8")
    assert read_stories(tmp_path / "text") == ["One.\nTwo.", "Three."]


@pytest.mark.parametrize(
    ("contents", "message"),
    [(b"\n\n", "no text, expected stories with a blank line between"), (b"\xff", "not a readable text file")],
)
def test_refuses_what_is_no_text(tmp_path, contents, message):
    (tmp_path / "text").write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        read_stories(tmp_path / "text")


def test_a_story_ends_with_the_stop_id_or_one_past_the_context(story_llama):
    config = load_model(story_llama).config
    tokenizer = load_tokenizer(story_llama, config)
    assert story_tokens("Once upon a time", tokenizer, config) == [1, 225, 226, 101, 207, 2]
    long = story_tokens("Once upon a time " * 100, tokenizer, config)
    assert len(long) == 257 and long[-1] != 2


def test_cross_entropy_of_known_probabilities():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])).astype(np.float32) + np.float32(500)
    np.testing.assert_allclose(cross_entropy(logits, np.array([1, 2])), -np.log([0.25, 0.8]), atol=1e-4)
