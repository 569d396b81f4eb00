"""A quantised network and a tile in, a program and its cycles out.

The program is straight: every operation of an inference stands in it once, so the list scheduler sees all of it.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.fields import REGISTERS, Operation
from lpu_isa.icu import IcuOp
from lpu_sw.asm.program import Program, Section
from lpu_sw.compiler.schedule import landed, straight
from lpu_sw.compiler.step import Step
from lpu_sw.graph.graph import Graph
from lpu_sw.graph.integer import IntegerConv
from lpu_sw.graph.tensor import Tensor

from .integers import IntegerNetwork, integer_network
from .lowering import POSTED, Lowering
from .places import Area, PlacesError
from .rules import RULES
from .unfold import unfold_input

__all__ = ["CompiledNetwork", "compile_network"]


@dataclass(frozen=True)
class CompiledNetwork:
    """A network as a program.

    given, made : where the input and the result lie in vector SRAM, as floats that hold integers.
    names : what each bundle's operation is for. cycles : of one inference, from the start to the post.
    """

    network: IntegerNetwork
    program: Program
    given: Area
    made: Area
    names: list[str]
    cycles: int
    matrix_cycles: int

    @property
    def given_tensor(self) -> Tensor:
        """What the host leaves for the tile."""
        return _given(self.network.graph)

    @cached_property
    def macs(self) -> int:
        """Multiplications that the network asks for, the zeros of padded images among them."""
        return sum(
            node.output.size * int(np.prod(node.inputs[1].shape[1:]))
            for node in self.network.graph.nodes()
            if isinstance(node.operator, IntegerConv)
        )

    @property
    def utilisation(self) -> float:
        """Share of the matrix unit's multiplications that the network asked for."""
        return self.macs / (self.cycles * self.program.config.multipliers)


def compile_network(graph: Graph, tile: TileConfig) -> CompiledNetwork:
    """Compile a quantised graph. Raises GraphError for what is not supported, PlacesError for what does not fit."""
    network = unfold_input(integer_network(graph), tile)
    lowering = Lowering(tile, network.graph, RULES)
    given = _given(network.graph)
    made = lowering.lower(given)
    bundles, names, cycles = _scheduled(tile, lowering.steps)
    if len(bundles) > tile.bundles:
        raise PlacesError(f"the program takes {len(bundles)} bundles, the tile has {tile.bundles}")
    encode = lowering.format.encode
    contents = {"wmem": lowering.weights, "vmem": encode(lowering.vectors), "smem": encode(lowering.scales)}
    constants = {name: lowering.spaces[name].constants for name in contents}
    sections = [Section(name, constants[name].start, contents[name][constants[name]]) for name in contents]
    program = Program(tile, bundles, sections=sections)
    matrix = [step.operations["mxm"].values for step in lowering.steps if "mxm" in step.operations]
    matrix_cycles = sum(values["inner"] * values["outer"] for values in matrix)
    return CompiledNetwork(network, program, lowering.stored[given].area, made, names, cycles, matrix_cycles)


def _given(graph: Graph) -> Tensor:
    host = graph.regions[0]
    return host.nodes[-1].output if host.nodes else graph.inputs[0]


def _scheduled(tile: TileConfig, steps: list[Step]) -> tuple[list[Bundle], list[str], int]:
    """Bundles with their names, and the cycle of the post, which waits for all that is written; then comes a halt."""
    isa = BundleFormat(tile)
    piece = straight(isa, steps, [0] * REGISTERS)
    post = landed(piece) + 1
    ends = [
        Step("post", {"icu": Operation("icu", {"op": IcuOp.SEND, "rs": POSTED})}),
        Step("halt", {"icu": Operation("icu", {"op": IcuOp.HALT})}),
    ]
    bundles, names = [], []
    longest = isa.header.by_name["wait"].high
    starts = [*piece.issue, post, post + 1, post + 2]
    for step, (cycle, following) in zip([*piece.steps, *ends], pairwise(starts), strict=True):
        waits = [longest] * ((following - cycle - 1) // longest)
        waits.append(following - cycle - sum(waits))
        bundles += [Bundle(waits[0], operations=step.operations), *map(Bundle, waits[1:])]
        names += [step.name, *["wait"] * (len(waits) - 1)]
    return bundles, names, post
