"""Fingerprint of a design: to which RTL a measured figure belongs."""

import hashlib

from amaranth.hdl import Value

# The netlist before it is written as text. Amaranth keeps it to itself, hence the pinned version; but the text has
# names of signals, which it takes from Python's byte code, and so from Python's version.
from amaranth.hdl._ir import Fragment, PortDirection, build_netlist
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["design_fingerprint"]

_DIGITS = 16


def design_fingerprint(component: wiring.Component) -> str:
    """16 hexadecimal digits, equal for equal designs: of cells and connections, so that names do not count.

    They depend on Amaranth's version, but not on the machine or on Python's.
    """
    ports = {
        "__".join(map(str, path)): (
            Value.cast(port),
            PortDirection.Input if member.flow is In else PortDirection.Output,
        )
        for path, member, port in component.signature.flatten(component)
    }
    netlist = build_netlist(Fragment.get(component, None), ports)
    hashed = hashlib.sha256()
    for cell in netlist.cells:
        hashed.update(f"{cell.module_idx} {cell!r}\n".encode())
    return hashed.hexdigest()[:_DIGITS]
