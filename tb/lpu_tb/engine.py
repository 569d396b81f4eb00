"""Engine ``rtl``: a job on the tile's Verilog, under Verilator, every word through the host port.

A simulator process loads the image while the parent waits, then answers requests on a socket, a JSON line each way:
the request, then a line a post, then the end. `serve` is the process's half; `lpu_tb.benches.engine` calls it.
"""

import json
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

from lpu_isa.faults import Fault
from lpu_isa.host import Register
from lpu_sw.compiler.llama import facts_from_metadata
from lpu_sw.engines import EngineError, Job
from lpu_sw.host.decode import MachineFault, Post, Request, decode
from lpu_sw.host.protocol import TileDevice
from lpu_sw.image import Image
from lpu_sw.profile.watch import Seen

from .build import SIM_BUILD, Build, BuildError, build_tile
from .runner import BenchFailed, run_build
from .watch import WATCHED, Watch

__all__ = ["RtlEngine", "serve"]

_POLL_SECONDS = 0.5


class RtlEngine:
    """The tile itself: Amaranth to Verilog to a Verilator binary, driven by cocotb.

    cpu_seconds : processor time of the last run in the simulator, which other work on the machine does not change.
    is_watched, seen : see `lpu_sw.profile.watch.WatchedEngine`. A watched run is slower, in a build of its own.
    """

    needs_tile = True

    def __init__(self) -> None:
        self.clamped = 0
        self.cpu_seconds = 0.0
        self.is_watched = False
        self.seen: list[Seen] = []
        self._process: _Process | None = None

    def prepare(self, job: Job, say: Callable[[str], None]) -> None:
        """Build the simulator unless that has been done, and load the image into it. Raises `EngineError`."""
        try:
            public = WATCHED if self.is_watched else ()
            made = build_tile(job.compiled.program.config, public=public, fast=True, say=say)
        except BuildError as error:
            raise EngineError(str(error)) from None
        say("loading the model through the host port")
        self._process = _Process(made, job.image, self.is_watched)

    def generate(self, job: Job) -> Iterator[Post]:
        """Run the request, giving each post when it comes; see `lpu_sw.engines.Engine`."""
        if self._process is None:
            self.prepare(job, lambda line: None)
        process, self._process = self._process, None
        assert process is not None
        with process:
            process.send(asdict(job.request))
            while "position" in (line := process.receive()):
                yield Post(**line)
            self.clamped, self.cpu_seconds = line["clamped"], line["cpu_seconds"]
            self.seen = [Seen(*row) for row in line["seen"]]


class _Process:
    """A simulator with an image loaded, in a process of its own."""

    def __init__(self, made: Build, image: Image, is_watched: bool) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lpu-"))
        self._failure: BenchFailed | None = None
        image.save(self._folder / "image.lpuimg")
        address = self._folder / "socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen()
            listener.settimeout(_POLL_SECONDS)
            self._thread = Thread(target=self._run, args=(made, address, is_watched), daemon=True)
            self._thread.start()
            while True:
                try:
                    self._socket, _ = listener.accept()
                    break
                except TimeoutError:
                    if not self._thread.is_alive():
                        raise self._died() from None
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self.receive()  # loaded

    def _run(self, made: Build, address: Path, is_watched: bool) -> None:
        image = self._folder / "image.lpuimg"
        parameters = {"socket": str(address), "image": str(image), "is_watched": is_watched}
        try:
            run_build(made, "lpu_tb.benches.engine", name=self._folder.name, parameters=parameters)
        except BenchFailed as failure:
            self._failure = failure

    def _died(self) -> EngineError:
        self._thread.join()
        return EngineError(f"the simulator ended by itself: {self._failure or 'no reason was given'}")

    def send(self, request: dict[str, Any]) -> None:
        """Ask for a run."""
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """The next line; raises what went wrong on the other side."""
        line = self._lines.readline()
        if not line:
            raise self._died()
        answer = json.loads(line)
        if "fault" in answer:
            raise MachineFault(Fault(answer["fault"]), answer["pc"])
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *exception: object) -> None:
        self._lines.close()
        self._socket.close()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)
        if not self._failure:
            shutil.rmtree(SIM_BUILD / "run" / self._folder.name, ignore_errors=True)


async def serve(device: TileDevice, image: Image, address: str, watch: Callable[[], Watch] | None = None) -> None:
    """Load the image, then run the requests that come until the parent hangs up. ``watch`` begins to watch a run."""
    await device.load(image)
    facts = facts_from_metadata(image.metadata["llama"])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)

        def answer(**line: object) -> None:
            connection.sendall(json.dumps(line).encode() + b"\n")

        answer(loaded=True)
        with connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                request = json.loads(line)
                start = time.process_time()
                watching = watch() if watch else None
                try:
                    async for post in decode(device, facts, Request(**request | {"prompt": tuple(request["prompt"])})):
                        answer(**asdict(post))
                except MachineFault as fault:
                    answer(fault=int(fault.fault), pc=fault.pc)
                except ValueError as error:
                    answer(error=str(error))
                else:
                    cpu_seconds = time.process_time() - start
                    clamped = await device.register(Register.CLAMPED)
                    answer(clamped=clamped, cpu_seconds=cpu_seconds, seen=watching.take() if watching else [])
