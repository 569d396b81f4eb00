"""Run cocotb tests on a component, and say which failed and why."""

import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from amaranth.lib import wiring
from cocotb_tools.check_results import get_results

from .build import SIM_BUILD, Build, build
from .clock import RUNS
from .public import Public

__all__ = ["BenchFailed", "parameters", "run_bench", "run_build"]

_PARAMETERS = "LPU_BENCH_PARAMETERS"


class BenchFailed(AssertionError):
    """A cocotb test failed, or none ran; the text holds what the failing tests said and where the log is."""


def parameters() -> dict[str, Any]:
    """What `run_bench` was given as ``parameters``; for a bench, inside the simulator."""
    return json.loads(os.environ.get(_PARAMETERS, "{}"))


def run_bench(
    component: wiring.Component,
    toplevel: str,
    bench: str,
    testcase: str | Sequence[str] | None = None,
    *,
    name: str,
    seed: int = 1,
    parameters: Mapping[str, Any] | None = None,
    public: Iterable[Public] = (),
    fast: bool = False,
    waves: bool = False,
) -> Path:
    """Build ``component`` if need be and run the cocotb tests of module ``bench`` on it.

    Parameters
    ----------
    component, toplevel : the design and the name of its Verilog module.
    bench : module of cocotb tests, such as ``lpu_tb.benches.host``.
    testcase : names of the tests to run; all by default.
    name : folder of this run below ``sim_build/run``; unlike that of any other run that may take place meanwhile.
    seed : of cocotb's ``random`` and of the state that has no reset value.
    parameters : JSON values that the bench gets from `parameters`.
    public : further signals that the bench reads.
    fast : start from the registers' initial values and zeros, rather than from random state.
    waves : record ``dump.vcd`` in the folder of the run.

    Returns the folder of the run. Raises `BenchFailed` when a test failed or none ran, `BuildError` when the
    simulator could not be built.
    """
    made = build(component, toplevel, public=public, fast=fast, waves=waves)
    return run_build(made, bench, testcase, name=name, seed=seed, parameters=parameters, waves=waves)


def run_build(
    made: Build,
    bench: str,
    testcase: str | Sequence[str] | None = None,
    *,
    name: str,
    seed: int = 1,
    parameters: Mapping[str, Any] | None = None,
    waves: bool = False,
) -> Path:
    """`run_bench` on a simulator that is already built."""
    folder = SIM_BUILD / "run" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log, results = folder / "log.txt", folder / "results.xml"
    try:
        made.runner().test(
            bench,
            made.toplevel,
            hdl_toplevel_lang="verilog",
            testcase=testcase,
            seed=seed,
            plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed % 0x7FFF_FFFF or 1}"],
            extra_env={_PARAMETERS: json.dumps(dict(parameters or {})), RUNS: f"{made.is_clocked:d}"},
            test_args=["--trace-file", str(folder / "dump.vcd")] if waves else [],
            waves=waves,
            build_dir=made.folder,
            test_dir=folder,
            results_xml=str(results),
            log_file=log,
        )
    except (SystemExit, RuntimeError):
        pass  # the results file, or its absence, says more
    _check(results, log, f"{bench}, seed {seed}")
    return folder


def _check(results: Path, log: Path, title: str) -> None:
    """Raise `BenchFailed` unless every test of the results file passed, and there was one."""
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:]) if log.exists() else ""
    try:
        n_tests, n_failed = get_results(results)
    except (RuntimeError, ElementTree.ParseError):
        raise BenchFailed(f"{title}: the simulator ended without a result; {log} ends:\n{tail}") from None
    if n_failed:
        texts = [
            f"{case.get('name')}: {failure.get('message')}\n{failure.text or ''}"
            for case in ElementTree.parse(results).iter("testcase")
            for kind in ("failure", "error")
            for failure in case.findall(kind)
        ]
        raise BenchFailed("\n".join([f"{title}: {n_failed} of {n_tests} tests failed; log: {log}", *texts]))
    if not n_tests:
        raise BenchFailed(f"{title}: no test ran; {log} ends:\n{tail}")
