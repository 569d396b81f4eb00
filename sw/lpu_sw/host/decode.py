"""Token by token: the host's side of a Llama's program, the same for simulator, RTL and board."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lpu_isa.faults import Fault
from lpu_sw.compiler.llama import Facts, inbox_words
from lpu_sw.sampling import Sampler

__all__ = ["Choose", "Device", "MachineFault", "Post", "Request", "check_request", "decode"]


class MachineFault(RuntimeError):
    """The tile stopped with a fault: its code and the bundle that was issued last."""

    def __init__(self, fault: Fault, pc: int) -> None:
        super().__init__(f"the tile stopped with fault {fault.name} ({fault.text}) at bundle {pc}")
        self.fault, self.pc = fault, pc

    def __reduce__(self) -> tuple[type, tuple[Fault, int]]:
        return MachineFault, (self.fault, self.pc)  # else a worker process could not hand it over


class Device(Protocol):
    """A tile with an image loaded, behind some transport."""

    async def start(self, inbox: Sequence[int]) -> None:
        """Empty the mailboxes, put ``inbox`` into the inbox and start at bundle 0."""
        ...

    async def push(self, word: int) -> None:
        """Put one more word into the inbox."""
        ...

    async def next_post(self) -> tuple[int, int] | None:
        """Wait for a word in the outbox: (word, cycle stamp), or None when the tile has halted and it is empty.

        Raises `MachineFault` when the tile stopped with a fault."""
        ...

    async def read_vectors(self, first: int, count: int) -> np.ndarray:
        """Words of vector SRAM while the tile waits or is halted, decoded: float64 (count, rows)."""
        ...

    async def write_vectors(self, first: int, vectors: np.ndarray) -> None:
        """Write words of vector SRAM while the tile is halted: float64 (count, rows), values of its format."""
        ...

    async def stop(self) -> None:
        """End the run."""
        ...

    async def clamped(self) -> int:
        """Lanes that quantisers of fixed scale have clamped since the start."""
        ...


@dataclass(frozen=True)
class Request:
    """Generate from ``prompt`` (token ids, BOS included) until ``stop`` is chosen or ``positions`` have run.

    temperature : 0: the tile chooses (argmax); above: the host draws from the logits, with ``seed``.
    """

    prompt: tuple[int, ...]
    positions: int
    stop: int = -1
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Post:
    """What came of one position: the token chosen for the next one (None inside the prompt), and the cycles from the
    post before to this one."""

    position: int
    token: int | None
    cycles: int


Choose = Callable[[int, np.ndarray], int]
"""The host's choice of the next token: from the position and its logits (n_valid,)."""


def check_request(request: Request, context: int) -> None:
    """Raise ValueError, saying what was found and expected, for a request that ``context`` positions cannot take."""
    if not request.prompt:
        raise ValueError("the prompt is empty: at least one token is needed (its BOS)")
    if len(request.prompt) > context:
        raise ValueError(f"the prompt has {len(request.prompt)} tokens, the context holds {context}")


def _sampled(request: Request) -> Choose | None:
    """The request's own choice by the host; None where the tile chooses."""
    sampler = Sampler(request.temperature, request.seed)
    return (lambda position, logits: sampler.choose(logits)) if request.temperature > 0 else None


async def decode(device: Device, facts: Facts, request: Request, choose: Choose | None = None) -> AsyncIterator[Post]:
    """Run a request. ``choose``: takes the place of the tile and of the sampler.

    Raises ValueError for a request that the model cannot take, `MachineFault` for a fault.
    """
    check_request(request, facts.context)
    positions = min(request.positions, facts.context)
    choose = choose or _sampled(request)
    stop = request.stop if choose is None else -1
    await device.start(inbox_words(facts, list(request.prompt), positions, choose is not None, stop))
    before = position = 0
    while (post := await device.next_post()) is not None:
        word, stamp = post
        token = None if position + 1 < len(request.prompt) else word
        if choose is not None and token is not None:
            logits = await device.read_vectors(facts.logits, facts.logit_words)
            token = choose(position, logits.ravel()[: facts.n_valid])
        yield Post(position, token, (stamp - before) % (1 << 32))
        before = stamp
        position += 1
        if choose is not None and token is not None:
            if token == request.stop or position >= positions:
                await device.stop()
                return
            await device.push(token)
