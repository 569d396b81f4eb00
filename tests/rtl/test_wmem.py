"""Weight SRAM: rows with a mask of columns, columns, reads, in all named shapes."""

from dataclasses import asdict

import pytest

from lpu_isa.config import SHAPES
from lpu_rtl.wmem import WeightMemory
from lpu_tb.runner import run_bench


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_and_columns_are_written_and_nothing_else(shape, seed):
    config = SHAPES[shape]
    last_of_first_part = min(2048, config.wmem_words) - 1
    edges = [last_of_first_part, min(last_of_first_part + 1, config.wmem_words - 1)]
    values = {"config": asdict(config), "words": edges, "seed": seed}
    memory = WeightMemory(config)
    run_bench(memory, "wmem", "lpu_tb.benches.wmem", name=f"wmem-{shape}-{seed}", parameters=values, seed=seed)
