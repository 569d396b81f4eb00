"""The program of a Llama: scheduled pieces, the loops around them, and the cycles of every position.

    start: parameters from the inbox
    token: the position's counts and bases, a token of the prompt from the inbox
    begin: prologue | a body, n_layers times | classifier (not while the prompt has more tokens) | post
           and on with the token that the tile, the host or the prompt has for the next position

A body is a layer in the order that suits a range of positions: while there are few tokens, the scores of many heads
fit the accumulators at once. Its bundles are the same for every layer and for all of those positions. Their distances
come from timing memory, one row for each bucket of positions: attention over more tokens takes longer, and how much
longer is known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.fields import REGISTERS, Operation, Use
from lpu_isa.icu import ALU, BRANCH, TIMING, IcuOp
from lpu_sw.schedule.dependences import dependences
from lpu_sw.schedule.list_scheduler import Problem, improve
from lpu_sw.schedule.reservation import ReservationTable, claims_of

from .layout import Layout, ceil_div
from .lower import Lowering, Register, Step

__all__ = ["NO_TOKEN", "LlamaProgram", "PositionCycles", "build_program", "together"]

NO_TOKEN = 0xFFFFFFFF
"""Posted for a position whose logits were not made, because the next token is already in the inbox."""

SEARCH_TRIES = 2000
"""Orders of a body's operations that are tried."""

MOST_BODIES = 4
"""Bodies of a program: more than that no longer pay."""

CONTROL = 24
"""Bundles that receive, choose, post and halt."""

BESIDE_BODY = 5
"""Bundles of a body beside the layer's: the branch past it, its row of timing memory, loop, end and the jump behind."""

PARAMETERS = (Register.FORCED, Register.LIMIT, Register.SAMPLED, Register.STOP, Register.EPSILON)
"""Registers that the first words of the inbox go to, in this order; then come the tokens of the prompt."""


@dataclass
class Piece:
    """Operations with their issue cycles, sorted; cycle 0 is the first one's.

    variants : what each step touches, for each position that decides anything about the timing.
    """

    steps: list[Step]
    variants: list[list[Use]]
    issue: list[int]

    @cached_property
    def period(self) -> int:
        """Smallest distance from its cycle 0 to that of the next round of a loop around it."""
        return max(_joined(self, self), self.issue[-1] + 1 + BRANCH)


@dataclass(frozen=True)
class PositionCycles:
    """Cycles of every position, known before anything runs.

    start : from the machine's start to the first position.
    received : to receive a token of the prompt, with all that follows from its position.
    layers : from a position's first bundle that needs its token to the end of its last layer, one a position.
    decode, prefill : after that, up to the post, with the classifier and without.
    after_own, after_host, after_prefill : from the post on, where the token was chosen by the tile, by the host, or
        stands in the prompt.
    """

    start: int
    received: int
    layers: list[int]
    decode: int
    prefill: int
    after_own: int
    after_host: int
    after_prefill: int

    def predict(self, prompt_tokens: int, positions: int, host_chooses: bool) -> list[int]:
        """Cycles from post to post (the first: from the start) of a run of so many positions."""
        cycles = []
        before = self.start
        for position in range(positions):
            decodes = position + 1 >= prompt_tokens
            received = self.received if position < prompt_tokens else 0
            cycles.append(before + received + self.layers[position] + (self.decode if decodes else self.prefill))
            before = (self.after_host if host_chooses else self.after_own) if decodes else self.after_prefill
        return cycles


@dataclass
class LlamaProgram:
    """Bundles with one name each, contents of timing memory, bundle numbers of the labels, and the cycles."""

    bundles: list[Bundle] = field(default_factory=list)
    timings: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    cycles: PositionCycles = field(init=False)


def together(uses: Iterable[Use]) -> Use:
    """What the operations of one bundle touch together."""
    uses = list(uses)
    return Use(tuple(a for use in uses for a in use.accesses), tuple(c for use in uses for c in use.claims))


def _uses(isa: BundleFormat, steps: Sequence[Step], registers: Sequence[int]) -> list[Use]:
    return [together(isa.use(op, registers) for op in step.operations.values()) for step in steps]


