"""Engines: what can run a compiled Llama. Found by name through the entry points of the group ``lpu.engine``."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import Protocol, TypeVar

import numpy as np

from lpu_isa.host import Window
from lpu_sw.asm.program import Program, Section
from lpu_sw.compiler.llama import CompiledLlama, facts_to_metadata
from lpu_sw.host.decode import MachineFault, Post, Request, check_request, decode
from lpu_sw.image import Image
from lpu_sw.model import LlamaModel
from lpu_sw.reference.llama import FloatLlama
from lpu_sw.sampling import Sampler
from lpu_sw.sim.state import TileState
from lpu_sw.sim.tile import Simulator, Status

__all__ = [
    "Engine",
    "EngineError",
    "FloatEngine",
    "Job",
    "SimDevice",
    "SimEngine",
    "awaited",
    "driven",
    "engine_names",
    "find_engine",
    "load_sections",
]

ENGINE_GROUP = "lpu.engine"

RUN_AT_ONCE_CYCLES = 500
"""The simulator looks for a post that often; what it ran past one does no harm, since the post has its cycle."""

T = TypeVar("T")


class EngineError(RuntimeError):
    """An engine that cannot be used here; the text says in one line what is missing and what to do."""


@dataclass(frozen=True)
class Job:
    """What an engine is asked to run.

    n_valid : ids below it may be chosen. on_tile : what the model was compiled to, None where no tile is needed.
    """

    model: LlamaModel
    request: Request
    n_valid: int
    on_tile: CompiledLlama | None = None

    @property
    def compiled(self) -> CompiledLlama:
        """What the model was compiled to. Raises ValueError when it was not."""
        if self.on_tile is None:
            raise ValueError("this engine runs on a tile, and the model has not been compiled for one")
        return self.on_tile

    @cached_property
    def image(self) -> Image:
        """What is loaded into the tile; the facts of the model are its metadata ``llama``."""
        return Image.from_program(self.compiled.program, {"llama": facts_to_metadata(self.compiled.facts)})


class Engine(Protocol):
    """Runs jobs, one after the other. Made without arguments.

    needs_tile : whether its jobs must be compiled; if not, its posts carry no cycles (0).
    clamped : lanes that the last run's quantisers of fixed scale clamped, valid when its posts have been taken.
    cpu_seconds : processor time of the last run, likewise; what else the machine does changes it little.
    """

    needs_tile: bool
    clamped: int
    cpu_seconds: float

    def prepare(self, job: Job, say: Callable[[str], None]) -> None:
        """Do what is no part of the run, such as building the hardware; ``say`` takes a line when it lasts.

        Raises `EngineError`.
        """
        ...

    def generate(self, job: Job) -> Iterator[Post]:
        """Run the request, giving each post when it comes.

        Raises ValueError for a request that the model cannot take, `MachineFault` for a fault, `EngineError`.
        """
        ...


def engine_names() -> list[str]:
    """Names of the engines that are installed."""
    return sorted(entry.name for entry in entry_points(group=ENGINE_GROUP))


def find_engine(name: str) -> Engine:
    """Make the engine of that name. Raises `EngineError` when there is none, or when it cannot be loaded."""
    found = entry_points(group=ENGINE_GROUP, name=name)
    if not found:
        raise EngineError(f"unknown engine {name!r}, expected one of {', '.join(engine_names())}")
    try:
        return next(iter(found)).load()()
    except ImportError as error:
        raise EngineError(f"engine {name} cannot be loaded: {error}") from error


def driven(items: AsyncIterator[T]) -> Iterator[T]:
    """The items of an asynchronous iterator whose awaits never wait for anything, without an event loop."""
    while True:
        try:
            items.__anext__().__await__().send(None)
        except StopIteration as item:
            value = item.value
        except StopAsyncIteration:
            return
        else:
            raise RuntimeError("the iterator waits for an event loop")
        yield value


def awaited(coroutine: Coroutine[object, None, T]) -> T:
    """What a coroutine returns whose awaits never wait for anything, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as returned:
        return returned.value
    raise RuntimeError("the coroutine waits for an event loop")


