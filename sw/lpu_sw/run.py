"""One run of a model: planned, with every cycle known, before it starts; recorded while it goes on."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.fingerprint import fingerprint
from lpu_sw.compiler.llama import Compilation
from lpu_sw.engines import Engine, Job, find_engine
from lpu_sw.frontends import load_model
from lpu_sw.frontends.tokenizer import Tokenizer, load_tokenizer
from lpu_sw.host.decode import Post, Request, check_request
from lpu_sw.model import LlamaModel
from lpu_sw.sampling import Sampler

__all__ = ["Plan", "Record", "find_tile", "n_parameters", "plan_run"]


def find_tile(name: str) -> TileConfig:
    """A named shape, with parameters changed where they follow it, as in ``8x16,wmem_words=3072``.

    Raises ValueError when there is no such shape or parameter, or the tile cannot be.
    """
    shape, *changes = name.split(",")
    if shape not in SHAPES:
        raise ValueError(f"unknown tile {shape!r}, expected one of {', '.join(SHAPES)}")
    parameters = [parameter.name for parameter in fields(TileConfig)]
    values = {}
    for change in changes:
        parameter, _, value = change.partition("=")
        if parameter not in parameters or not value.isdecimal():
            raise ValueError(f"unknown change of a tile {change!r}, expected such as wmem_words=3072 with one of "
                             f"{', '.join(parameters)}")  # fmt: skip
        values[parameter] = int(value)
    return SHAPES[shape].replace(**values)


def n_parameters(model: LlamaModel) -> int:
    """Numbers in a model's weights, a tied classifier counted once."""
    arrays = [model.embedding, model.final_norm, *(array for layer in model.layers for array in vars(layer).values())]
    arrays += [] if model.config.tied else [model.classifier]
    return sum(array.size for array in arrays if array is not None)


@dataclass(frozen=True)
class Plan:
    """Everything that is known before a run.

    context : positions that the engine holds. compile_seconds : 0 where nothing was compiled.
    """

    model_path: Path
    engine_name: str
    engine: Engine
    tile: TileConfig
    tokenizer: Tokenizer
    prompt: str
    job: Job
    context: int
    compile_seconds: float

    @property
    def positions(self) -> int:
        """Positions of the run if no stop token ends it: the prompt's and one for each token but the last."""
        return self.job.request.positions

    @cached_property
    def predicted_cycles(self) -> list[int]:
        """Cycles of every position, from post to post; empty for an engine without a tile."""
        if self.job.on_tile is None:
            return []
        request = self.job.request
        cycles = self.job.on_tile.facts.cycles
        return cycles.predict(len(request.prompt), request.positions, request.temperature > 0)

    @cached_property
    def macs(self) -> list[int]:
        """Multiplications that the model itself needs at every position; empty for an engine without a tile."""
        if self.job.on_tile is None:
            return []
        facts, first = self.job.on_tile.facts, len(self.job.request.prompt) - 1
        return [facts.position_macs(position, position >= first) for position in range(self.positions)]

    @property
    def floor_cycles(self) -> list[float]:
        """Cycles of every position in which the matrix unit never idles: multiplications / multipliers."""
        return [macs / self.tile.multipliers for macs in self.macs]

    def lines(self) -> Iterator[str]:
        """What is about to run, for a person."""
        model, request = self.job.model, self.job.request
        yield (
            f"model    {self.model_path}: {n_parameters(model):,} parameters, {model.config.n_layers} layers, "
            f"vocabulary {model.config.vocab_size}"
        )
        tile = f"tile {self.tile.name}, {self.tile.significand_bits}-bit significands" if self.macs else "float32"
        yield f"engine   {self.engine_name}: {tile}, context of {self.context} tokens"
        n_prompt = len(request.prompt)
        chosen = f"temperature {request.temperature:g}, seed {request.seed}" if request.temperature else "greedy"
        yield f"run      {n_prompt} prompt tokens, then up to {self.positions - n_prompt + 1}, {chosen}"
        if not self.macs:
            return
        compiled = self.job.compiled
        loaded = sum(len(section.data) for section in compiled.program.sections if section.space == "wmem")
        yield (
            f"program  {len(compiled.program.bundles)} bundles, {loaded:,} of {self.tile.wmem_words:,} weight words, "
            f"compiled in {self.compile_seconds:.1f} s"
        )
        cycles = self.predicted_cycles
        tokens = cycles[n_prompt - 1 :]
        total, floor = sum(cycles), sum(self.floor_cycles)
        yield (
            f"cycles   {total:,} predicted, {min(tokens):,} to {max(tokens):,} a token; "
            f"floor {floor:,.0f}, utilisation {floor / total:.3f}"
        )


