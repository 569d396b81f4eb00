"""The graph: shapes follow from operators, impossible nodes are refused in words, and its text says what it is."""

import doctest
import re

import numpy as np
import pytest

from lpu_sw.graph import graph as graph_module
from lpu_sw.graph.elementwise import Add, Clip, Relu
from lpu_sw.graph.feed_forward import (
    AveragePool,
    Conv,
    DequantizeLinear,
    Flatten,
    GlobalAveragePool,
    MatMul,
    MaxPool,
    QuantizeLinear,
    Reshape,
    Softmax,
    Transpose,
)
from lpu_sw.graph.graph import Graph
from lpu_sw.graph.language import Argmax, Attention, CacheAppend, Embedding, ExpertLinear, Linear, Rotary, TopExperts
from lpu_sw.graph.operator import Operator
from lpu_sw.graph.tensor import ElementType, GraphError, Tensor, TensorType

INT32 = ElementType.INT32


def made(operator: Operator, *shapes: tuple[int, ...], elements: dict[int, ElementType] | None = None) -> str:
    """What a node makes of inputs of these shapes, as text; ``elements`` of the inputs that are not float32."""
    graph = Graph("test")
    elements = elements or {}
    inputs = [graph.input(f"i{i}", s, elements.get(i, ElementType.FLOAT)) for i, s in enumerate(shapes)]
    names = tuple(f"o{i}" for i in range(len(operator.outputs(inputs))))
    return ", ".join(str(t.type) for t in graph.region("main").add_several(names, operator, *inputs))


def test_the_example_in_the_docstring():
    assert doctest.testmod(graph_module) == (0, 5)


@pytest.mark.parametrize(
    ("operator", "shapes", "expected"),
    [
        (Conv((2, 2), (1, 1, 1, 1)), [(1, 3, 32, 32), (16, 3, 3, 3), (16,)], "float32[1, 16, 16, 16]"),
        (Conv(groups=8), [(1, 8, 5, 7), (8, 1, 3, 3)], "float32[1, 8, 3, 5]"),
        (MatMul(), [(1, 64), (64, 10), (10,)], "float32[1, 10]"),
        (MaxPool((2, 2), (2, 2)), [(1, 8, 7, 6)], "float32[1, 8, 3, 3]"),
        (AveragePool((3, 3), (1, 1), (1, 1, 1, 1)), [(1, 8, 7, 6)], "float32[1, 8, 7, 6]"),
        (GlobalAveragePool(), [(1, 8, 7, 6)], "float32[1, 8, 1, 1]"),
        (Flatten(), [(1, 8, 2, 2)], "float32[1, 32]"),
        (Reshape((4, 4)), [(1, 16)], "float32[4, 4]"),
        (Transpose((0, 2, 3, 1)), [(1, 2, 3, 4)], "float32[1, 3, 4, 2]"),
        (Add(), [(1, 4), (1, 4)], "float32[1, 4]"),
        (Clip(0.0, 6.0), [(1, 4)], "float32[1, 4]"),
        (Softmax(), [(1, 4)], "float32[1, 4]"),
        (Linear(), [(4, 8), (64, 4, 8)], "float32[64]"),
        (Linear(), [(64,), (4, 8, 64)], "float32[4, 8]"),
        (TopExperts(2, 1.0), [(4,)], "int32[], int32[], float32[], float32[]"),
        (Argmax(5), [(8,)], "int32[]"),
        (Rotary(), [(4, 8), (8,), (8,)], "float32[4, 8]"),
    ],
    ids=lambda value: value.mnemonic() if isinstance(value, Operator) else None,
)
def test_shapes_follow_from_the_operator(operator, shapes, expected):
    assert made(operator, *shapes) == expected


def test_elements_follow_from_the_operator():
    assert made(QuantizeLinear(), (1, 4), (), (), elements={2: ElementType.UINT8}) == "uint8[1, 4]"
    assert made(DequantizeLinear(), (4, 3), (3,), (3,), elements=dict.fromkeys((0, 2), INT32)) == "float32[4, 3]"
    assert made(Embedding(), (), (9, 4), elements={0: INT32}) == "float32[4]"
    assert made(CacheAppend(16, "row"), (2, 8), (), elements={1: INT32}) == "int8 cache[16, 2, 8]"
    assert made(ExpertLinear(), (64,), (4, 96, 64), (), elements={2: INT32}) == "float32[96]"