def _joined(before: Piece, after: Piece) -> int:
    """Smallest distance from cycle 0 of one piece to cycle 0 of the piece that follows it."""
    n = len(before.steps)
    need = max(before.issue) + 1
    for case in range(max(len(before.variants), len(after.variants))):
        first, second = (piece.variants[case % len(piece.variants)] for piece in (before, after))
        distances = dependences([*first, *second])
        for j, issue in enumerate(after.issue):
            for i, distance in distances[n + j].items():
                if i < n:
                    need = max(need, before.issue[i] + distance - issue)
    table = ReservationTable()
    for cases, issue in zip(zip(*before.variants, strict=True), before.issue, strict=True):
        table.take(claims_of(*cases), issue)
    behind = [(claims_of(*cases), at) for cases, at in zip(zip(*after.variants, strict=True), after.issue, strict=True)]
    while not all(table.is_free(claims, need + issue) for claims, issue in behind):
        need += 1
    return need


def _placed(steps: Sequence[Step], problem: Problem, order: Sequence[int], issue: Sequence[int]) -> Piece:
    """The operations in ``order`` as a piece."""
    first = issue[order[0]]
    variants = [[uses[i] for i in order] for uses in problem.variants]
    return Piece([steps[i] for i in order], variants, [issue[i] - first for i in order])


def _straight(isa: BundleFormat, steps: list[Step], registers: Sequence[int]) -> Piece:
    """Schedule a piece that nothing before it is known of."""
    problem = Problem([_uses(isa, steps, registers)])
    return _placed(steps, problem, problem.order(), problem.schedule())