def load_sections(state: TileState, sections: Iterable[Section]) -> None:
    """Write the start contents of a program's memories."""
    for section in sections:
        words = np.ascontiguousarray(section.data)
        if words.dtype == np.int8:
            words = words.reshape(len(words), -1).view("<u4")
        state.load(Window[section.space.upper()], words, section.address)


class SimDevice:
    """The simulator behind the host's protocol (`lpu_sw.host.decode.Device`), loaded with a program."""

    def __init__(self, program: Program) -> None:
        self.state = TileState(program.config)
        load_sections(self.state, program.sections)
        self._simulator = Simulator(program.config, program.bundles, program.timings.tolist(), self.state)

    async def start(self, inbox: Sequence[int]) -> None:
        """Empty the mailboxes, put ``inbox`` into the inbox and start at bundle 0."""
        self.state.inbox.clear()
        self.state.inbox.extend(inbox)
        self._simulator.start()

    async def push(self, word: int) -> None:
        """Put one more word into the inbox."""
        self.state.inbox.append(word)

    async def next_post(self) -> tuple[int, int] | None:
        """The next word of the outbox and its cycle, or None at the end. Raises `MachineFault`."""
        while not self.state.outbox:
            status = self._simulator.run(self.state.cycles + RUN_AT_ONCE_CYCLES)
            if status is Status.FAULTED:
                raise MachineFault(self.state.fault, self.state.fault_pc)
            if status is not Status.RUNNING and not self.state.outbox:
                return None
        sent = self.state.outbox.pop(0)
        return sent.word, sent.stamp

    async def read_vectors(self, first: int, count: int) -> np.ndarray:
        """Words of vector SRAM, as they are when the tile waits: float64 (count, rows)."""
        self._simulator.run()
        return self.state.vmem[first : first + count].copy()

    async def write_vectors(self, first: int, vectors: np.ndarray) -> None:
        """Write words of vector SRAM before the tile starts: float64 (count, rows)."""
        self.state.vmem[first : first + len(vectors)] = vectors

    async def stop(self) -> None:
        """End the run."""


class SimEngine:
    """The golden model: exact to the bit and to the cycle."""

    needs_tile = True

    def __init__(self) -> None:
        self.clamped = 0
        self.cpu_seconds = 0.0

    def prepare(self, job: Job, say: Callable[[str], None]) -> None:
        """Nothing is needed."""

    def generate(self, job: Job) -> Iterator[Post]:
        """Run the request on a new simulator."""
        device = SimDevice(job.compiled.program)
        start = time.process_time()
        yield from driven(decode(device, job.compiled.facts, job.request))
        self.clamped, self.cpu_seconds = device.state.clamped, time.process_time() - start


class FloatEngine:
    """The float32 reference: the same request by the arithmetic of the model's authors. Its cycles are 0."""

    needs_tile = False

    def __init__(self) -> None:
        self.clamped = 0
        self.cpu_seconds = 0.0

    def prepare(self, job: Job, say: Callable[[str], None]) -> None:
        """Nothing is needed."""

    def generate(self, job: Job) -> Iterator[Post]:
        """Run the request in NumPy."""
        start = time.process_time()
        yield from self._posts(job)
        self.cpu_seconds = time.process_time() - start

    def _posts(self, job: Job) -> Iterator[Post]:
        request, context = job.request, job.model.config.max_positions
        check_request(request, context)
        sampler, llama = Sampler(request.temperature, request.seed), FloatLlama(job.model)
        token = request.prompt[0]
        for position in range(min(request.positions, context)):
            logits = llama.step(token)
            if position + 1 < len(request.prompt):
                token = request.prompt[position + 1]
                yield Post(position, None, 0)
                continue
            token = sampler.choose(logits[: job.n_valid])
            yield Post(position, token, 0)
            if token == request.stop:
                return
