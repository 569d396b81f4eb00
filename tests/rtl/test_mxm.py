"""Matrix unit: bit for bit and cycle for cycle what the ISA says, in all named shapes."""

from dataclasses import asdict

import pytest

from lpu_isa.config import SHAPES
from lpu_rtl.mxm import Mxm
from lpu_tb.runner import run_bench

BENCH = "lpu_tb.benches.mxm"
CLAIMS = ["random_operations", "extremes", "one_entry_step_after_step", "faults", "issue_while_busy",
          "accesses_in_their_cycles", "stop_drops_what_is_under_way"]  # fmt: skip


def run(shape: str, claim: str, seed: int, rounds: int = 0) -> None:
    config = SHAPES[shape]
    values = {"config": asdict(config), "seed": seed, "rounds": rounds}
    run_bench(Mxm(config), "mxm", BENCH, claim, name=f"mxm-{shape}-{claim}-{seed}", seed=seed, parameters=values)


@pytest.mark.parametrize("claim", CLAIMS[1:])
@pytest.mark.parametrize("shape", SHAPES)
def test_claim(shape, claim):
    run(shape, claim, seed=1)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_random_operations(shape, seed):
    run(shape, CLAIMS[0], seed, rounds=25)
