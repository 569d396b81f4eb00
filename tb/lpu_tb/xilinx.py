"""Synthesis of generic Verilog for a Xilinx 7-series chip with Yosys: what of the exported tile becomes which cell."""

from pathlib import Path
from typing import NamedTuple

from .synth import cells, run_yosys

__all__ = ["XilinxArea", "xilinx_area"]

_LUTS = {f"LUT{n}": 1 for n in range(1, 7)} | {"INV": 1, "SRL16E": 1, "SRLC32E": 1}
_RAM_LUTS = {"RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32M": 4, "RAM64M": 4}
_REGISTERS = ("FDRE", "FDSE", "FDCE", "FDPE")


class XilinxArea(NamedTuple):
    """Cells of a 7-series chip."""

    lut: int  # of six inputs; inverters and shift registers count as one
    lut_ram: int  # of these, as memory: RAM32M and RAM64M are four
    carry4: int
    ff: int
    dsp48: int
    bram36: float  # of 36 kbit: a RAMB18E1 is half of one


def xilinx_area(text: str, top: str, folder: Path) -> XilinxArea:
    """Cells of Verilog text with the top module ``top``, flattened and without pads; a whole tile takes minutes.

    ``folder`` gets the netlist and Yosys' log. Raises `SynthesisError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / f"{top}.json"
    (folder / f"{top}.v").write_text(text)
    run_yosys(
        f"read_verilog {top}.v\n"
        f"synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -top {top}\n"
        f"write_json {result.name}\n",
        result.with_suffix(".log"),
    )
    n = cells(result, top)
    lut_ram = sum(luts * n[kind] for kind, luts in _RAM_LUTS.items())
    return XilinxArea(
        lut=lut_ram + sum(luts * n[kind] for kind, luts in _LUTS.items()),
        lut_ram=lut_ram,
        carry4=n["CARRY4"],
        ff=sum(n[kind] for kind in _REGISTERS),
        dsp48=n["DSP48E1"],
        bram36=n["RAMB36E1"] + n["RAMB18E1"] / 2,
    )
