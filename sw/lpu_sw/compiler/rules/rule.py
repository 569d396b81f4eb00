"""What a rule is: how one operator becomes steps of the program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from lpu_sw.graph.folded import QuantiseBlocks
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.operator import Operator
from lpu_sw.graph.tensor import Tensor

from ..memory import Demand, Sizes
from ..step import ALL, Part, Request, Step

if TYPE_CHECKING:
    from ..lowering import Lowering

__all__ = ["Rule", "is_streamed", "rule_of"]

_RULES: dict[type[Operator], Rule] = {}


class Rule:
    """A rule for the operators in ``operators``; one file each, which is known once it is imported.

    streams : names of inputs that it takes part by part, so that the operator that makes one is lowered as this one
        asks for it (`Lowering.parts`), if nobody else takes it.
    makes_parts : whether the output comes part by part, activation blocks of it being ready before the last.
    makes_scalar : whether the output lives in a scalar register.
    """

    operators: ClassVar[tuple[type[Operator], ...]]
    streams: ClassVar[frozenset[str]] = frozenset()
    makes_parts: ClassVar[bool] = False
    makes_scalar: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        _RULES.update(dict.fromkeys(cls.operators, cls()))

    def demands(self, node: Node, graph: Graph, sizes: Sizes) -> Iterator[Demand]:
        """What the operator needs of the tile's memories. Raises `DoesNotFit` for what no tile of its rows can do."""
        yield from ()

    def steps(self, lowering: Lowering, node: Node, request: Request = ALL) -> Iterator[Step | Part]:
        """The operator's steps in the order of their meaning, and the parts of its output as they come to be.

        request : what the operator that takes them would like.
        """
        yield from ()

    def receives(self, lowering: Lowering, node: Node, part: Part) -> dict[str, int] | None:
        """Fields that let a pass which makes a part of this operator's input do the operator's work as well.

        None: it wants its input in vector SRAM.
        """
        return None


def rule_of(node: Node) -> Rule:
    """The rule for a node's operator. Raises ValueError, naming both, when there is none."""
    rule = _RULES.get(type(node.operator))
    if rule is None:
        known = ", ".join(sorted(operator.mnemonic() for operator in _RULES))
        raise ValueError(f"node {node.name}: no rule lowers {node.operator.mnemonic()}, expected one of {known}")
    return rule


def is_streamed(graph: Graph, tensor: Tensor) -> bool:
    """Whether a tensor is made part by part, as the one operator that takes it asks for it."""
    maker, users = graph.maker(tensor), graph.users(tensor)
    if maker is None or len(users) != 1 or graph.is_carried(tensor):
        return False
    if isinstance(maker.operator, QuantiseBlocks):
        source = graph.maker(maker.inputs[0])
        if source is None or not rule_of(source).makes_parts:
            return False
    (user,) = users
    if isinstance(user.operator, QuantiseBlocks):
        return is_streamed(graph, user.output)
    return user.operator.inputs[user.inputs.index(tensor)] in rule_of(user).streams
