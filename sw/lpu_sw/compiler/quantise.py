"""Int8 weights: norms folded in, rows rounded with one scale each."""

import numpy as np

from lpu_isa.config import TileConfig
from lpu_isa.formats import QUANTISED_MAX, FloatFormat

__all__ = ["pad", "quantise_rows", "scale_words"]


def quantise_rows(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round each output row to int8 with one scale a row (symmetric, nearest even).

    weights: (out, in). Returns int8 of that shape, |q| <= 127, and float64 (out,) with
    ``weights ~ q * scale[:, None]``; a row of zeros has the scale 0.

    >>> quantise_rows(np.array([[1.0, -2.0]]))[0].tolist()
    [[64, -127]]
    """
    scale = np.abs(weights).max(axis=1).astype(np.float64) / QUANTISED_MAX
    rounded = np.rint(weights / np.where(scale == 0, 1, scale)[:, None])
    return np.clip(rounded, -QUANTISED_MAX, QUANTISED_MAX).astype(np.int8), scale


def pad(values: np.ndarray, places: np.ndarray, size: int, axis: int = 0) -> np.ndarray:
    """Spread ``values`` along ``axis`` to ``size`` places, element i at ``places[i]``, zeros elsewhere."""
    shape = list(values.shape)
    shape[axis] = size
    spread = np.zeros(shape, values.dtype)
    spread[(slice(None),) * axis + (places,)] = values
    return spread


def scale_words(config: TileConfig, scales: np.ndarray) -> np.ndarray:
    """Vector words of one float a lane, rounded to the tile's format and zero padded: (words, rows) float64."""
    words = -(-len(scales) // config.rows)
    padded = np.zeros(words * config.rows)
    padded[: len(scales)] = FloatFormat(config.significand_bits).round(scales)
    return padded.reshape(words, config.rows)
