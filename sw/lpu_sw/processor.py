"""What a user would run instead: llama2.c on one core of this machine."""

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lpu_sw.engines import EngineError
from lpu_sw.frontends import load_model
from lpu_sw.run import n_parameters

__all__ = ["llama2c_speeds"]

GROUPS, RUNS = 5, 20
"""The best group of so many runs counts: the program's clock ticks in milliseconds, of which a run takes some ten."""
FLAGS = "-Ofast -march=native"


def llama2c_speeds(models: list[Path], positions: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Speed of llama2.c on those of the models that it can read, over so many greedy tokens from an empty prompt.

    Cycles are those of the clock that the system states for the processor, None where it states none.

    ``LLAMA2C`` in the environment names its ``run.c``, which is built with gcc, or a program built from it; without it
    that is said and nothing measured. Raises `EngineError` when it cannot be built or prints no speed.
    """
    named = os.environ.get("LLAMA2C")
    if not named:
        say("llama2.c is left out: LLAMA2C names no run.c, and no program built from it")
        return []
    with TemporaryDirectory() as folder:
        program, flags = named, ""
        if named.endswith(".c"):
            program, flags = str(Path(folder) / "run"), f"gcc {FLAGS}"
            built = _finished("gcc", *FLAGS.split(), "-w", "-o", program, named, "-lm")
            if built.returncode:
                raise EngineError(f"{named} cannot be built: {built.stderr.strip() or 'no reason given'}")
        speeds = []
        for model in [model for model in models if model.suffix == ".bin"]:
            say(f"{model} on llama2.c")
            groups = ([_tokens_per_second(program, model, positions) for _ in range(RUNS)] for _ in range(GROUPS))
            speed = max(map(statistics.harmonic_mean, groups))
            weights, clock_mhz = n_parameters(load_model(model)), _clock_mhz()
            speeds.append({
                "model": model.stem,
                "flags": flags,
                "processor": _processor(),
                "clock_mhz": clock_mhz,
                "mean_cycles": clock_mhz and clock_mhz * 1e6 / speed,
                "tokens_per_second": speed,
                "weights_per_second": speed * weights,
            })  # fmt: skip
        return speeds


def _finished(*command: str) -> subprocess.CompletedProcess[str]:
    """A command that has run, with OpenMP, if it was built with it, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
    except OSError as error:
        raise EngineError(f"{command[0]}: {error.strerror}") from error


def _tokens_per_second(program: str, model: Path, positions: int) -> float:
    tokenizers = sorted(model.parent.glob("tok*.bin"))
    beside = ["-z", str(tokenizers[0])] if tokenizers else []
    shown = _finished(program, str(model), "-t", "0", "-n", str(positions), *beside)
    speed = re.search(r"achieved tok/s: ([\d.]+)", shown.stderr + shown.stdout)
    if speed is None:
        raise EngineError(f"{program} printed no speed for {model}, expected 'achieved tok/s'")
    return float(speed[1])


def _processor() -> str:
    """What this machine's processor calls itself."""
    return _told("model name") or platform.processor() or platform.machine()


def _clock_mhz() -> float | None:
    """The clock of this machine's processor."""
    told = _told("cpu MHz")
    return float(told) if told else None


def _told(name: str) -> str | None:
    """What Linux tells of the first processor."""
    try:
        told = re.search(rf"^{name}\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return told and told[1].strip()
