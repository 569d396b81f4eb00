"""What sets the clock, placed and routed alone: matrix unit, weight SRAM and one lane of the vector unit."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from lpu_isa.config import TileConfig
from lpu_isa.formats import ACCUMULATOR_BITS, ACCUMULATOR_FRACTION_BITS
from lpu_isa.tables import Function
from lpu_rtl.float.add import Add
from lpu_rtl.float.convert import Convert
from lpu_rtl.float.encoding import float_layout
from lpu_rtl.float.lookup import Lookup
from lpu_rtl.float.multiply import Multiply
from lpu_rtl.mxm import Mxm
from lpu_rtl.primitives import Technology
from lpu_rtl.wmem import WeightMemory

from .synth import ShiftHarness, area, netlist, place_and_route, provenance

__all__ = ["MatrixPath", "record"]


class MatrixPath(wiring.Component):
    """Weight SRAM, matrix unit and the floating-point units of one lane in a chain: row 0 of the accumulators is
    converted, multiplied, added to, looked up and multiplied again.

    Ports: those of the matrix unit but for ``weights``; ``wmem_write``; the lane's operands and its result.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.ECP5) -> None:
        self.config, self.technology = config, technology
        self.mxm, self.wmem = Mxm(config, technology), WeightMemory(config, technology)
        self._inner = {name: port for name, port in self.mxm.signature.members.items() if name != "weights"}
        lane = float_layout(config.significand_bits)
        super().__init__(self._inner | {
            "wmem_write": self.wmem.signature.members["write"],
            "factor": In(lane),
            "addend": In(lane),
            "function": In(range(max(Function) + 1)),
            "gain": In(lane),
            "result": Out(lane),
            "lane_faults": Out(5),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        """The units, wired."""
        m = Module()
        p = self.config.significand_bits
        m.submodules.mxm = mxm = self.mxm
        m.submodules.wmem = wmem = self.wmem
        connect(m, mxm.weights, wmem.read)
        connect(m, flipped(self.wmem_write), wmem.write)
        for name, member in self._inner.items():
            port, inner = getattr(self, name), getattr(mxm, name)
            if member.is_signature:
                connect(m, flipped(port), inner)
            else:
                m.d.comb += inner.eq(port) if member.flow == In else port.eq(inner)

        m.submodules.convert = convert = Convert(ACCUMULATOR_BITS, p)
        m.submodules.multiply = multiply = Multiply(p, self.technology)
        m.submodules.add = add = Add(p)
        m.submodules.lookup = lookup = Lookup(p, self.technology)
        m.submodules.second_multiply = second = Multiply(p, self.technology)
        m.d.comb += [
            convert.value.eq(mxm.acc.data.sums[0]),
            convert.unit.eq(mxm.acc.data.base - ACCUMULATOR_FRACTION_BITS),
            multiply.a.eq(convert.result),
            multiply.b.eq(self.factor),
            add.a.eq(multiply.result),
            add.b.eq(self.addend),
            lookup.function.eq(self.function),
            lookup.argument.eq(add.result),
            second.a.eq(lookup.result),
            second.b.eq(self.gain),
            self.result.eq(second.result),
        ]
        units = (convert, multiply, add, lookup, second)
        m.d.comb += [self.lane_faults[index].eq(unit.overflow) for index, unit in enumerate(units)]
        return m


def record(
    config: TileConfig, folder: Path, seeds: Sequence[int], target_mhz: float, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Synthesise `MatrixPath`, place and route it with each seed, and return all figures with what made them."""
    made = netlist(ShiftHarness(MatrixPath(config)), "matrix_path", folder)
    size = area(made, "matrix_path")
    progress(f"{size.lut4} LUT4, {size.ff} registers, {size.dsp} DSP, {size.ebr} EBR")
    runs = []
    for seed in seeds:
        routed = place_and_route(made, seed=seed, target_mhz=target_mhz)
        progress(f"seed {seed}: {routed.fmax_mhz} MHz")
        runs.append({"seed": seed, **routed._asdict()})
    return {
        "unit": "matrix unit, weight SRAM and one lane of the vector unit, behind a shift-register harness",
        "tile": config.name,
        "wmem_words": config.wmem_words,
        "accumulators": config.accumulators,
        "command": f"lpu route --tile {config.name} --target-mhz {target_mhz:g} "
        + " ".join(f"--seed {seed}" for seed in seeds),
        **provenance(),
        "area": size._asdict(),
        "target_mhz": target_mhz,
        "runs": runs,
        "fmax_mhz": {"lowest": min(run["fmax_mhz"] for run in runs), "highest": max(run["fmax_mhz"] for run in runs)},
    }
