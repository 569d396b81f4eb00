"""How the error of the tile's numbers grows from layer to layer: hidden states against those of float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lpu_isa.config import TileConfig
from lpu_sw.compiler.calibrate import calibrate
from lpu_sw.model import LlamaModel
from lpu_sw.reference.llama import FloatLlama
from lpu_sw.reference.quantised import QuantisedLlama

__all__ = ["layer_errors"]


def layer_errors(
    model: LlamaModel, tile: TileConfig, stories: Sequence[Sequence[int]], reference: LlamaModel | None = None
) -> dict[str, float]:
    """Relative error of the hidden state wherever it has been added to, and of the logits, in the model's order.

    An error is the length of the difference by that of float32's vector, averaged over all tokens of ``stories``
    (token ids, each story from an empty context). Computed by the quantised model, which the tile equals to the bit.
    reference : another model to take the float32 values from, of the same sizes.
    """
    ranges = calibrate(model)
    stages = ["embedding"]
    for layer in range(model.config.n_layers):
        stages += [f"layer {layer} attention", f"layer {layer} feed-forward"]
    errors = []
    for story in stories:
        expected: list[np.ndarray] = []
        found: list[np.ndarray] = []
        quantised = QuantisedLlama(model, tile, ranges, observe=lambda name, layer, x, found=found: found.append(x))
        logits = np.array([quantised.step(token) for token in story])

        def observe(name: str, layer: int, values: np.ndarray, expected: list[np.ndarray] = expected) -> None:
            if name == "hidden":
                expected.append(values)

        float_logits = FloatLlama(reference or model, observe).forward(story)
        # The float model takes all tokens at once, stage after stage; the quantised one token after token.
        hidden = np.concatenate(found).reshape(len(story), len(stages), -1).swapaxes(0, 1)
        by_stage = [*(_relative(x, y) for x, y in zip(hidden, expected, strict=True)), _relative(logits, float_logits)]
        errors.append(np.array(by_stage))
    means = np.concatenate(errors, axis=1).mean(axis=1)
    return dict(zip([*stages, "logits"], means.tolist(), strict=True))


def _relative(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Error of each vector: (n, width) both, (n,)."""
    length = np.linalg.norm(expected.astype(np.float64), axis=-1)
    return np.linalg.norm(found - expected, axis=-1) / length