class _Body:
    """The layer's schedule for the positions of some buckets: one order, distances of its own for each bucket.

    limit : positions that it serves lie below. way_out : cycles to what follows the layers: a jump, but for the last
    body, which stands in front of it. pieces : one a bucket.
    """

    def __init__(self, isa: BundleFormat, lowering: Lowering, limit: int, buckets: list[list[list[int]]]) -> None:
        self.limit = limit
        self.way_out = BRANCH if limit < lowering.layout.context else 0
        steps = [lowering.last_of_layer(), *lowering.layer(limit)]
        variants = [[_uses(isa, steps, registers) for registers in cases] for cases in buckets]
        # Cycle 0 is where the first operation that waits for the hidden state's first block can issue.
        first = next(i for i, step in enumerate(steps) if "mxm" in step.operations)
        before = {0: -dependences(variants[0][0][: first + 1])[first][0]}
        problems = [Problem(cases, before) for cases in variants]
        # Longer walks overlap where shorter ones do not: one order has to serve them all.
        for problem in problems:
            problem.keep_order(problems)
        # The order is sought on three buckets; the ends stand for fewer positions than the middle.
        chosen = sorted({0, len(buckets) // 2, len(buckets) - 1})
        weights = [2.0 if 0 < b < len(buckets) - 1 else 1.0 for b in chosen]
        order = improve([problems[b] for b in chosen], weights, SEARCH_TRIES)
        self.pieces = [_placed(steps, problem, order, problem.place(order)) for problem in problems]


def _registers(layout: Layout, last_position: int) -> list[int]:
    """Registers of the first layer at the last position of a group."""
    registers = [0] * REGISTERS
    registers[Register.POSITION] = last_position
    registers[Register.GROUPS] = ceil_div(last_position + 1, layout.tile.rows)
    registers[Register.STEPS] = ceil_div(last_position + 1, layout.tile.cols)
    registers[Register.LANES] = layout.tile.rows
    registers[Register.LAYER] = registers[Register.KEY] = registers[Register.VALUE] = layout.weights["layers"]
    registers[Register.KEY] += registers[Register.GROUPS] - 1
    registers[Register.VALUE] += registers[Register.STEPS] - 1
    registers[Register.SCALES] = layout.scales["layers"]
    return registers


def _bodies(isa: BundleFormat, lowering: Lowering, bundles: int) -> tuple[int, list[_Body]]:
    """Positions of a bucket, and bodies for halves, quarters ... of the context, as many as the memories hold.

    bundles : bundles of the program beside the bodies. Raises ValueError when not even one fits.
    """
    layout, tile = lowering.layout, lowering.layout.tile
    length = sum(1 for _ in lowering.layer(layout.context)) + BESIDE_BODY
    row = timing_row(length)
    size = tile.cols
    while ceil_div(layout.context, size) * row > tile.timings:
        size *= 2
        if row > tile.timings:
            raise ValueError(f"a layer of {length} bundles needs {row} words of timing memory, the tile has "
                             f"{tile.timings}")  # fmt: skip
    if bundles + length > tile.bundles:
        raise ValueError(f"the program takes {bundles + length} bundles, the tile has {tile.bundles}")
    limits = [layout.context]
    while len(limits) < min(MOST_BODIES, (tile.bundles - bundles) // length) and limits[0] > size:
        limits.insert(0, ceil_div(limits[0], 2 * size) * size)
    groups = [min(first + tile.rows, layout.context) - 1 for first in range(0, layout.context, tile.rows)]
    bodies = []
    for start, limit in pairwise([0, *limits]):
        buckets = [[_registers(layout, p) for p in groups if first <= p < first + size]
                   for first in range(start, limit, size)]  # fmt: skip
        bodies.append(_Body(isa, lowering, limit, buckets))
    return size, bodies


def timing_row(bundles: int) -> int:
    """Words from one row of timing memory to the next: a power of two, so that a shift finds the row."""
    return 1 << (bundles - 1).bit_length()


class _Writer:
    """Puts bundles one after another; distances are filled in as they become known."""

    def __init__(self) -> None:
        self.program = LlamaProgram()
        self._targets: list[tuple[int, str]] = []

    def label(self, name: str) -> None:
        self.program.labels[name] = len(self.program.bundles)

    def icu(self, name: str, op: IcuOp, wait: int, target: str = "", **fields: int) -> None:
        if target:
            self._targets.append((len(self.program.bundles), target))
        self.put(name, Bundle(wait, operations={"icu": Operation("icu", {"op": op, **fields})}))

    def put(self, name: str, bundle: Bundle) -> None:
        self.program.bundles.append(bundle)
        self.program.names.append(name)

    def piece(self, piece: Piece, length: int) -> None:
        """A whole piece; the next bundle issues ``length`` cycles after its first."""
        ends = [*piece.issue[1:], length]
        for step, at, end in zip(piece.steps, piece.issue, ends, strict=True):
            self.put(step.name, Bundle(end - at, operations=step.operations))

    def finish(self) -> LlamaProgram:
        for at, target in self._targets:
            self.program.bundles[at].operations["icu"].values["imm"] = self.program.labels[target]
        return self.program


def build_program(lowering: Lowering) -> LlamaProgram:
    """Schedule the pieces for every bucket and put the program together."""
    layout, tile, r = lowering.layout, lowering.layout.tile, Register
    isa = BundleFormat(tile)
    around = [*lowering.position(1, 1, [0] * (MOST_BODIES - 1))] * 2 + [*lowering.prologue(), *lowering.classifier()]
    size, bodies = _bodies(isa, lowering, CONTROL + len(around))
    pieces = [piece for body in bodies for piece in body.pieces]
    longest = _registers(layout, layout.context - 1)
    row = timing_row(len(pieces[0].steps) + 1)
    limits = [body.limit for body in bodies[:-1]]
    # The next position's bases and counts are found while the logits stream, and once before a prompt's token.
    position_steps = list(lowering.position(size, row, limits))
    position = _straight(isa, position_steps, longest)
    prologue = _straight(isa, list(lowering.prologue()), longest)
    classifier = _straight(isa, [*lowering.classifier(), *position_steps], longest)

    w = _Writer()
    w.label("start")
    for register in PARAMETERS:
        w.icu(f"receive {register.name.lower()}", IcuOp.RECV, ALU + 1, rd=register)
    w.icu("position 0", IcuOp.LI, ALU + 1, rd=r.POSITION, imm=0)
    w.label("token")
    w.piece(position, position.issue[-1] + 1 + ALU)
    w.icu("receive token", IcuOp.RECV, ALU + 1, rd=r.TOKEN)
    w.label("begin")
    at = prologue.issue[-1] + 1
    w.piece(prologue, at)
    w.program.timings = [1] * (len(pieces) * row)
    # The classifier waits for more of the last layer than a layer for the one before: once a token, not in each layer.
    waits = [_joined(piece, classifier) - piece.period - body.way_out for body in bodies for piece in body.pieces]
    to_classifier = max(2 * BRANCH, *waits)
    layers, tails = [], []
    for k, body in enumerate(bodies):
        w.label(f"layers below {body.limit}")
        if body.way_out:
            w.icu("a longer context?", IcuOp.BGE, BRANCH, f"layers below {bodies[k + 1].limit}", rs=r.POSITION,
                  rt=r.HEAD + 1 + k)  # fmt: skip
            at += BRANCH
        first = max(at + TIMING, at + 2, *(_joined(prologue, piece) for piece in body.pieces))
        w.icu("timing row", IcuOp.TIMING, 1, rs=r.HEAD, imm=-(len(w.program.bundles) + 2))
        w.icu("layers", IcuOp.LOOP, first - at - 1, imm=layout.model.n_layers)
        for step in body.pieces[0].steps:
            w.put(step.name, Bundle(timed=True, operations=step.operations))
        w.put("end of layer", Bundle(timed=True, operations={"icu": Operation("icu", {"op": IcuOp.END})}))
        if body.way_out:
            w.icu("after layers", IcuOp.JUMP, body.way_out, "after layers")
        for piece in body.pieces:
            issue = [*piece.issue, piece.issue[-1] + 1, piece.period]
            here = len(layers) * row
            w.program.timings[here : here + len(issue) - 1] = [b - a for a, b in pairwise(issue)]
            layers.append(first + layout.model.n_layers * piece.period + body.way_out)
            tails.append(_landed(piece) - piece.period)
    w.label("after layers")
    w.icu("next position", IcuOp.ADDI, ALU + 1, rd=r.POSITION, rs=r.POSITION, imm=1)
    w.icu("more of the prompt?", IcuOp.BLT, to_classifier - ALU - 1, "prompt", rs=r.POSITION, rt=r.FORCED)
    w.label("classifier")
    chosen = _landed(classifier)
    decided = classifier.issue[-1] + 1 + BRANCH
    w.piece(classifier, decided - BRANCH)
    # Which way the position ends is decided while the last logits are on their way.
    rest = max(BRANCH, chosen + 1 - decided)
    w.icu("the host chooses?", IcuOp.BNE, BRANCH, "host", rs=r.SAMPLED, rt=r.ZERO)
    w.icu("last position?", IcuOp.BGE, rest, "last", rs=r.POSITION, rt=r.LIMIT)
    w.label("post")
    w.icu("post token", IcuOp.SEND, 1, rs=r.TOKEN)
    w.icu("go on?", IcuOp.BNE, BRANCH, "begin", rs=r.TOKEN, rt=r.STOP)
    w.icu("halt", IcuOp.HALT, 1)
    w.label("host")
    w.icu("last position?", IcuOp.BGE, rest, "last", rs=r.POSITION, rt=r.LIMIT)
    w.label("post to host")
    w.icu("post token", IcuOp.SEND, 1, rs=r.TOKEN)
    w.icu("receive token", IcuOp.RECV, ALU + 1, rd=r.TOKEN)
    w.icu("go on", IcuOp.JUMP, BRANCH, "begin")
    w.label("last")
    w.icu("post last token", IcuOp.SEND, 1, rs=r.TOKEN)
    w.icu("halt", IcuOp.HALT, 1)
    w.label("prompt")
    # The next token is received when nothing runs any more.
    w.icu("nothing to post", IcuOp.LI, max(ALU + 1, max(tails) + 1 - to_classifier), rd=r.BEST, imm=-1)
    w.label("post nothing")
    w.icu("post nothing", IcuOp.SEND, 1, rs=r.BEST)
    w.icu("more positions?", IcuOp.BLT, BRANCH, "token", rs=r.POSITION, rt=r.LIMIT)
    w.label("end")
    w.icu("halt", IcuOp.HALT, 1)
    program = w.finish()
    assert len(program.bundles) <= tile.bundles
    program.cycles = _predict(program, [layers[p // size] for p in range(layout.context)])
    return program


def _predict(program: LlamaProgram, layers: list[int]) -> PositionCycles:
    """Add up the distances along the paths of the program; those to and through the layers are known."""
    at = program.labels

    def path(first: str, end: str) -> int:
        return sum(bundle.wait for bundle in program.bundles[at[first] : at[end]])

    to_classifier = path("after layers", "classifier")
    return PositionCycles(
        start=path("start", "token"),
        layers=layers,
        received=path("token", "begin"),
        decode=to_classifier + path("classifier", "post"),
        prefill=to_classifier + path("prompt", "post nothing"),
        after_own=path("post", "host") - 1,
        after_host=path("post to host", "last"),
        after_prefill=path("post nothing", "end"),
    )


def _landed(piece: Piece) -> int:
    """Cycle of the last write of a piece."""
    return max(
        int(access.cycle.max()) + issue
        for uses in piece.variants
        for use, issue in zip(uses, piece.issue, strict=True)
        for access in use.accesses
        if access.write
    )
