"""A new graph from an old one, node by node: what the passes that rewrite graphs share."""

from collections.abc import Callable
from dataclasses import dataclass

from lpu_sw.graph.graph import Graph, Node, Region
from lpu_sw.graph.operator import Operator
from lpu_sw.graph.tensor import Tensor

__all__ = ["Rewriter"]


@dataclass
class Rewriter:
    """Walks ``old`` and fills ``new``; ``region`` is the one of ``new`` that is being filled.

    Constants and inputs come over when they are first asked for, so that what no node takes any more is gone.
    """

    old: Graph

    def __post_init__(self) -> None:
        self.new = Graph(self.old.name)
        self._of: dict[Tensor, Tensor] = {}
        self._regions: dict[Tensor, Region] = {}
        self._derived: dict[tuple[Tensor, Operator], Tensor] = {}
        for tensor in self.old.inputs:
            self._of[tensor] = self.new.input(tensor.name, tensor.shape, tensor.element)

    def __getitem__(self, tensor: Tensor) -> Tensor:
        """What stands for a tensor of the old graph."""
        if tensor not in self._of and tensor.data is not None:
            self._of[tensor] = self.constant(tensor.name, tensor)
        return self._of[tensor]

    def __setitem__(self, tensor: Tensor, new: Tensor) -> None:
        self._of[tensor] = new

    def constant(self, name: str, like: Tensor, **changes: object) -> Tensor:
        """A constant for each round that the old one ``like`` has one for; ``data`` and ``element`` may differ."""
        given = {"data": like.data, "element": like.element, "rounds": like.rounds, **changes}
        return self.new.constant(name, **given)  # type: ignore[arg-type]

    def copy(self, node: Node) -> None:
        """Take a node over as it is."""
        self.put(node, node.operator, *(self[tensor] for tensor in node.inputs))

    def put(self, node: Node, operator: Operator, *inputs: Tensor) -> None:
        """Put another operator and other inputs in a node's place."""
        outputs = self.region.add_several(tuple(t.name for t in node.outputs), operator, *inputs)
        for old, new in zip(node.outputs, outputs, strict=True):
            self._of[old], self._regions[new] = new, self.region

    def derived(self, tensor: Tensor, operator: Operator, suffix: str) -> Tensor:
        """What ``operator`` makes of a tensor of the new graph: made once, in the region that makes the tensor.

        Of a tensor that a region carries, it is carried as well.
        """
        known = self._derived.get((tensor, operator))
        if known is not None:
            return known
        name = f"{tensor.name}.{suffix}"
        if tensor in self.region.carried:
            outside = self.derived(self.region.carried[tensor][0], operator, suffix)
            made = self.region.carry(name, outside)
            self._waiting.append((tensor, made, operator, suffix))
        else:
            region = self._regions[tensor]
            made = region.add(name, operator, tensor)
            self._regions[made] = region
        self._derived[tensor, operator] = made
        return made

    def run(self, rewrite: Callable[[Node], None]) -> Graph:
        """Call ``rewrite`` for every node of the old graph, in order; it puts what it wants into the new one."""
        for region in self.old.regions:
            self.region = self.new.region(region.name, region.rounds)
            self._waiting: list[tuple[Tensor, Tensor, Operator, str]] = []
            for inside, (outside, _) in region.carried.items():
                self._of[inside] = self.region.carry(inside.name, self[outside])
            for node in region.nodes:
                rewrite(node)
            for inside, (_, made) in region.carried.items():
                self.region.close(self[inside], self[made])
            for tensor, inside, operator, suffix in self._waiting:
                made = self.region.carried[tensor][1]
                self.region.close(inside, self.derived(made, operator, suffix))
        for tensor in self.old.results:
            self.new.result(self[tensor])
        return self.new
