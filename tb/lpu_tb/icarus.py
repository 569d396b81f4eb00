"""A second simulator for the tile's Verilog: Icarus, which runs the benches that Verilator runs.

Icarus reads the text by itself and simulates it event by event, with four values a bit: what is undefined stays so
instead of being drawn, until it reaches the host.
"""

import hashlib
import re
import shutil
import subprocess

from cocotb_tools.runner import Icarus, Verilog

from .build import SIM_BUILD, Build, BuildError, make_once

__all__ = ["build_icarus"]

_MEMORY = re.compile(r"^  reg \[\d+:0\] (\S+) \[(\d+):0\];$", re.MULTILINE)


def _with_memories_of_zeros(text: str) -> str:
    """Verilog whose memories start as on an FPGA: the host reads all of them, and may read what nobody wrote."""
    start = r"\g<0>\n  initial for (int word = 0; word <= \2; word = word + 1) \1 [word] = 0;"
    return _MEMORY.sub(start, text)


def build_icarus(text: str, name: str) -> Build:
    """Compile Verilog text with the top module ``name``, or return the finished build of the same text and version.

    Raises `BuildError` when ``iverilog`` is not on the PATH, or with its last words.
    """
    if shutil.which("iverilog") is None:
        raise BuildError("iverilog is missing: apt install iverilog")
    version = subprocess.run(["iverilog", "-V"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    text = _with_memories_of_zeros(text)
    folder = SIM_BUILD / "icarus" / hashlib.sha256(f"{version}\0{text}".encode()).hexdigest()[:16]

    def make() -> None:
        source, log = folder / f"{name}.v", folder / "build.log"
        source.write_text(text)
        try:
            Icarus().build(
                sources=[Verilog(source)],
                hdl_toplevel=name,
                build_dir=folder,
                timescale=("1ns", "1ps"),
                log_file=log,
            )
        except RuntimeError:
            last = log.read_text().splitlines()[-20:]
            raise BuildError("\n".join([f"building {name} failed; {log} ends:", *last])) from None

    make_once(folder, make)
    return Build(folder, name, Icarus)