@pytest.mark.parametrize(
    ("operator", "shapes", "message"),
    [
        (Conv(), [(1, 3, 8, 8), (4, 2, 3, 3)], "input weights (i1) has shape [4, 2, 3, 3] in 1 groups, expected 3"),
        (Conv(), [(3, 8, 8), (4, 3, 3, 3)], "input x (i0) has shape [3, 8, 8], expected 4 axes"),
        (MaxPool((9, 2)), [(1, 3, 8, 8)], "input (i0) is 8 x 8 with padding, expected at least 9 x 2"),
        (MatMul(), [(1, 8), (9, 4)], "input weights (i1) has shape [9, 4], expected [8, 4]"),
        (Add(), [(4,), (5,)], "input b (i1) has shape [5], expected [4]"),
        (Relu(), [(4,), (4,)], "found 2 inputs, expected 1: x"),
        (Linear(), [(8,), (4, 9)], "input weights (i1) has shape [4, 9], expected [8] of x (i0) behind its outputs"),
        (Argmax(9), [(8,)], "input x (i0) has shape [8], expected 1 axis of at least 9"),
        (Embedding(), [(), (9, 4)], "input token (i0) holds float32, expected int32"),
        (Attention(1.0), [(4, 8), (9, 2, 8), (9, 2, 8)], "input keys (i1) holds float32, expected int8 cache"),
        (Reshape((3,)), [(4,)], "input x (i0) has shape [4], expected as many elements as [3]"),
        (Transpose((0, 0)), [(4, 4)], "found permutation [0, 0], expected each of the 2 axes once"),
    ],
    ids=lambda value: value.mnemonic() if isinstance(value, Operator) else None,
)
def test_impossible_nodes_are_refused(operator, shapes, message):
    with pytest.raises(GraphError, match=re.escape(message)):
        made(operator, *shapes)


def test_an_error_names_the_node():
    graph = Graph("test")
    x = graph.input("x", (4,))
    with pytest.raises(GraphError, match=re.escape("node sum (add): input b (x2) has shape [5], expected [4]")):
        graph.region("main").add("sum", Add(), x, graph.input("x2", (5,)))


def test_a_repeated_region_carries_and_is_printed():
    graph = Graph("test")
    x = graph.input("x", (2,))
    weights = graph.constant("w", np.ones((3, 2, 2)), rounds=3)
    layer = graph.region("layer", 3)
    inside = layer.carry("state", x)
    layer.close(inside, layer.add("state.next", Linear(), inside, weights))
    graph.result(layer.carried[inside][1])
    assert str(graph).splitlines() == [
        "graph test",
        "input x: float32[2]",
        "constant w: 3 x float32[2, 2]",
        "layer, 3 times, state from x, then state.next:",
        "  state.next: float32[2] = linear(state, w)",
        "result state.next",
    ]


def test_what_a_region_carries_keeps_its_type():
    graph = Graph("test")
    layer = graph.region("layer", 2)
    inside = layer.carry("state", graph.input("x", (2,)))
    with pytest.raises(GraphError, match=re.escape("carries state: float32[2], found y: float32[3] for the next")):
        layer.close(inside, graph.input("y", (3,)))


def test_names_are_taken_once_and_tensors_are_the_graphs_own():
    graph, other = Graph("test"), Graph("other")
    x = graph.input("x", (2,))
    with pytest.raises(GraphError, match="the name x is taken"):
        graph.input("x", (3,))
    with pytest.raises(GraphError, match="tensor x is not of graph other"):
        other.region("main").add("y", Relu(), x)
    with pytest.raises(GraphError, match=re.escape("constant w: found numbers of shape [2, 2], expected [3, 2]")):
        Tensor("w", TensorType((2,)), np.ones((2, 2)), rounds=3)
