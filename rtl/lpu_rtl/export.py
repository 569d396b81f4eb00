"""Verilog text of a component, small enough for every tool to read."""

import re

from amaranth.back import verilog
from amaranth.lib import wiring

__all__ = ["verilog_text"]

_MEMORY_START = re.compile(r"  initial begin\n(?:    (?:\S+|\\\S+ )\[\d+\] = \d+'h0+;\n)+  end\n")


def verilog_text(component: wiring.Component, name: str) -> str:
    """Verilog of a component whose top module is called ``name``; equal designs give equal text.

    A memory that starts with all zeros is left undefined at the start: Amaranth would write a line for each word, which
    is nine tenths of a tile's text, and nothing may rely on it.
    """
    return _MEMORY_START.sub("", verilog.convert(component, name=name, emit_src=False))
