"""Engine ``rtl``: the tile's Verilog under Verilator, every word through the host port.

A simulator process gives the port away: on a socket it takes a request, by the name of a method of
`lpu_sw.host.protocol.Transport` or of one of its own and with its arguments, and sends back what comes of it. Between
requests the tile's clock stands still. `serve` is the process's half; `lpu_tb.benches.engine` calls it.
"""

import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from lpu_sw.asm.program import Program
from lpu_sw.engines import EngineError, TileEngine, loaded
from lpu_sw.host.decode import Device
from lpu_sw.host.protocol import Transport
from lpu_sw.profile.watch import Seen

from .build import SIM_BUILD, Build, BuildError, build_tile
from .runner import BenchFailed, run_build
from .watch import WATCHED, Watch

__all__ = ["RtlEngine", "serve"]

_POLL_SECONDS = 0.5


class RtlEngine(TileEngine):
    """The tile itself: Amaranth to Verilog to a Verilator binary, driven by cocotb.

    cpu_seconds : of the simulator, which other work on the machine does not change.
    is_watched, seen : see `lpu_sw.profile.watch.WatchedEngine`. A watched run is slower, in a build of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_watched = False
        self.seen: list[Seen] = []
        self._port: _SimulatedPort | None = None

    def open(self, program: Program, say: Callable[[str], None]) -> Device:
        """Build the simulator unless that has been done, start it and load the program."""
        try:
            public = WATCHED if self.is_watched else ()
            made = build_tile(program.config, public=public, fast=True, clocked=True, say=say)
        except BuildError as error:
            raise EngineError(str(error)) from None
        say("loading the model through the host port")
        self._port = _SimulatedPort(made)
        device = loaded(self._port, program)
        if self.is_watched:
            self._port.ask("watch")
        return device

    def close(self) -> None:
        """End the simulator."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def processor_seconds(self) -> float:
        """Processor time of the simulator."""
        assert self._port is not None
        return self._port.ask("processor_seconds")

    def end(self, device: Device) -> None:
        """Note what was seen, too."""
        super().end(device)
        if self.is_watched:
            assert self._port is not None
            self.seen = self._port.ask("seen")


class _SimulatedPort:
    """Carries out `Transport` on the port of a tile in a simulator, a process of its own."""

    def __init__(self, made: Build) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lpu-"))
        self._failure: BenchFailed | None = None
        address = self._folder / "socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen()
            listener.settimeout(_POLL_SECONDS)
            self._thread = Thread(target=self._run, args=(made, address), daemon=True)
            self._thread.start()
            while True:
                try:
                    accepted, _ = listener.accept()
                    break
                except TimeoutError:
                    if not self._thread.is_alive():
                        raise self._died() from None
        self._connection = Connection(accepted.detach())

    def _run(self, made: Build, address: Path) -> None:
        try:
            run_build(made, "lpu_tb.benches.engine", name=self._folder.name, parameters={"socket": str(address)})
        except BenchFailed as failure:
            self._failure = failure

    def _died(self) -> EngineError:
        self._thread.join()
        return EngineError(f"the simulator ended by itself: {self._failure or 'no reason was given'}")

    def ask(self, name: str, *arguments: object) -> Any:
        """What comes of a request. Raises OSError where the tile refuses, `EngineError` if the simulator has ended."""
        try:
            self._connection.send((name, *arguments))
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise self._died() from None
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def read(self, address: int, n_words: int) -> np.ndarray:
        """uint32 (n_words,) from byte ``address`` onwards. Raises ``OSError`` when the tile refuses."""
        return self.ask("read", address, n_words)

    async def write(self, address: int, words: np.ndarray) -> None:
        """Write uint32 words from byte ``address`` onwards. Raises ``OSError`` when the tile refuses."""
        self.ask("write", address, words)

    async def attention(self) -> None:
        """Let the tile run until its ``irq`` is high."""
        self.ask("attention")

    def close(self) -> None:
        """Hang up, at which the simulator ends, and wait until it has."""
        self._connection.close()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)
        if not self._failure:
            shutil.rmtree(SIM_BUILD / "run" / self._folder.name, ignore_errors=True)


async def serve(transport: Transport, address: str, watch: Callable[[], Watch]) -> None:
    """Answer what is asked at ``address`` until the parent hangs up. ``watch`` begins to watch the tile."""
    watches: list[Watch] = []
    with Client(address, "AF_UNIX") as parent:
        while True:
            try:
                name, *arguments = parent.recv()
            except EOFError:
                return
            try:
                match name:
                    case "watch":
                        answer = watches.append(watch())
                    case "seen":
                        answer = watches.pop().take()
                    case "processor_seconds":
                        answer = time.process_time()
                    case _:
                        answer = await getattr(transport, name)(*arguments)
            except OSError as error:
                answer = error
            parent.send(answer)
