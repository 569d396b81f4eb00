"""Rule of MaxPool: the larger of a and b is relu(a - b) + b."""

from lpu_isa.vxm import Add, Source, Write
from lpu_sw.compiler.memory import Memory
from lpu_sw.graph.feed_forward import MaxPool
from lpu_sw.graph.graph import Node
from lpu_sw.graph.tensor import GraphError

from .lowering import Lowering

__all__ = ["lower_max_pool"]


def lower_max_pool(lowering: Lowering, node: Node) -> None:
    """Lower a pool, row by row. Values are not clamped: that comes to the same before and after."""
    operator = node.operator
    assert isinstance(operator, MaxPool)
    if any(operator.pads):
        raise GraphError(f"node {node.name} (max_pool): found padding {list(operator.pads)}, supported is none")
    x = lowering.stored[node.inputs[0]]
    made = lowering.store(node, x.offset, x.is_low)
    (height, width), (down, across) = operator.window, operator.strides
    taps = [(ky, kx) for ky in range(height) for kx in range(width)]
    vectors, compared = lowering.spaces[Memory.VECTORS], f"{node.name}, compared"
    spare = vectors.take(compared, 2 * made.image.width)
    for y in range(made.image.height):
        for vector in range(made.image.words):
            to = made.area.word(y, 0, vector)
            steps = {"d": to, "d_step": made.image.words, "write": Write.VMEM, "count": made.image.width}
            for number, (ky, kx) in enumerate(taps):
                source = {"source": Source.VMEM, "x": x.area.word(y * down + ky, kx, vector),
                          "x_step": across * x.image.words}  # fmt: skip
                so_far = {"b": to, "b_step": made.image.words}
                if number == 0:
                    lowering.pass_("first", **source, **steps)
                    continue
                # The largest so far is read as operand b, and what the other one has more is added to it.
                more = {"b": spare + number % 2 * made.image.width, "b_step": 1}
                lowering.pass_("more", **source, add=Add.MINUS_B, **so_far, relu=1,
                               **steps | {"d": more["b"], "d_step": 1})  # fmt: skip
                lowering.pass_("larger", source=Source.VMEM, x=to, x_step=made.image.words, add=Add.B, **more, **steps)
    vectors.give_back(compared)
