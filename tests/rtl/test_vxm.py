"""The vector unit alone, against the simulator and the cycles that the ISA declares."""

from dataclasses import asdict

import pytest

from lpu_isa.config import SHAPES
from lpu_rtl.vxm import Vxm
from lpu_tb.runner import run_bench

BENCH = "lpu_tb.benches.vxm"
CONFIGS = [SHAPES["4x4"], SHAPES["8x16"], SHAPES["4x4"].replace(cols=16, significand_bits=24)]


def run(config, testcase, seeds, n_passes):
    values = {"config": asdict(config), "seeds": seeds, "n_passes": n_passes}
    name = f"vxm-{testcase}-{config.name}-{config.significand_bits}"
    run_bench(Vxm(config), "vxm", BENCH, testcase, name=name, seed=seeds[0], parameters=values)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.name}-{config.significand_bits}")
def test_overlapping_passes(config):
    run(config, "passes_do_what_the_simulator_does", seeds=[1, 2], n_passes=300)


@pytest.mark.parametrize("testcase", ["faults_come_when_the_simulator_says", "clashes_are_faults"])
def test_faults(testcase):
    run(SHAPES["4x4"], testcase, seeds=[1], n_passes=200)
