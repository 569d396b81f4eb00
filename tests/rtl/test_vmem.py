"""Vector SRAM: every port, lane masks, in all named shapes and both float formats."""

from dataclasses import asdict

import pytest

from lpu_isa.config import SHAPES
from lpu_rtl.vmem import VectorMemory
from lpu_tb.runner import run_bench


@pytest.mark.parametrize("n_read_ports", [1, 2])
@pytest.mark.parametrize("significand_bits", [18, 24])
@pytest.mark.parametrize("shape", SHAPES)
def test_reads_see_what_earlier_cycles_wrote(shape, significand_bits, n_read_ports):
    config = SHAPES[shape].replace(significand_bits=significand_bits)
    name = f"vmem-{shape}-{significand_bits}-{n_read_ports}"
    values = {"config": asdict(config), "depth": config.vmem_words, "n_read_ports": n_read_ports, "seed": 1}
    memory = VectorMemory(config, config.vmem_words, n_read_ports)
    run_bench(memory, "vmem", "lpu_tb.benches.vmem", name=name, parameters=values)


def test_no_read_port_is_refused():
    with pytest.raises(ValueError, match="n_read_ports must be at least 1, not 0"):
        VectorMemory(SHAPES["4x4"], 256, 0)
