"""All floating-point units in one design, driven with arrays of operands: for tests with millions of them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from amaranth import Module, Shape, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.formats import ACCUMULATOR_BITS
from lpu_rtl.float.add import Add
from lpu_rtl.float.convert import Convert
from lpu_rtl.float.lookup import Lookup
from lpu_rtl.float.multiply import Multiply
from lpu_rtl.float.quantise import Quantiser
from lpu_rtl.float.reduce import Reducer
from lpu_rtl.float.round import Round

from ..build import Build, build
from ..runner import run_build

__all__ = ["CONFIGS", "FloatUnits", "run_unit"]

CONFIGS = (SHAPES["8x16"], SHAPES["4x4"].replace(cols=16, significand_bits=24))
"""What is built: both float formats, blocks of two vectors and of four."""

_LANES = {"multiply": 8, "add": 8, "convert": 8, "round": 8, "lookup": 16}
"""Units side by side, of those that work on one lane."""


class _Port:
    """A port of ``n`` equal units: of each unit its elements (one, or those of an array), each in a container of 32 or
    64 bits, the first unit's first element lowest."""

    def __init__(self, group: str, units: list[wiring.Component], path: tuple[str, ...], flow, shape) -> None:
        self.units = units
        self.path = path
        self.name = "__".join(path)
        self.joint_name = f"{group}__{self.name}"
        self.flow = flow
        self.is_array = isinstance(shape, data.ArrayLayout)
        self.length = shape.length if self.is_array else 1
        self.element_bits = Shape.cast(shape).width // self.length
        self.dtype = np.dtype("<u4" if self.element_bits <= 32 else "<u8")

    @property
    def bits(self) -> int:
        """Width of the joint port."""
        return len(self.units) * self.length * 8 * self.dtype.itemsize

    def connect(self, m: Module, joint: Value) -> None:
        """Inputs at once, outputs through a register."""
        container_bits = 8 * self.dtype.itemsize
        for i, unit in enumerate(self.units):
            value: object = unit
            for name in self.path:
                value = getattr(value, name)
            bits = Value.cast(value)
            for element in range(self.length):
                own = bits[element * self.element_bits :][: self.element_bits]
                container = joint[(i * self.length + element) * container_bits :][:container_bits]
                if self.flow is In:
                    m.d.comb += own.eq(container)
                else:
                    m.d.sync += container.eq(own)


class FloatUnits(wiring.Component):
    """Every unit of `lpu_rtl.float` for one configuration, those that work on one lane several times.

    Ports are called after the unit and its own port; nested names are joined by ``__``.
    """

    def __init__(self, config: TileConfig) -> None:
        p = config.significand_bits
        makers = {
            "multiply": lambda: Multiply(p),
            "add": lambda: Add(p),
            "convert": lambda: Convert(ACCUMULATOR_BITS, p),
            "round": lambda: Round(p),
            "lookup": lambda: Lookup(p),
        }
        self.groups = {name: [make() for _ in range(_LANES[name])] for name, make in makers.items()}
        self.groups |= {"quantiser": [Quantiser(config)], "reducer": [Reducer(config)]}
        self.ports = {
            name: [_Port(name, group, path, member.flow, member.shape)
                   for path, member, _ in group[0].signature.flatten(group[0])]
            for name, group in self.groups.items()
        }  # fmt: skip
        super().__init__({port.joint_name: port.flow(port.bits) for ports in self.ports.values() for port in ports})

    def elaborate(self, platform) -> Module:
        """The units, side by side."""
        m = Module()
        for name, group in self.groups.items():
            for i, unit in enumerate(group):
                m.submodules[f"{name}{i}"] = unit
            for port in self.ports[name]:
                port.connect(m, getattr(self, port.joint_name))
        return m


@cache
def _built(config: TileConfig) -> tuple[FloatUnits, Build]:
    units = FloatUnits(config)
    return units, build(units, "float_units")


def run_unit(
    config: TileConfig, unit: str, operands: Mapping[str, np.ndarray], *, latency: int, name: str, folder: Path
) -> dict[str, np.ndarray]:
    """What a unit answers to a stream of operands.

    Parameters
    ----------
    unit : a name in `FloatUnits.groups`.
    operands : by input port, integers of shape (operands,), with one more axis for a port that is an array. Others
        are 0. Consecutive operands go to different lanes where there are several.
    latency : cycles from an operand to its result.
    name : of the run. folder : for operands and results.

    Returns unsigned integers by output port, one for each operand.
    """
    units, made = _built(config)
    ports, n = units.ports[unit], len(units.groups[unit])
    count = len(next(iter(operands.values())))
    steps = -(-count // n)
    given: dict[str, np.ndarray] = {}
    for port in ports:
        if port.flow is In and port.name in operands:
            padded = np.zeros((steps * n, port.length), np.int64)
            padded[:count] = np.asarray(operands[port.name], np.int64).reshape(count, port.length)
            given[port.joint_name] = padded.astype(port.dtype).view(np.uint8).reshape(steps, -1)
    np.savez(folder / "operands.npz", **given)
    outputs = {port.joint_name: port.bits // 8 for port in ports if port.flow is Out}
    idle = [port.joint_name for port in ports if port.flow is In and port.name not in operands]
    values = {"folder": str(folder), "latency": latency + 1, "outputs": outputs, "idle": idle}
    run_build(made, "lpu_tb.benches.float", name=name, parameters=values)
    answers = np.load(folder / "answers.npz")
    results = {}
    for port in ports:
        if port.flow is Out:
            words = answers[port.joint_name].view(port.dtype).astype(np.int64).reshape(steps * n, port.length)[:count]
            results[port.name] = words if port.is_array else words[:, 0]
    return results
