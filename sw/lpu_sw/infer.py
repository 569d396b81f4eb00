"""Run of a feed-forward network over a file of inputs."""

import dataclasses
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from lpu_isa.config import TileConfig
from lpu_sw.asm.program import Program
from lpu_sw.engines import EngineError, TileEngine, find_engine
from lpu_sw.feed_forward.compile import CompiledNetwork, compile_network
from lpu_sw.feed_forward.host import Inference, infer, input_vectors
from lpu_sw.frontends.onnx import read_onnx
from lpu_sw.host.decode import Device

__all__ = ["Inputs", "NetworkJob", "NetworkRun", "read_inputs"]


@dataclass(frozen=True)
class Inputs:
    """Inputs, one along the first axis, and their labels, if there are any: a whole number each."""

    x: np.ndarray
    labels: np.ndarray | None


def read_inputs(path: Path, limit: int | None = None) -> Inputs:
    """A ``.npy`` of inputs, or an ``.npz`` with inputs ``x`` and perhaps labels ``y``; the first ``limit`` of them.

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
    return Inputs(x[:limit], labels if labels is None else labels[:limit])


@dataclass(frozen=True)
class NetworkJob:
    """A network and its inputs, one along the first axis: an `lpu_sw.engines.TileJob`, an `Inference` each."""

    compiled: CompiledNetwork
    inputs: np.ndarray

    @property
    def program(self) -> Program:
        """What is loaded into the tile."""
        return self.compiled.program

    async def drive(self, device: Device) -> AsyncIterator[Inference]:
        """Run inputs one after the other, on a tile that holds the program."""
        for x in self.inputs:
            yield await infer(device, self.compiled, x)


class NetworkRun:
    """A network on an engine's tile, and what came of it.

    Attributes: ``engine``, ``job``, ``compile_seconds``, and after `run` the lists ``results`` and ``seconds`` of the
    run. Raises `EngineError` for an engine that runs no networks, ValueError for inputs that are not the network's, and
    what reading and compiling raise.
    """

    def __init__(
        self, model: Path, inputs: Inputs, tile: TileConfig, dims: Mapping[str, int], engine_name: str = "sim"
    ) -> None:
        engine = find_engine(engine_name)
        if not isinstance(engine, TileEngine):
            raise EngineError(f"engine {engine_name} runs language models only: networks need one with a tile")
        self.engine, self.engine_name = engine, engine_name
        start = time.perf_counter()
        self.model, self.labels = model, inputs.labels
        self.job = NetworkJob(compile_network(read_onnx(model, dims), tile), inputs.x)
        self.compile_seconds = time.perf_counter() - start
        for x in inputs.x:  # one that cannot be run is found before anything is built
            input_vectors(self.job.compiled, x)
        self.results: list[Inference] = []
        self.seconds = 0.0

    def lines(self) -> Iterator[str]:
        """What is about to run, for a person."""
        compiled, tile = self.job.compiled, self.job.program.config
        nodes = compiled.network.graph.regions[-1].nodes
        yield f"network  {self.model}: {len(nodes)} layers, {sum(compiled.macs.values()):,} multiplications"
        yield f"engine   {self.engine_name}: tile {tile.name}, {tile.significand_bits}-bit significands"
        words = {section.space: len(section.data) for section in compiled.program.sections}
        yield (f"program  {len(compiled.program.bundles):,} of {tile.bundles:,} bundles, {words['wmem']:,} of "
               f"{tile.wmem_words:,} weight words, compiled in {self.compile_seconds:.1f} s")  # fmt: skip
        yield (f"cycles   {compiled.cycles:,} predicted for each input; matrix unit busy in "
               f"{compiled.matrix_cycles:,}, utilisation {compiled.utilisation:.3f}")  # fmt: skip

    def run(self) -> Iterator[Inference]:
        """Run the inputs, giving each result when it comes."""
        start = time.perf_counter()
        for result in self.engine.run(self.job):
            self.seconds = time.perf_counter() - start
            self.results.append(result)
            yield result

    def first_difference(self) -> int | None:
        """First input whose cycles are not the predicted ones, or None."""
        predicted = self.job.compiled.cycles
        return next((index for index, result in enumerate(self.results) if result.cycles != predicted), None)

    @property
    def n_right(self) -> int | None:
        """Results whose largest element is the label's; None without labels."""
        if self.labels is None:
            return None
        return sum(result.largest == y for result, y in zip(self.results, self.labels.tolist(), strict=True))

    def summary(self) -> str:
        """What was run, for a person."""
        count, total = len(self.results), sum(result.cycles for result in self.results)
        right = "" if self.n_right is None else f"{self.n_right / count:.2%} as labelled; "
        equal = "yes" if self.first_difference() is None else "NO"
        return (
            f"{count:,} inputs: {right}{total:,} cycles, as predicted: {equal}; "
            f"{count / self.seconds:.1f} inputs/s on this machine"
        )

    def to_json(self) -> dict[str, Any]:
        """The run's figures, and each input's result."""
        compiled, tile = self.job.compiled, self.job.program.config
        return {
            "network": str(self.model),
            "engine": self.engine_name,
            "tile": dataclasses.asdict(tile),
            "cycles": [result.cycles for result in self.results],
            "predicted_cycles": compiled.cycles,
            "matrix_cycles": compiled.matrix_cycles,
            "macs": sum(compiled.macs.values()),
            "utilisation": compiled.utilisation,
            "bundles": len(compiled.program.bundles),
            "inputs": len(self.results),
            "right": self.n_right,
            "largest": [result.largest for result in self.results],
            "results": [result.result.ravel().tolist() for result in self.results],
        }
