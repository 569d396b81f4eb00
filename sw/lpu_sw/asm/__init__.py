"""Assembler, disassembler and builder: between text, Python and a `Program`."""

from .assembler import assemble, assemble_file
from .builder import Builder
from .disassembler import disassemble, format_bundle
from .errors import AssemblyError
from .program import Program, Region, Section

__all__ = [
    "AssemblyError",
    "Builder",
    "Program",
    "Region",
    "Section",
    "assemble",
    "assemble_file",
    "disassemble",
    "format_bundle",
]
