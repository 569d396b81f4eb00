"""Held-out text: stories from a file, their tokens, and the loss of a model's logits on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lpu_sw.frontends.tokenizer import Tokenizer
from lpu_sw.model import LlamaConfig

__all__ = ["cross_entropy", "read_stories", "story_tokens"]


def read_stories(path: str | Path) -> list[str]:
    """Stories of a UTF-8 text file, one after another with a blank line between.

    Raises ValueError when there is none or the file is not text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable text file: {error}") from error
    stories = [story for story in text.strip().split("\n\n") if story]
    if not stories:
        raise ValueError(f"{path}: no text, expected stories with a blank line between")
    return stories


def story_tokens(story: str, tokenizer: Tokenizer, config: LlamaConfig) -> list[int]:
    """One story as BOS, text, end; cut to one token more than the context, so that every position predicts one."""
    return [*tokenizer.encode(story), *config.stop_ids[:1]][: config.max_positions + 1]


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Loss of each prediction in nats, float64 (n,). logits: (n, vocab); targets: (n,), the ids that came."""
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
