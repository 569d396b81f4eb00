"""The vector unit alone, against the simulator and the cycles that the ISA declares."""

from dataclasses import asdict

import pytest

from lpu_isa.config import SHAPES
from lpu_rtl.vxm import Vxm
from lpu_tb.runner import run_bench

BENCH = "lpu_tb.benches.vxm"


def run(config, testcase, name, seed, **values):
    values |= {"config": asdict(config), "seed": seed}
    run_bench(Vxm(config), "vxm", BENCH, testcase, name=f"vxm-{name}-{seed}", seed=seed, parameters=values)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("shape", "significand_bits"), [("4x4", 18), ("4x4", 24), ("8x16", 18)])
def test_random_passes(shape, significand_bits, seed):
    config = SHAPES[shape].replace(significand_bits=significand_bits)
    run(config, "passes_do_what_the_simulator_does", f"passes-{shape}-{significand_bits}", seed, n_passes=300)
