"""Many units side by side, driven with arrays of operands: for benches with millions of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from amaranth import Module, Shape, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..runner import run_bench

__all__ = ["Lanes", "run_lanes"]


class _Port:
    """A port of the unit: its elements (one, or those of an array), each in a container of 32 or 64 bits."""

    def __init__(self, path: tuple[str, ...], flow, shape) -> None:
        self.path = path
        self.name = "__".join(path)
        self.joint_name = f"joint_{self.name}"
        self.flow = flow
        self.is_array = isinstance(shape, data.ArrayLayout)
        self.length = shape.length if self.is_array else 1
        self.element_bits = Shape.cast(shape).width // self.length
        self.dtype = np.dtype("<u4" if self.element_bits <= 32 else "<u8")
        self.container_bits = 8 * self.dtype.itemsize

    @property
    def bits(self) -> int:
        """Width for one unit."""
        return self.length * self.container_bits


class Lanes(wiring.Component):
    """``n`` equal units with joint ports; outputs come through a register.

    Its ports are called ``joint_`` and the unit's name, nested names joined by ``__``; each element of each unit has a
    container of 32 or 64 bits, the first unit's first element lowest.
    """

    def __init__(self, make: Callable[[], wiring.Component], n: int) -> None:
        self.units = [make() for _ in range(n)]
        unit = self.units[0]
        self.ports = [_Port(path, member.flow, member.shape) for path, member, _ in unit.signature.flatten(unit)]
        super().__init__({port.joint_name: port.flow(n * port.bits) for port in self.ports})

    def elaborate(self, platform) -> Module:
        """The units, side by side."""
        m = Module()
        for i, unit in enumerate(self.units):
            m.submodules[f"unit{i}"] = unit
        for port in self.ports:
            joint = getattr(self, port.joint_name)
            for i, unit in enumerate(self.units):
                value: object = unit
                for name in port.path:
                    value = getattr(value, name)
                bits = Value.cast(value)
                for element in range(port.length):
                    own = bits[element * port.element_bits :][: port.element_bits]
                    container = joint[i * port.bits + element * port.container_bits :][: port.container_bits]
                    if port.flow is In:
                        m.d.comb += own.eq(container)
                    else:
                        m.d.sync += container.eq(own)
        return m


def run_lanes(
    make: Callable[[], wiring.Component],
    operands: Mapping[str, np.ndarray],
    *,
    latency: int,
    name: str,
    folder: Path,
    n: int = 16,
) -> dict[str, np.ndarray]:
    """What units made by ``make`` answer to streams of operands.

    Parameters
    ----------
    make : makes a unit.
    operands : by input port, integers of shape (operands,), with one more axis for a port that is an array. Others
        are 0. Consecutive operands go to different units when ``n`` is above 1.
    latency : cycles from an operand to its result.
    name : of the run. folder : for operands and results.
    n : units side by side.

    Returns unsigned integers by output port, one for each operand.
    """
    lanes = Lanes(make, n)
    count = len(next(iter(operands.values())))
    steps = -(-count // n)
    given: dict[str, np.ndarray] = {}
    for port in lanes.ports:
        if port.flow is In and port.name in operands:
            shape = (steps * n, port.length)
            padded = np.zeros(shape, np.int64)
            padded[:count] = np.asarray(operands[port.name], np.int64).reshape(count, port.length)
            given[port.joint_name] = padded.astype(port.dtype).view(np.uint8).reshape(steps, -1)
    np.savez(folder / "operands.npz", **given)
    outputs = {port.joint_name: n * port.bits // 8 for port in lanes.ports if port.flow is Out}
    idle = [port.joint_name for port in lanes.ports if port.flow is In and port.name not in operands]
    values = {"folder": str(folder), "latency": latency + 1, "outputs": outputs, "idle": idle}
    run_bench(lanes, "lanes", "lpu_tb.benches.float", name=name, parameters=values)
    answers = np.load(folder / "answers.npz")
    results = {}
    for port in lanes.ports:
        if port.flow is Out:
            words = answers[port.joint_name].view(port.dtype).astype(np.int64).reshape(steps * n, port.length)[:count]
            results[port.name] = words if port.is_array else words[:, 0]
    return results
