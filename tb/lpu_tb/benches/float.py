"""Streams arrays of operands through the design and keeps what comes out; see `lpu_tb.benches.float_units`."""

from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from ..clock import start_clock
from ..runner import parameters


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def stream(dut) -> None:
    """A row of every array of operands each cycle; a row of answers ``latency`` cycles later."""
    values = parameters()
    folder, latency = Path(values["folder"]), values["latency"]
    operands = dict(np.load(folder / "operands.npz"))
    rows = {name: [int.from_bytes(row, "little") for row in array] for name, array in operands.items()}
    answers: dict[str, list[bytes]] = {name: [] for name in values["outputs"]}
    inputs = [(getattr(dut, name), row) for name, row in rows.items()]
    outputs = [(getattr(dut, name), size, answers[name]) for name, size in values["outputs"].items()]
    for handle in [*(getattr(dut, name) for name in values["idle"]), *(handle for handle, _ in inputs)]:
        handle.value = 0
    dut.rst.value = 1
    start_clock(dut.clk)
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    n_steps = len(inputs[0][1])
    for cycle in range(n_steps + latency):
        if cycle < n_steps:
            for handle, row in inputs:
                handle.value = row[cycle]
        if cycle >= latency:
            for handle, size, words in outputs:
                words.append(int(handle.value).to_bytes(size, "little"))
        await FallingEdge(dut.clk)
    np.savez(
        folder / "answers.npz", **{name: np.frombuffer(b"".join(words), np.uint8) for name, words in answers.items()}
    )
