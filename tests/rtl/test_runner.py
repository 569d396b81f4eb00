"""The way from an Amaranth component to a verdict: built once, private signals, random start, failures told."""

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_tb.build import build
from lpu_tb.public import Public
from lpu_tb.runner import BenchFailed, run_bench

BENCH = "lpu_tb.benches.runner"
PUBLIC = [Public("counter.inner", "doubled")]


class Doubler(wiring.Component):
    value: In(8)

    def elaborate(self, platform):
        m = Module()
        self.doubled = Signal(9)
        m.d.comb += self.doubled.eq(self.value << 1)
        return m


class Counter(wiring.Component):
    """Counts by ``step`` from a value that it has no reset for."""

    enable: In(1)
    count: Out(8)

    def __init__(self, step):
        super().__init__()
        self.step = step

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Doubler()
        count = Signal(8, reset_less=True)
        with m.If(self.enable):
            m.d.sync += count.eq(count + self.step)
        m.d.comb += [self.count.eq(count), inner.value.eq(count)]
        return m


def run(name, testcase, **options):
    return run_bench(
        Counter(3), "counter", BENCH, testcase, name=f"runner-{name}", parameters={"step": 3}, public=PUBLIC, **options
    )


def test_bench_runs_and_sees_the_signal_that_was_made_public():
    folder = run("passes", "counts")
    assert (folder / "start.txt").exists()


def test_state_without_a_reset_starts_as_the_seed_says():
    starts = [(run(f"seed{seed}", "counts", seed=seed) / "start.txt").read_text() for seed in (1, 1, 2, 3)]
    assert starts[0] == starts[1]
    assert len(set(starts)) > 1


def test_failing_bench_is_told_by_its_own_words():
    with pytest.raises(BenchFailed, match="1 of 2 tests failed.*\n.*the words of the failing test"):
        run("fails", ["counts", "fails"])


def test_bench_without_a_test_fails():
    with pytest.raises(BenchFailed, match="no test ran"):
        run("none", "there_is_no_such_test")


def test_same_design_is_built_once_and_another_anew():
    first = build(Counter(3), "counter", public=PUBLIC)
    stamp = (first.folder / "finished").stat().st_mtime_ns
    again = build(Counter(3), "counter", public=PUBLIC)
    assert again == first
    assert (again.folder / "finished").stat().st_mtime_ns == stamp
    assert build(Counter(5), "counter", public=PUBLIC) != first


def test_verilators_library_is_compiled_once_for_all_simulators():
    build(Counter(3), "counter", public=PUBLIC)
    other = build(Counter(7), "counter", public=PUBLIC)
    objects = [path.name for path in other.folder.glob("verilated*.o")]
    assert "verilated.o" in objects
    log = (other.folder / "build.log").read_text()
    assert not [name for name in objects if f"-o {name}" in log]


def test_build_makes_no_signal_public_but_those_listed():
    log = (build(Counter(3), "counter", public=PUBLIC).folder / "build.log").read_text()
    assert "--public-flat-rw" not in log
