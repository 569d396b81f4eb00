"""The passes of a Llama's layer, counted: which units of the chain each uses, what it reads, and how long it takes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.fields import REGISTERS, Operation
from lpu_isa.tables import Function
from lpu_isa.vxm import TO_BLOCKS, Add, Gain, Multiply, Quantise, Reduce, Source, Write

from .compiler.calibrate import Ranges
from .compiler.llama import Compilation
from .compiler.lowering import tile as tile_region
from .compiler.registers import Register
from .compiler.step import kind_of
from .model import LlamaConfig, LlamaModel, layer_shapes, model_shapes

__all__ = ["PassKind", "passes"]

_MODEL = LlamaConfig(64, 172, 5, 8, 4, 8, 512, 512)
"""The sizes of stories260K: its heads of 8 share activation blocks, which is the harder case."""
_CONTEXT = 128


_EVERY_HEAD = np.ones((_MODEL.n_layers, _MODEL.n_kv_heads))
_RANGES = Ranges(_EVERY_HEAD, _EVERY_HEAD, 1.0, 1.0, 1.0, 1.0, 1.0)
"""Numbers decide nothing about passes."""


def _model() -> LlamaModel:
    """A model of these sizes, all zeros."""
    shapes = model_shapes(_MODEL)
    for layer in range(_MODEL.n_layers):
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in layer_shapes(_MODEL).items()}
    return LlamaModel.from_tensors(_MODEL, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})


class PassKind(NamedTuple):
    """One row: passes that differ in nothing but their place. Latencies are cycles from issue to the first write."""

    name: str
    times: int
    chain: str
    reads: str
    scalars: str
    goes_to: str
    latency: str


def passes(tile: TileConfig) -> list[PassKind]:
    """The passes of one layer, each kind once, in the order of their first appearance."""
    layout = Compilation(_model(), tile, context=_CONTEXT, ranges=_RANGES).layout
    isa = BundleFormat(tile)
    kinds: dict[str, PassKind] = {}
    for step in tile_region(layout, next(region for region in layout.graph.regions if region.is_repeated)):
        if "vxm" in step.operations:
            name = kind_of(step.name)
            kind = PassKind(name, 1, *_row(isa, step.operations["vxm"]))
            times = kinds[name].times + 1 if name in kinds else 1
            kinds[name] = kind._replace(times=times)
    return list(kinds.values())


def _row(isa: BundleFormat, operation: Operation) -> tuple[str, str, str, str, str]:
    op = isa.complete(operation)
    registers = [0] * REGISTERS
    registers[Register.GROUPS] = registers[Register.STEPS] = 1
    registers[Register.LANES] = isa.config.rows
    use = isa.use(operation, registers)
    reads = sorted({claim.resource for claim in use.claims if claim.resource in ("vmem.a", "vmem.b", "smem.c")})
    landed = {a.space: int(a.cycle.min()) for a in use.accesses if a.write and a.space != "tracker"}
    return (
        " -> ".join(_chain(op)),
        ", ".join(reads) or "-",
        ", ".join(_scalars(op)) or "-",
        ", ".join(_destinations(op)),
        ", ".join(f"{space} {cycle}" for space, cycle in sorted(landed.items(), key=lambda item: item[1])),
    )


def _chain(op: dict[str, int]) -> Iterator[str]:
    source = Source(op["source"])
    yield source.name.lower()
    if source in (Source.ACC, Source.WMEM):
        yield "convert"
    if op["multiply"]:
        yield f"x {Multiply(op['multiply']).name.lower()}"
    if op["add"]:
        yield f"add {Add(op['add']).name.lower()}"
    if op["function"]:
        yield Function(op["function"]).name.lower()
    if op["gain"]:
        yield f"gain {Gain(op['gain']).name.lower()}"


def _scalars(op: dict[str, int]) -> Iterator[str]:
    for name, choices in (("multiply", Multiply), ("add", Add), ("gain", Gain)):
        if choices(op[name]).name.endswith("SCALAR"):
            yield name
    if op["reduce"] in (Reduce.SUM, Reduce.SUM_SQUARES) and op["start_reg"]:
        yield "start of the sum"


def _destinations(op: dict[str, int]) -> Iterator[str]:
    if op["write"]:
        yield Write(op["write"]).name.lower()
    if op["quantise"]:
        quantised = Quantise(op["quantise"])
        yield "act" if quantised in TO_BLOCKS else f"wmem, by {quantised.name.lower()}"
    if op["reduce"]:
        yield f"register ({Reduce(op['reduce']).name.lower()})"
