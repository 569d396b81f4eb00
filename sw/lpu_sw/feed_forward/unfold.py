"""Pass: the columns that the first convolution's window covers become channels, which the host lays side by side.

A network's input has few channels, and a vector and the columns of the matrix unit have room for more: with 3 channels
of 16, a window of 3 x 3 takes 9 steps a pixel, and 3 when its 3 columns are channels. The input takes no more words.
"""

from dataclasses import replace

from lpu_isa.config import TileConfig
from lpu_sw.graph.graph import Graph
from lpu_sw.graph.integer import IntegerConv, Unfold
from lpu_sw.graph.tensor import Tensor

from .integers import IntegerNetwork

__all__ = ["unfold_input"]


def unfold_input(network: IntegerNetwork, tile: TileConfig) -> IntegerNetwork:
    """The network with its first convolution unfolded, if it alone takes the input and a vector holds the columns."""
    old = network.graph
    first = old.regions[-1].nodes[0]
    operator = first.operator
    if not isinstance(operator, IntegerConv) or operator.groups > 1:
        return network
    x, weights = first.inputs[0], first.inputs[1]
    outputs, channels, height, width = weights.shape
    if width == 1 or channels * width > tile.rows or len(old.users(x)) > 1:
        return network
    new = Graph(old.name)
    tensors: dict[Tensor, Tensor] = {}
    for tensor in old.inputs:
        tensors[tensor] = new.input(tensor.name, tensor.shape, tensor.element)
    for tensor in old.constants:
        data = tensor.data
        assert data is not None
        if tensor is weights:
            data = data.transpose(0, 1, 3, 2).reshape(outputs, -1, height, 1)
        tensors[tensor] = new.constant(tensor.name, data, tensor.element)
    for region in old.regions:
        target = new.region(region.name)
        for node in region.nodes:
            inputs = [tensors[tensor] for tensor in node.inputs]
            if node is first:
                above, left, below, right = operator.pads
                columns = Unfold(width, operator.strides[1], left, right, operator.x_zero)
                inputs[0] = new.regions[0].add(f"{node.name}.columns", columns, inputs[0])
                changed = replace(operator, strides=(operator.strides[0], 1), pads=(above, 0, below, 0))
                tensors[node.output] = target.add(node.name, changed, *inputs)
            else:
                tensors[node.output] = target.add(node.name, node.operator, *inputs)
    result = replace(network.result, tensor=tensors[network.result.tensor])
    new.result(result.tensor)
    return replace(network, graph=new, result=result)
