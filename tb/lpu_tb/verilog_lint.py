"""Verilator's lint of Verilog that Amaranth wrote: all warnings but the ones waived here, each with its reason."""

import subprocess
from pathlib import Path

from .build import verilator

__all__ = ["WAIVED", "lint"]

WAIVED = {
    "ASCRANGE": "signals of no bits are written as [-1:0]",
    "CASEINCOMPLETE": "a Switch without a Default keeps the value assigned before it",
    "CMPCONST": "comparisons whose outcome a parameter of the tile decides",
    "DECLFILENAME": "all modules are in one file",
    "PROCASSINIT": "registers have their reset value as initial value too",
    "UNUSEDSIGNAL": "every intermediate value has a name, and parts of one may be unused",
    "WIDTHEXPAND": "Amaranth's operators extend their operands",
    "WIDTHTRUNC": "a value of several bits is a condition when it is not zero",
}
"""Why each waived warning says nothing about generated text. Latches, loops, several drivers stay errors."""


def lint(source: Path, top: str) -> str:
    """What Verilator warns of beyond `WAIVED`: nothing, for a clean file."""
    waivers = [f"-Wno-{name}" for name in WAIVED]
    command = [str(verilator().executable), "--lint-only", "-Wall", *waivers, "--top-module", top, str(source)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stderr
