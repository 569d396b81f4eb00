"""What lowering makes: steps of the program, and parts of tensors on the way from one operator to the next."""

import re
from dataclasses import dataclass

from lpu_isa.fields import Operation
from lpu_isa.vxm import Gain
from lpu_sw.graph.tensor import Tensor

__all__ = ["ALL", "Part", "Request", "Step", "kind_of", "label"]


@dataclass(frozen=True)
class Step:
    """One bundle's worth of operations and its name, such as ``head 3 scores``."""

    name: str
    operations: dict[str, Operation]


@dataclass(frozen=True)
class Part:
    """Vectors ``first .. first + count`` of a tensor, as fields of a pass that makes them and has no destination yet.

    name, verb : what the part is, and what the pass does to it. factor : register that the result is still to be
    multiplied by, at the chain's second multiplier; 0: none.
    """

    name: str
    verb: str
    first: int
    count: int
    fields: dict[str, int]
    factor: int = 0

    @property
    def title(self) -> str:
        """Name of the pass."""
        return f"{self.name} {self.verb}"

    @property
    def scaled(self) -> dict[str, int]:
        """The fields of the pass with the factor."""
        return {**self.fields, "gain": Gain.SCALAR, "gain_reg": self.factor} if self.factor else self.fields


@dataclass(frozen=True)
class Request:
    """How an operator would like to have its input.

    chunk : vectors of a part; None: all at once. vectors : how many of them, None: all.
    one_by_one : whether each vector is finished before the next is begun, rather than all of a part together.
    """

    chunk: int | None = None
    vectors: int | None = None
    one_by_one: bool = False


ALL = Request()
"""The whole tensor in one part."""


def kind_of(name: str) -> str:
    """A step's name without what it counts: ``head 3 scores`` is of the kind ``head scores``.

    The name of a network's node, which has a colon behind it, stays: ``conv2: row 3`` is of the kind ``conv2: row``.
    """
    node, colon, part = name.rpartition(": ")
    return node + colon + " ".join(re.sub(r"\d+", "", part).split())


def label(tensor: Tensor) -> str:
    """A tensor's name in the names of steps."""
    return tensor.name.replace(".", " ").replace("_", " ")
