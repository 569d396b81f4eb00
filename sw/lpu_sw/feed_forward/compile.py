"""A quantised network and a tile in, a program and its cycles out.

The program is straight: every operation of an inference stands in it once, so the list scheduler sees all of it.
"""

from dataclasses import dataclass
from functools import cached_property

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.fields import REGISTERS
from lpu_isa.formats import FloatFormat
from lpu_isa.icu import IcuOp
from lpu_sw.asm.program import Program, Section
from lpu_sw.compiler.memory import Memory, Stretch
from lpu_sw.compiler.schedule import Piece, landed, straight
from lpu_sw.compiler.writer import Writer
from lpu_sw.graph.graph import Graph, Node
from lpu_sw.graph.integer import IntegerConv

from .conv import ROW
from .integers import IntegerNetwork, integer_network
from .lowering import POSTED, Lowering
from .places import Area
from .rules import RULES
from .unfold import unfold_input

__all__ = ["CompiledNetwork", "NetworkCompilation", "compile_network"]


@dataclass(frozen=True)
class CompiledNetwork:
    """A network as a program.

    names : what each bundle's operation is for. stretches : the memory map.
    given, made : where the input and the result lie in vector SRAM, as floats that hold integers.
    cycles : of one inference, from the start to the post.
    macs : multiplications that the network itself asks for, padding not counted, by kind of matrix operation
        (`lpu_sw.compiler.step.kind_of`).
    """

    network: IntegerNetwork
    program: Program
    names: list[str]
    stretches: list[Stretch]
    given: Area
    made: Area
    cycles: int
    macs: dict[str, int]

    @cached_property
    def matrix_cycles(self) -> int:
        """Cycles in which the matrix unit takes a step."""
        matrix = [bundle.operations["mxm"] for bundle in self.program.bundles if "mxm" in bundle.operations]
        return sum(operation["inner"] * operation["outer"] for operation in matrix)

    @property
    def utilisation(self) -> float:
        """Share of the matrix unit's multiplications that the network asked for."""
        return sum(self.macs.values()) / (self.cycles * self.program.config.multipliers)


class NetworkCompilation:
    """A network on its way through the passes; the result of each is made when it is first asked for.

    graph : as the front end gives it. The passes raise GraphError for what is not supported, `DoesNotFit` for a tile
    that is too small.
    """

    def __init__(self, graph: Graph, tile: TileConfig) -> None:
        self.graph, self.tile = graph, tile

    @cached_property
    def integers(self) -> IntegerNetwork:
        """After pass `integers`."""
        return integer_network(self.graph)

    @cached_property
    def unfolded(self) -> IntegerNetwork:
        """After pass `unfold`."""
        return unfold_input(self.integers, self.tile)

    @cached_property
    def lowering(self) -> Lowering:
        """After the passes `layout` and `tile`, which go hand in hand: an image is given its words as it is made."""
        lowering = Lowering(self.tile, self.unfolded.graph, RULES)
        lowering.lower(self.unfolded.given)
        return lowering

    @property
    def macs(self) -> dict[str, int]:
        """See `CompiledNetwork`; of the network as it was before the host took over some of its padding."""
        nodes = [node for node in self.integers.graph.nodes() if isinstance(node.operator, IntegerConv)]
        return {f"{node.name}: {ROW}": _macs(node) for node in nodes}

    @cached_property
    def schedule(self) -> Piece:
        """After pass `schedule`."""
        return straight(BundleFormat(self.tile), self.lowering.steps, [0] * REGISTERS)

    @cached_property
    def built(self) -> Writer:
        """After pass `bundles`: the post waits for all that is written, then comes a halt."""
        writer = Writer(self.tile)
        writer.piece(self.schedule, landed(self.schedule) + 1)
        writer.icu("post", IcuOp.SEND, 1, rs=POSTED)
        writer.icu("halt", IcuOp.HALT, 1)
        writer.finish()
        return writer

    @cached_property
    def compiled(self) -> CompiledNetwork:
        """The program with its memory contents."""
        network, lowering, built = self.unfolded, self.lowering, self.built
        encode = FloatFormat(self.tile.significand_bits).encode
        first = {memory: space.kept_from for memory, space in lowering.spaces.items()}
        program = Program(
            self.tile,
            built.bundles,
            sections=[
                Section("wmem", first[Memory.WEIGHTS], lowering.contents(Memory.WEIGHTS)),
                Section("vmem", first[Memory.VECTORS], encode(lowering.contents(Memory.VECTORS))),
                Section("smem", first[Memory.SCALES], encode(lowering.contents(Memory.SCALES))),
            ],
        )
        given = lowering.stored[network.given].area
        cycles = landed(self.schedule) + 1
        return CompiledNetwork(
            network, program, built.names, list(lowering.stretches()), given, lowering.made, cycles, self.macs
        )  # fmt: skip


def _macs(node: Node) -> int:
    """Products of a weight and an element of the image in one convolution."""
    operator = node.operator
    assert isinstance(operator, IntegerConv)
    (_, _, height, width), (outputs, per_group, *window) = node.inputs[0].shape, node.inputs[1].shape
    above, left, *_ = operator.pads
    rows = _covered(height, window[0], operator.strides[0], above, node.output.shape[2])
    columns = _covered(width, window[1], operator.strides[1], left, node.output.shape[3])
    return outputs * per_group * rows * columns


def _covered(size: int, window: int, stride: int, before: int, count: int) -> int:
    """How many of ``size`` rows so many windows cover in all, the first one beginning ``before`` rows outside."""
    starts = range(-before, count * stride - before, stride)
    return sum(min(start + window, size) - max(start, 0) for start in starts)


def compile_network(graph: Graph, tile: TileConfig) -> CompiledNetwork:
    """Compile a quantised graph. Raises GraphError for what is not supported, `DoesNotFit` for what does not fit."""
    return NetworkCompilation(graph, tile).compiled
