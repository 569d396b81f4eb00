"""Pass `tile`: a region's operators as steps of the program, in the order of their meaning.

Each operator has a rule (`rules`). A rule makes parts of its output; whoever takes the output says what becomes of a
part, so that one pass of the vector unit does the work of several: it ends a matmul, adds, quantises and sums squares.
"""

from collections.abc import Iterator

from lpu_isa.fields import Operation
from lpu_isa.icu import IcuOp
from lpu_isa.mxm import MxmOp
from lpu_isa.sxm import SxmOp
from lpu_isa.vxm import Source, VxmOp, Write
from lpu_sw.graph.graph import Node, Region
from lpu_sw.graph.tensor import ElementType, Tensor

from .holdings import Holdings
from .layout import Layout, Place
from .memory import Memory, ceil_div, check_summed
from .registers import ExpertRegisters, Register, expert_registers
from .rules.rule import is_streamed, rule_of
from .step import ALL, Part, Request, Step, label

__all__ = ["Lowering", "tile"]


def tile(layout: Layout, region: Region, limit: int | None = None) -> list[Step]:
    """The steps of a region, for positions below ``limit`` (default: all of the context)."""
    return list(Lowering(layout, region, limit or layout.context).steps())


class Lowering:
    """One region on its way to steps: what its rules ask of it.

    limit : positions lie below; it decides how many accumulators and blocks a head's scores take.
    """

    def __init__(self, layout: Layout, region: Region, limit: int) -> None:
        self.layout, self.region, self.limit = layout, region, limit
        self.graph, self.sizes, self.tile = layout.graph, layout.sizes, layout.tile
        self._holdings = Holdings(layout.graph, region)
        self._next_accumulator = layout.end(Memory.ACCUMULATORS)
        self._next_block = layout.end(Memory.BLOCKS)
        # A part that is large enough to hide the pass behind it.
        per_block = layout.tile.words_per_block
        self.chunk = per_block * max(1, ceil_div(4, per_block))

    def steps(self) -> Iterator[Step]:
        """All steps of the region; of one that repeats, with those that go to the next round's words."""
        for node in self.region.nodes:
            if not any(is_streamed(self.graph, tensor) for tensor in node.outputs):
                for item in rule_of(node).steps(self, node):
                    yield item if isinstance(item, Step) else self.close(item, node.output)
        for _, passed_on in self.region.carried.values():
            if passed_on.element is ElementType.BLOCKS:
                self.read_blocks(passed_on, 0, self.sizes.blocks(passed_on.shape))
            elif passed_on.shape:
                self.read_vectors(passed_on, 0, self.sizes.vectors(passed_on.shape))
        self._holdings.close()
        if self.region.is_repeated:
            for register, memory in (
                (Register.LAYER, Memory.WEIGHTS),
                (Register.KEY, Memory.WEIGHTS),
                (Register.VALUE, Memory.WEIGHTS),
                (Register.SCALES, Memory.SCALES),
            ):
                yield self.icu(f"next {register.name.lower()}", IcuOp.ADDI, rd=register, rs=register,
                               imm=self.layout.stride(memory))  # fmt: skip

    # Parts of tensors

    def parts(self, tensor: Tensor, request: Request = ALL) -> Iterator[Step | Part]:
        """The parts of a tensor, and what has to happen before each; one part, where it has been made before."""
        if is_streamed(self.graph, tensor):
            maker = self.graph.maker(tensor)
            assert maker is not None
            yield from rule_of(maker).steps(self, maker, request)
            return
        count = self.sizes.vectors(tensor.shape)
        yield Part(label(tensor), "read", 0, count, {"source": Source.VMEM, "x": self.read_vectors(tensor, 0, count)})

    def blocks(self, tensor: Tensor) -> Iterator[Step | range]:
        """Numbers of a quantised tensor's blocks as they come to be, and what has to happen before."""
        if not is_streamed(self.graph, tensor):
            yield range(self.sizes.blocks(tensor.shape))
            return
        maker = self.graph.maker(tensor)
        assert maker is not None
        (source,) = maker.inputs
        per_block = self.tile.words_per_block
        for item in self.parts(source):
            if isinstance(item, Step):
                yield item
                continue
            yield self.close(item, source)
            first = item.first // per_block
            yield range(first, first + ceil_div(item.count, per_block))

    def close(self, part: Part, tensor: Tensor) -> Step:
        """The pass that makes a part of a tensor, with everything that those who take the tensor want of it."""
        fields = dict(part.scaled)
        stored = self.graph.is_carried(tensor)
        for user in self.graph.users(tensor):
            received = rule_of(user).receives(self, user, part)
            stored |= received is None
            fields |= received or {}
        if stored:
            self._holdings.write(Memory.VECTORS, tensor, part.first, part.count)
            fields |= {"write": Write.VMEM, "d": self.vectors(tensor) + part.first}
        return self.vxm(part.title, part.count, **fields)

    # Places

    def vectors(self, tensor: Tensor, use: str = "") -> int:
        """First vector SRAM word of a tensor's kind, or of what is kept on the way to it."""
        return self.layout.place(Memory.VECTORS, f"{tensor.kind} {use}" if use else tensor.kind).address

    def place(self, memory: Memory, tensor: Tensor) -> Place:
        """Where a tensor lies."""
        return self.layout.place(memory, tensor.name)

    def read_vectors(self, tensor: Tensor, first: int, count: int) -> int:
        """Vector SRAM word of a tensor's vector ``first``, of ``count`` that a step takes.

        Raises GraphError when they are no longer there.
        """
        self._holdings.read(Memory.VECTORS, tensor, first, count)
        return self.vectors(tensor) + first

    def read_blocks(self, tensor: Tensor, first: int, count: int) -> int:
        """Activation block of a quantised tensor's block ``first``, of ``count`` that a step takes.

        Raises GraphError when they are no longer there.
        """
        self._holdings.read(Memory.BLOCKS, tensor, first, count)
        return self.layout.place(Memory.BLOCKS, tensor.kind).address + first

    def write_blocks(self, tensor: Tensor, first: int, count: int) -> int:
        """Activation block of a quantised tensor's block ``first``, of ``count`` that a step makes."""
        self._holdings.write(Memory.BLOCKS, tensor, first, count)
        return self.layout.place(Memory.BLOCKS, tensor.kind).address + first

    def register(self, tensor: Tensor) -> int:
        """Register of a scalar."""
        return self.layout.registers[tensor]

    def accumulators(self, count: int, *, is_summed: bool = False) -> int:
        """First of so many accumulators, taken in turn; all that there are where nothing else is to be kept.

        is_summed : walked by inputs, so that steps add to them that do not follow each other.
        """
        first, end = self.layout.end(Memory.ACCUMULATORS), self.tile.accumulators
        if is_summed:
            end = self.tile.summed
            check_summed(self.tile, first + count, f"region {self.region.name}")
        if self._next_accumulator + count > end:
            self._next_accumulator = first if first + count <= end else 0
        self._next_accumulator += count
        return self._next_accumulator - count

    def factor(self, node: Node) -> int:
        """Register of the factor of a linear operator's outputs; 0: none."""
        factor = node.input("factor")
        return Register.ZERO if factor is None else self.register(factor)

    def expert(self, expert: Tensor) -> ExpertRegisters:
        """Registers of a chosen expert."""
        maker = self.graph.maker(expert)
        assert maker is not None
        return expert_registers(maker.outputs.index(expert) % (len(maker.outputs) // 2))

    def numerators(self) -> int:
        """First of the activation blocks of one head's softmax numerators, taken in turn."""
        count = ceil_div(self.limit, self.tile.cols)
        if self._next_block + count > self.tile.act_blocks:
            self._next_block = self.layout.end(Memory.BLOCKS)
        self._next_block += count
        return self._next_block - count

    # Steps

    def icu(self, name: str, op: IcuOp, **fields: int) -> Step:
        """A step of the sequencer."""
        return Step(name, {"icu": Operation("icu", {"op": op, **fields})})

    def vxm(self, name: str, count: int = 1, /, **fields: int) -> Step:
        """A pass through the vector unit over so many vectors."""
        return Step(name, {"vxm": Operation("vxm", {"op": VxmOp.PASS, "count": count, **fields})})

    def exchanged(self, name: str, count: int = 1, /, **fields: int) -> Step:
        """The same with neighbouring lanes of its source exchanged."""
        operations = self.vxm(name, count, source=Source.SXM, **fields).operations
        return Step(name, {**operations, "sxm": Operation("sxm", {"op": SxmOp.EXCHANGE, "amount": 1})})

    def mxm(self, name: str, **fields: int) -> Step:
        """A matmul."""
        return Step(name, {"mxm": Operation("mxm", {"op": MxmOp.MATMUL, **fields})})
