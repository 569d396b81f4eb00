"""Which signals a bench may see: the ports of the top level, and those inside the design that it names.

Every public signal costs speed, since Verilator must keep it up to date, so a build lists them one by one.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Public", "control_file", "ports"]


class Public(NamedTuple):
    """A signal by the Verilog module that declares it (``tile.mxm``) and its name there."""

    module: str
    signal: str


def ports(text: str, toplevel: str) -> list[Public]:
    """The ports of module ``toplevel`` in a Verilog text."""
    header = re.search(rf"^module {re.escape(toplevel)}\((.*?)\);", text, re.DOTALL | re.MULTILINE)
    return [Public(toplevel, name) for name in header[1].replace(",", " ").split()] if header else []


def control_file(written: Iterable[Public], read: Iterable[Public]) -> str:
    """Text of the Verilator control file (``.vlt``) that makes these signals, and no others, public."""
    lines = [
        f'{directive} -module "{signal.module}" -var "{signal.signal}"'
        for directive, signals in (("public_flat_rw", written), ("public_flat_rd", read))
        for signal in sorted(signals)
    ]
    return "\n".join(["`verilator_config", *lines, ""])
