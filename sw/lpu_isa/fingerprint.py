"""Fingerprint: which tile an image fits. It covers the shape, every encoding, latency and table of the ISA."""

import hashlib
import json
from dataclasses import asdict

from . import formats, icu, mxm, vxm
from .bundle import BundleFormat
from .config import TileConfig
from .tables import rom

__all__ = ["fingerprint"]


def fingerprint(config: TileConfig) -> int:
    """A 64-bit number that two tiles share exactly if the same image runs alike on both."""
    bundle = BundleFormat(config)
    latencies = {
        f"{module.__name__}.{name}": repr(value)
        for module in (formats, icu, mxm, vxm)
        for name, value in sorted(vars(module).items())
        if name.isupper() and isinstance(value, int | float | dict)
    }
    layout = [
        [name, f.name, f.bits, f.signed, f.default, sorted((m.name, int(m)) for m in f.enum) if f.enum else []]
        for name, slot in {"header": bundle.header, **bundle.slots}.items()
        for f in slot.fields
    ]
    text = json.dumps([asdict(config), latencies, layout, rom().tolist()], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
