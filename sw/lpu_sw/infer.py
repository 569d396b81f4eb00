"""Run of a feed-forward network over a file of inputs."""

import dataclasses
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from lpu_isa.config import TileConfig
from lpu_sw.engines import SimDevice, awaited
from lpu_sw.feed_forward.compile import CompiledNetwork, compile_network
from lpu_sw.feed_forward.host import Inference, infer, input_vectors
from lpu_sw.frontends.onnx import read_onnx

__all__ = ["Inputs", "NetworkRun", "read_inputs"]


@dataclass(frozen=True)
class Inputs:
    """Inputs, one along the first axis, and their labels, if there are any: a whole number each."""

    x: np.ndarray
    labels: np.ndarray | None


def read_inputs(path: Path) -> Inputs:
    """A ``.npy`` of inputs, or an ``.npz`` with inputs ``x`` and perhaps labels ``y``.

    Raises ValueError for another file, one that is damaged, or labels that are not one for each input; and OSError.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"x": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, EOFError, BadZipFile, zlib.error):
        raise ValueError(f"{path}: found no whole NumPy file, expected .npy or .npz") from None
    if "x" not in arrays:
        raise ValueError(f"{path}: found the arrays {', '.join(arrays)}, expected x and, if known, the labels y")
    x, labels = arrays["x"], arrays.get("y")
    if not x.ndim or not len(x):
        raise ValueError(f"{path}: found no inputs, expected at least one along the first axis")
    if labels is not None and (labels.shape != (len(x),) or labels.dtype.kind not in "iu"):
        found = f"{labels.dtype}{list(labels.shape)}"
        raise ValueError(f"{path}: found the labels {found}, expected a whole number for each of {len(x)} inputs")
    return Inputs(x, labels)


class NetworkRun:
    """A network on the simulated tile.

    Attributes: ``compiled``, ``compile_seconds``, and after `run` the lists ``results`` and ``seconds`` of the run.
    """

    def __init__(self, model: Path, tile: TileConfig, dims: Mapping[str, int]) -> None:
        start = time.perf_counter()
        self.model = model
        self.compiled: CompiledNetwork = compile_network(read_onnx(model, dims), tile)
        self.compile_seconds = time.perf_counter() - start
        self.results: list[Inference] = []
        self.seconds = 0.0

    def lines(self) -> Iterator[str]:
        """What is about to run, for a person."""
        compiled, tile = self.compiled, self.compiled.program.config
        nodes = compiled.network.graph.regions[-1].nodes
        yield f"network  {self.model}: {len(nodes)} layers, {sum(compiled.macs.values()):,} multiplications"
        yield f"tile     {tile.name}, {tile.significand_bits}-bit significands"
        words = {section.space: len(section.data) for section in compiled.program.sections}
        yield (f"program  {len(compiled.program.bundles):,} of {tile.bundles:,} bundles, {words['wmem']:,} of "
               f"{tile.wmem_words:,} weight words, compiled in {self.compile_seconds:.1f} s")  # fmt: skip
        yield (f"cycles   {compiled.cycles:,} predicted for each input; matrix unit busy in "
               f"{compiled.matrix_cycles:,}, utilisation {compiled.utilisation:.3f}")  # fmt: skip

    def expect(self, inputs: np.ndarray) -> None:
        """Raise ValueError unless all inputs can be run."""
        for x in inputs:
            input_vectors(self.compiled, x)

    def run(self, inputs: np.ndarray) -> Iterator[Inference]:
        """Run inputs one after the other, giving each result when it comes. Raises ValueError for a wrong one."""
        device = SimDevice(self.compiled.program)
        start = time.perf_counter()
        for x in inputs:
            self.results.append(awaited(infer(device, self.compiled, x)))
            self.seconds = time.perf_counter() - start
            yield self.results[-1]

    @property
    def cycles(self) -> set[int]:
        """What the inputs took."""
        return {result.cycles for result in self.results}

    def n_right(self, labels: np.ndarray) -> int:
        """Results whose largest element is the label's."""
        return sum(result.largest == label for result, label in zip(self.results, labels.tolist(), strict=False))

    def summary(self, labels: np.ndarray | None) -> str:
        """What was run, for a person."""
        count = len(self.results)
        right = "" if labels is None else f"{self.n_right(labels) / count:.2%} as labelled; "
        return f"{count:,} inputs: {right}{count / self.seconds:.1f} inputs/s on this machine"

    def to_json(self, labels: np.ndarray | None) -> dict[str, Any]:
        """The run's figures, and each input's result."""
        compiled, tile = self.compiled, self.compiled.program.config
        return {
            "network": str(self.model),
            "tile": dataclasses.asdict(tile),
            "cycles": compiled.cycles,
            "matrix_cycles": compiled.matrix_cycles,
            "macs": sum(compiled.macs.values()),
            "utilisation": compiled.utilisation,
            "bundles": len(compiled.program.bundles),
            "inputs": len(self.results),
            "right": None if labels is None else self.n_right(labels),
            "largest": [result.largest for result in self.results],
            "results": [result.result.ravel().tolist() for result in self.results],
        }
