"""Vector SRAM under random traffic on all ports at once."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from lpu_isa.config import TileConfig

from ..clock import start_clock
from ..runner import parameters

_LATENCY = 2
_CYCLES = 600
_WORDS = 12  # few enough that reads and writes meet


def _unpack(value: int, lane_bits: int, n_lanes: int) -> list[int]:
    return [(value >> (lane_bits * lane)) & ((1 << lane_bits) - 1) for lane in range(n_lanes)]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def traffic(dut) -> None:
    """Each port reads what was written in earlier cycles, two cycles after its address."""
    config = TileConfig(**parameters()["config"])
    rng = np.random.default_rng(parameters()["seed"])
    n_ports, depth, lanes = parameters()["n_read_ports"], parameters()["depth"], config.rows
    names = ("enable", "address", "data")
    reads = [[getattr(dut, f"read__{port}__{name}") for name in names] for port in range(n_ports)]
    words = rng.choice(depth, _WORDS, replace=False).tolist()
    words[0], words[1] = 0, depth - 1
    memory: dict[int, list[int]] = {}
    expected: list[list[list[int] | None]] = []

    dut.rst.value = 0
    start_clock(dut.clk)
    for cycle in range(_CYCLES):
        await FallingEdge(dut.clk)
        if cycle >= _LATENCY:
            for (_, _, data), word in zip(reads, expected[cycle - _LATENCY], strict=True):
                assert word is None or _unpack(data.value.to_unsigned(), config.float_bits, lanes) == word, cycle
        filling = cycle < _WORDS
        wanted: list[list[int] | None] = []
        for enable, address, _ in reads:
            word = words[int(rng.integers(_WORDS))]
            enable.value = is_read = 0 if filling else int(rng.random() < 0.8)
            address.value = word
            wanted.append(memory[word] if is_read else None)
        expected.append(wanted)
        mask = (1 << lanes) - 1 if filling else int(rng.integers(1 << lanes))
        word = words[cycle] if filling else words[int(rng.integers(_WORDS))]
        values = [int(value) for value in rng.integers(1 << config.float_bits, size=lanes)]
        dut.write__enable.value = mask
        dut.write__address.value = word
        dut.write__data.value = sum(value << (config.float_bits * lane) for lane, value in enumerate(values))
        old = memory.get(word, values)
        memory[word] = [
            new if mask >> lane & 1 else kept for lane, (new, kept) in enumerate(zip(values, old, strict=True))
        ]
