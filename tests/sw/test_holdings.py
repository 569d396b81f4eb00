"""Tensors that share a place: a graph in which an older one is taken after a newer one has its place is refused."""

from __future__ import annotations

import pytest

from lpu_isa.config import SHAPES
from lpu_sw.compiler.calibrate import calibrate
from lpu_sw.compiler.llama import Compilation
from lpu_sw.compiler.lowering import tile
from lpu_sw.graph.elementwise import Add
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.tensor import GraphError, Tensor
from lpu_sw.model import LlamaConfig

CONFIG = LlamaConfig(
    dim=24, hidden_dim=20, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=12, vocab_size=50, max_positions=16,
    n_experts=5, experts_per_token=2,
)  # fmt: skip
TILE = SHAPES["8x16"].replace(smem_words=1024)


@pytest.fixture
def compilation(random_model) -> Compilation:
    model = random_model(CONFIG)
    return Compilation(model, TILE, context=16, ranges=calibrate(model, [[3, 1, 4, 1, 5]]))


def lower(compilation: Compilation) -> None:
    """All regions to steps."""
    for region in compilation.layout.graph.regions:
        tile(compilation.layout, region)


def refusal(compilation: Compilation) -> str:
    with pytest.raises(GraphError) as caught:
        lower(compilation)
    return str(caught.value)


def computed(graph: Graph) -> dict[str, Tensor]:
    """The tensors that are no constants, by name."""
    carried = {tensor.name: tensor for region in graph.regions for tensor in region.carried}
    return carried | {tensor.name: tensor for node in graph.nodes() for tensor in node.outputs}


def replace(graph: Graph, node: str, taken: str, instead: str) -> None:
    """Let a node take another tensor."""
    tensors = computed(graph)
    for region in graph.regions:
        for at, old in enumerate(region.nodes):
            if old.name == node:
                inputs = tuple(tensors[instead] if tensor.name == taken else tensor for tensor in old.inputs)
                region.nodes[at] = Node(old.operator, inputs, old.outputs)


def test_a_model_takes_what_is_there(compilation):
    lower(compilation)


@pytest.mark.parametrize(
    ("node", "taken", "instead", "message"),
    [
        ("router", "normed.feed_forward", "normed",
         "hidden.blocks is taken from the activation buffer where its place holds hidden.attended.blocks by then"),
        ("hidden.attended", "hidden", "hidden.embedded",
         "hidden.embedded is taken from the vector SRAM where its place holds hidden.next by then"),
        ("final", "hidden.next", "hidden.embedded",
         "hidden.embedded is taken from the vector SRAM where its place holds hidden.next by then"),
    ],
    ids=["blocks that were replaced", "what is there in the first round only", "what was there before the layers"],
)  # fmt: skip
def test_a_node_that_takes_another_tensor(compilation, node, taken, instead, message):
    replace(compilation.graph, node, taken, instead)
    assert refusal(compilation) == message


def test_a_sum_with_what_an_earlier_sum_replaced(compilation):
    _, _, layer, _ = compilation.graph.regions
    ((before, (_, made)),) = layer.carried.items()
    layer.close(before, layer.add("hidden.again", Add(), made, computed(compilation.graph)["hidden.attended"]))
    replace(compilation.graph, "final", "hidden.next", "hidden.again")
    message = "hidden.attended is taken from the vector SRAM where its place holds hidden.next by then"
    assert refusal(compilation) == message
