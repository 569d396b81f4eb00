"""How a matrix lies in weight SRAM."""

import numpy as np

from lpu_isa.config import TileConfig

__all__ = ["weight_words"]


def weight_words(config: TileConfig, weights: np.ndarray) -> np.ndarray:
    """Weight SRAM words of an int8 matrix (out, in): (in blocks * out groups, rows, cols), block by block.

    Word ``block * groups + group`` holds rows ``group * rows ..`` and columns ``block * cols ..``, zero padded.
    """
    groups = -(-weights.shape[0] // config.rows)
    blocks = -(-weights.shape[1] // config.cols)
    padded = np.zeros((groups * config.rows, blocks * config.cols), np.int8)
    padded[: weights.shape[0], : weights.shape[1]] = weights
    words = padded.reshape(groups, config.rows, blocks, config.cols).transpose(2, 0, 1, 3)
    return words.reshape(-1, config.rows, config.cols)
