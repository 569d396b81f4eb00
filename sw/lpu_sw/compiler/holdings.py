"""Which tensor's numbers the words of shared places hold, while a region's steps are made one after the other.

Tensors of one kind lie in one place, and a newer one takes it word by word: a sum, that of its first operand. This is
right as long as nobody takes the older one afterwards, which is checked here.
"""

from lpu_sw.graph.graph import Graph, Region
from lpu_sw.graph.tensor import ElementType, GraphError, Tensor

from .memory import Memory

__all__ = ["Holdings"]

_ELEMENTS = {Memory.VECTORS: ElementType.FLOAT, Memory.BLOCKS: ElementType.BLOCKS}
"""Memories whose places are shared, and what lies in them."""


class Holdings:
    """The words of a region's shared places, which at first hold what earlier regions left there."""

    def __init__(self, graph: Graph, region: Region) -> None:
        self._inherited = {memory: _last_made(graph, region, element) for memory, element in _ELEMENTS.items()}
        self._sources = {inside: outside for inside, (outside, _) in region.carried.items()}
        self._holders: dict[tuple[Memory, str, int], Tensor] = {}
        self._is_repeated = region.is_repeated
        self._taken_over: set[tuple[Memory, Tensor, int]] = set()

    def write(self, memory: Memory, tensor: Tensor, first: int, count: int) -> None:
        """A step puts words ``first .. first + count`` of a tensor into their place."""
        self._holders |= {(memory, tensor.kind, word): tensor for word in range(first, first + count)}

    def read(self, memory: Memory, tensor: Tensor, first: int, count: int) -> None:
        """A step takes these words. Raises GraphError when another tensor has their place by then."""
        inherited = self._inherited[memory].get(tensor.kind)
        if tensor in self._sources and inherited is self._sources[tensor]:
            inherited = tensor
        elif inherited is tensor:
            self._taken_over |= {(memory, tensor, word) for word in range(first, first + count)}
        for word in range(first, first + count):
            holder = self._holders.get((memory, tensor.kind, word), inherited)
            if holder is not tensor:
                held = f"holds {holder.name} by then" if holder else "holds nothing yet"
                raise GraphError(f"{tensor.name} is taken from the {memory.value} where its place {held}")

    def close(self) -> None:
        """The region's steps end here. Raises GraphError when a next round would not find what this one found."""
        for memory, tensor, word in tuple(self._taken_over) if self._is_repeated else ():
            self.read(memory, tensor, word, 1)


def _last_made(graph: Graph, region: Region, element: ElementType) -> dict[str, Tensor]:
    """By kind, the last tensor with such elements that the regions before this one make."""
    before = graph.regions[: graph.regions.index(region)]
    made = (tensor for each in before for node in each.nodes for tensor in node.outputs)
    return {tensor.kind: tensor for tensor in made if tensor.element is element and tensor.shape}
