"""Verilog text of a component, small enough for every tool to read, and a tile's as a file of its own."""

import hashlib
import re
from importlib.metadata import version

from amaranth.back import verilog
from amaranth.lib import wiring

from lpu_isa.config import TileConfig
from lpu_isa.fingerprint import fingerprint

__all__ = ["tile_file", "verilog_text"]

_MEMORY_START = re.compile(r"  initial begin\n(?:    (?:\S+|\\\S+ )\[\d+\] = \d+'h0+;\n)+  end\n")


def verilog_text(component: wiring.Component, name: str) -> str:
    """Verilog of a component whose top module is called ``name``; equal designs give equal text.

    A memory that starts with all zeros is left undefined at the start: Amaranth would write a line for each word, which
    is nine tenths of a tile's text, and nothing may rely on it.
    """
    return _MEMORY_START.sub("", verilog.convert(component, name=name, emit_src=False))


def tile_file(config: TileConfig, text: str) -> str:
    """A tile's Verilog text below a comment with licence and origin: what a design of someone else's includes."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return "\n".join([
        "// SPDX-License-Identifier: Apache-2.0",
        f"// A tile of the Language Processing Unit, lpu-tile {version('lpu-tile')}; ports and use: docs/export.md.",
        "// Written by `lpu rtl` from Amaranth sources, which are the place for changes.",
        f"// {config!r}",
        f"// Fingerprint, whose low half the register FINGERPRINT holds: {fingerprint(config):016x}",
        f"// SHA-256 of all that follows this comment: {digest}",
        text,
    ])  # fmt: skip