@dataclass
class Record:
    """What came of a plan: its posts, and the seconds from the start to the last of them."""

    plan: Plan
    posts: list[Post] = field(default_factory=list)
    wall_seconds: float = 0.0

    def run(self) -> Iterator[Post]:
        """Run the plan, noting each post and passing it on."""
        start = time.perf_counter()
        for post in self.plan.engine.run(self.plan.job):
            self.wall_seconds = time.perf_counter() - start
            self.posts.append(post)
            yield post
        if not self.posts:
            self.wall_seconds = time.perf_counter() - start

    @property
    def tokens(self) -> list[int]:
        """Tokens that were generated, the stop token included where one came."""
        return [post.token for post in self.posts if post.token is not None]

    @property
    def cycles(self) -> list[int]:
        """Cycles of every position that ran; empty for an engine without a tile."""
        return [post.cycles for post in self.posts] if self.plan.macs else []

    @property
    def floor_cycles(self) -> list[float]:
        """Floor of every position that ran."""
        return self.plan.floor_cycles[: len(self.posts)]

    @property
    def cycles_per_second(self) -> float:
        """Cycles of the tile a second of this machine."""
        return sum(self.cycles) / self.wall_seconds

    def first_difference(self) -> int | None:
        """First position whose cycles are not the predicted ones, or None."""
        pairs = zip(self.cycles, self.plan.predicted_cycles, strict=False)
        return next((position for position, (ran, predicted) in enumerate(pairs) if ran != predicted), None)

    def text(self) -> str:
        """Prompt and continuation, as they were shown."""
        stream = self.plan.tokenizer.stream()
        return "".join([*map(stream.push, [*self.plan.job.request.prompt, *self.tokens]), stream.finish()])

    def summary(self) -> str:
        """One line for a person."""
        n, seconds = len(self.tokens), self.wall_seconds
        speed = f"{seconds:.2f} s, {len(self.posts) / seconds:,.0f} positions/s"
        if not self.plan.macs:
            return f"{n} tokens in {speed}"
        total, floor = sum(self.cycles), sum(self.floor_cycles)
        equal = "yes" if self.first_difference() is None else "NO"
        return (
            f"{n} tokens, {total:,} cycles, as predicted: {equal}; utilisation {floor / total:.3f}; "
            f"{speed}, {self.cycles_per_second:,.0f} cycles/s"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the lists have one entry a generated token."""
        plan, n_prompt = self.plan, len(self.plan.job.request.prompt)
        model, request = plan.job.model, plan.job.request
        generated = slice(n_prompt - 1, len(self.posts))
        predicted = plan.predicted_cycles
        return {
            "text": self.text(),
            "tokens": self.tokens,
            "cycles": self.cycles[generated],
            "predicted_cycles": predicted[generated],
            "floor_cycles": plan.floor_cycles[generated],
            "macs": plan.macs[generated],
            "config": {
                "tile": plan.tile.name,
                "tile_parameters": asdict(plan.tile),
                "fingerprint": f"{fingerprint(plan.tile):016x}",
                "model": asdict(model.config),
                "context": plan.context,
            },
            "engine": plan.engine_name,
            "model": str(plan.model_path),
            "n_parameters": n_parameters(model),
            "prompt": plan.prompt,
            "prompt_tokens": list(request.prompt),
            "prefill_cycles": self.cycles[: n_prompt - 1],
            "predicted_prefill_cycles": predicted[: n_prompt - 1],
            "temperature": request.temperature,
            "seed": request.seed,
            "wall_seconds": self.wall_seconds,
            "cpu_seconds": plan.engine.cpu_seconds,
            "cycles_per_second": self.cycles_per_second,
            "tokens_per_second": len(self.posts) / self.wall_seconds,
            "compile_seconds": plan.compile_seconds,
            "utilisation": sum(self.floor_cycles) / sum(self.cycles) if self.cycles else None,
            "is_as_predicted": self.first_difference() is None if self.cycles else None,
            "clamped": plan.engine.clamped,
        }


def plan_run(
    model_path: Path,
    prompt: str,
    tokens: int,
    engine_name: str = "sim",
    tile_name: str = "8x16",
    context: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    tokenizer_path: Path | None = None,
) -> Plan:
    """Read the model, compile it where the engine needs that, and hold the request against it.

    tokens : to generate, at most; cut to what the context leaves. Raises ValueError, `EngineError` or OSError.
    """
    engine, tile = find_engine(engine_name), find_tile(tile_name)
    Sampler(temperature, seed)
    model = load_model(model_path)
    tokenizer = load_tokenizer(model_path, model.config, tokenizer_path)
    request = Request(
        tuple(tokenizer.encode(prompt)), 0, next(iter(model.config.stop_ids), -1), temperature, seed
    )  # fmt: skip
    held = min(context or model.config.max_positions, model.config.max_positions)
    started, compilation = time.perf_counter(), None
    if engine.needs_tile:
        compilation = Compilation(model, tile, tokenizer.vocab_size, context)
        held = compilation.layout.context
    check_request(request, held)
    compiled = compilation.compiled if compilation else None
    compile_seconds = time.perf_counter() - started
    request = replace(request, positions=min(len(request.prompt) + tokens - 1, held))
    job = Job(model, request, tokenizer.vocab_size, compiled)
    return Plan(
        model_path, engine_name, engine, tile, tokenizer, prompt, job, held, compile_seconds if compiled else 0.0
    )  # fmt: skip
