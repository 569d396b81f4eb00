"""Graphs: regions of nodes in topological order, each tensor made once, shapes checked as nodes are added."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .operator import Operator
from .tensor import ElementType, GraphError, Shape, Tensor, TensorType

__all__ = ["Graph", "Node", "Region"]


@dataclass(frozen=True, eq=False)
class Node:
    """An operator applied: what it takes and what it makes."""

    operator: Operator
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def output(self) -> Tensor:
        """The only output of a node that has one."""
        (output,) = self.outputs
        return output

    def input(self, name: str) -> Tensor | None:
        """An input by the operator's name for it; None where it is left out."""
        at = self.operator.inputs.index(name)
        return self.inputs[at] if at < len(self.inputs) else None

    @property
    def name(self) -> str:
        """The name of its first output."""
        return self.outputs[0].name

    def __str__(self) -> str:
        made = ", ".join(f"{tensor.name}: {tensor.type}" for tensor in self.outputs)
        taken = ", ".join(tensor.name for tensor in self.inputs)
        attributes = self.operator.attributes()
        return f"{made} = {self.operator.mnemonic()}({taken}{'; ' + attributes if attributes else ''})"


@dataclass(eq=False)
class Region:
    """Nodes that run one after the other, ``rounds`` times.

    carried : tensors that a round takes from the round before (the first: from outside), with where they come from:
        ``carried[inside] = (outside, made by the round)``.
    """

    graph: "Graph"
    name: str
    rounds: int = 1
    nodes: list[Node] = field(default_factory=list)
    carried: dict[Tensor, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def is_repeated(self) -> bool:
        """Whether it is a loop, of which each round goes on from the one before; be it of one round."""
        return bool(self.carried)

    def add(self, name: str, operator: Operator, *inputs: Tensor) -> Tensor:
        """Append a node with one output, called ``name``. Raises GraphError, naming node and operator."""
        (output,) = self.add_several((name,), operator, *inputs)
        return output

    def add_several(self, names: tuple[str, ...], operator: Operator, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Append a node with an output for each name. Raises GraphError, naming node and operator."""
        where = f"node {names[0]} ({operator.mnemonic()})"
        try:
            types = operator.outputs(inputs)
            if len(names) != len(types):
                raise GraphError(f"found {len(names)} names of outputs, expected {len(types)}")
            for tensor in inputs:
                self.graph.check_known(tensor)
        except GraphError as error:
            raise GraphError(f"{where}: {error}") from None
        outputs = tuple(self.graph.define(Tensor(name, type_)) for name, type_ in zip(names, types, strict=True))
        self.nodes.append(Node(operator, inputs, outputs))
        return outputs

    def carry(self, name: str, outside: Tensor) -> Tensor:
        """A tensor that the first round takes from ``outside`` and later rounds from the one before (see `close`)."""
        self.graph.check_known(outside)
        inside = self.graph.define(Tensor(name, outside.type))
        self.carried[inside] = (outside, inside)
        return inside

    def close(self, inside: Tensor, made: Tensor) -> None:
        """Say what a round passes on as ``inside``. After the last round, ``made`` is what the region leaves behind."""
        if inside not in self.carried:
            raise GraphError(f"region {self.name} does not carry {inside.name}")
        if inside.type != made.type:
            raise GraphError(f"region {self.name} carries {inside}, found {made.name}: {made.type} for the next round")
        self.carried[inside] = (self.carried[inside][0], made)

    def __str__(self) -> str:
        carried = "".join(f", {inside.name} from {outside.name}, then {made.name}"
                          for inside, (outside, made) in self.carried.items())  # fmt: skip
        times = f", {self.rounds} times" if self.is_repeated else ""
        return "\n".join([f"{self.name}{times}{carried}:", *(f"  {node}" for node in self.nodes)])


class Graph:
    """A model: inputs, constants, and regions that run in order. ``str(graph)`` is the graph as text.

    >>> from lpu_sw.graph.elementwise import Relu
    >>> graph = Graph("example")
    >>> x = graph.input("x", (2, 3))
    >>> graph.result(graph.region("main").add("y", Relu(), x))
    >>> print(graph)
    graph example
    input x: float32[2, 3]
    main:
      y: float32[2, 3] = relu(x)
    result y
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[Tensor] = []
        self.constants: list[Tensor] = []
        self.regions: list[Region] = []
        self.results: list[Tensor] = []
        self._tensors: dict[str, Tensor] = {}

    def define(self, tensor: Tensor) -> Tensor:
        """Take in a tensor. Raises GraphError when its name is taken."""
        if tensor.name in self._tensors:
            raise GraphError(f"graph {self.name}: the name {tensor.name} is taken")
        self._tensors[tensor.name] = tensor
        return tensor

    def check_known(self, tensor: Tensor) -> None:
        """Raise GraphError unless the tensor is one of this graph's."""
        if self._tensors.get(tensor.name) is not tensor:
            raise GraphError(f"tensor {tensor.name} is not of graph {self.name}")

    def input(self, name: str, shape: Shape, element: ElementType = ElementType.FLOAT) -> Tensor:
        """A tensor that is given when the graph runs."""
        tensor = self.define(Tensor(name, TensorType(shape, element)))
        self.inputs.append(tensor)
        return tensor

    def constant(
        self, name: str, data: np.ndarray, element: ElementType = ElementType.FLOAT, rounds: int = 0
    ) -> Tensor:
        """A tensor whose numbers are known; with ``rounds``, an entry of ``data`` for each round of a region."""
        shape = data.shape[1:] if rounds else data.shape
        tensor = self.define(Tensor(name, TensorType(shape, element), data, rounds))
        self.constants.append(tensor)
        return tensor

    def region(self, name: str, rounds: int = 1) -> Region:
        """A region behind those that are there."""
        region = Region(self, name, rounds)
        self.regions.append(region)
        return region

    def result(self, tensor: Tensor) -> None:
        """Say that a tensor is what the graph is for."""
        self.check_known(tensor)
        self.results.append(tensor)

    def nodes(self) -> Iterator[Node]:
        """All nodes, in order, those of a repeated region once."""
        for region in self.regions:
            yield from region.nodes

    def maker(self, tensor: Tensor) -> Node | None:
        """The node that makes a tensor; None for inputs, constants and what a region carries."""
        return next((node for node in self.nodes() if tensor in node.outputs), None)

    def users(self, tensor: Tensor) -> list[Node]:
        """Nodes that take a tensor, in order."""
        return [node for node in self.nodes() if tensor in node.inputs]

    def is_carried(self, tensor: Tensor) -> bool:
        """Whether a region takes a tensor from outside, or from one round to the next."""
        return any(tensor in (inside, *ends) for region in self.regions for inside, ends in region.carried.items())

    def __str__(self) -> str:
        return "\n".join([
            f"graph {self.name}",
            *(f"input {tensor}" for tensor in self.inputs),
            *(f"constant {tensor}" for tensor in self.constants),
            *map(str, self.regions),
            *(f"result {tensor.name}" for tensor in self.results),
        ])  # fmt: skip
