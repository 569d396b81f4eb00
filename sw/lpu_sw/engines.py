"""Engines: what can run a model. Found by name through the entry points of the group ``lpu.engine``."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, TypeVar

import numpy as np

from lpu_isa.host import Window
from lpu_sw.asm.program import Program, Section
from lpu_sw.compiler.llama import CompiledLlama
from lpu_sw.host.decode import Device, MachineFault, Post, Request, check_request, decode
from lpu_sw.host.protocol import DeviceError, TileDevice, Transport
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
    "TileEngine",
    "TileJob",
    "awaited",
    "driven",
    "engine_names",
    "find_engine",
    "load_sections",
    "loaded",
]

ENGINE_GROUP = "lpu.engine"

RUN_AT_ONCE_CYCLES = 500
"""The simulator looks for a post that often; what it ran past one does no harm, since the post has its cycle."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class EngineError(RuntimeError):
    """An engine that cannot be used here; the text says in one line what is missing and what to do."""


class TileJob(Protocol[T_co]):
    """What a tile is asked to run: its program, and the host's part."""

    @property
    def program(self) -> Program:
        """What is loaded into the tile."""
        ...

    def drive(self, device: Device) -> AsyncIterator[T_co]:
        """Use a tile that holds the program, giving what comes of it when it comes.

        Raises ValueError for what the model cannot take, `MachineFault`.
        """
        ...


@dataclass(frozen=True)
class Job:
    """Text that a language model is asked for; a `TileJob` when it has been compiled.

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

    @property
    def program(self) -> Program:
        """See `TileJob`."""
        return self.compiled.program

    def drive(self, device: Device) -> AsyncIterator[Post]:
        """See `TileJob`."""
        return decode(device, self.compiled.facts, self.request)


class Engine(Protocol):
    """Runs jobs of language models, one after the other. Made without arguments.

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

    def run(self, job: Job) -> Iterator[Post]:
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

    async def clamped(self) -> int:
        """Lanes that quantisers of fixed scale have clamped since the start."""
        return self.state.clamped


def loaded(transport: Transport, program: Program) -> TileDevice:
    """The tile behind a host port, with a program. Raises `DeviceError` for another tile, OSError."""
    device = TileDevice(transport, program.config)
    awaited(device.load(Image.from_program(program)))
    return device


class TileEngine(ABC):
    """Runs jobs on a tile, of language models (see `Engine`) and of any other kind.

    All that an engine says for itself is how its tile is opened and closed.
    """

    needs_tile = True

    def __init__(self) -> None:
        self.clamped = 0
        self.cpu_seconds = 0.0
        self._device: Device | None = None

    @abstractmethod
    def open(self, program: Program, say: Callable[[str], None]) -> Device:
        """A tile that holds the program. Raises `EngineError`, `DeviceError`, OSError."""

    @abstractmethod
    def close(self) -> None:
        """Give back what `open` took, also where it did not come to its end."""

    def processor_seconds(self) -> float:
        """Processor time, from any moment on, of whatever takes most of it in a run."""
        return time.process_time()

    def end(self, device: Device) -> None:
        """Note what is to be known of a run, before the tile is closed."""
        self.clamped = awaited(device.clamped())

    def prepare(self, job: TileJob[object], say: Callable[[str], None]) -> None:
        """Open a tile and load the program into it; ``say`` takes a line when it lasts. Raises `EngineError`."""
        try:
            self._device = self.open(job.program, say)
        except (OSError, DeviceError) as error:
            raise EngineError(str(error)) from None
        finally:
            if self._device is None:
                self.close()

    def run(self, job: TileJob[T]) -> Iterator[T]:
        """Run the job on the tile that was prepared for it, giving what comes of it when it comes.

        Raises ValueError for what the model cannot take, `MachineFault` for a fault, `EngineError`.
        """
        if self._device is None:
            self.prepare(job, lambda line: None)
        device, self._device = self._device, None
        assert device is not None
        try:
            start = self.processor_seconds()
            yield from driven(job.drive(device))
            self.cpu_seconds = self.processor_seconds() - start
            self.end(device)
        except OSError as error:
            raise EngineError(str(error)) from None
        finally:
            self.close()


class SimEngine(TileEngine):
    """The golden model: exact to the bit and to the cycle."""

    def open(self, program: Program, say: Callable[[str], None]) -> Device:
        """A new simulator."""
        return SimDevice(program)

    def close(self) -> None:
        """Nothing is kept."""


class FloatEngine:
    """The float32 reference: the same request by the arithmetic of the model's authors. Its cycles are 0."""

    needs_tile = False

    def __init__(self) -> None:
        self.clamped = 0
        self.cpu_seconds = 0.0

    def prepare(self, job: Job, say: Callable[[str], None]) -> None:
        """Nothing is needed."""

    def run(self, job: Job) -> Iterator[Post]:
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
