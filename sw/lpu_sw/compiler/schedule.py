"""Pass `schedule`: steps in the order of their meaning become pieces of program with an issue cycle for each step.

The layer has up to four bodies, each in the order that suits a range of positions: while there are few, the scores of
many heads fit the accumulators at once. Within a body the order is one, and the distances are found for each bucket of
positions: attention over more positions takes longer, and how much longer is known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from lpu_isa.bundle import BundleFormat
from lpu_isa.fields import Use
from lpu_isa.icu import BRANCH
from lpu_sw.schedule.dependences import dependences
from lpu_sw.schedule.list_scheduler import Problem, improve
from lpu_sw.schedule.reservation import ReservationTable, claims_of

from .layout import Layout
from .lowering import tile as tile_region
from .memory import DoesNotFit, ceil_div, check_bundles
from .position import next_position, position_registers, position_steps
from .step import Step

__all__ = ["Body", "Piece", "Schedule", "joined", "joined_alike", "landed", "schedule", "straight", "together"]

SEARCH_TRIES = 2000
"""Orders of a body's operations that are tried."""

MOST_BODIES = 4
"""Bodies of a program: more than that no longer pay."""

CONTROL = 24
"""Bundles that receive, choose, post and halt."""

BESIDE_BODY = 5
"""Bundles of a body beside the layer's: the branch past it, its row of timing memory, loop, end and the jump behind."""


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
        return joined(self, self, self.issue[-1] + 1 + BRANCH)


def together(uses: Iterable[Use]) -> Use:
    """What the operations of one bundle touch together."""
    uses = list(uses)
    return Use(tuple(a for use in uses for a in use.accesses), tuple(c for use in uses for c in use.claims))


def _uses(isa: BundleFormat, steps: Sequence[Step], registers: Sequence[int]) -> list[Use]:
    return [together(isa.use(op, registers) for op in step.operations.values()) for step in steps]


def joined(before: Piece, after: Piece, least: int = 0) -> int:
    """Smallest distance, ``least`` or more, from cycle 0 of one piece to cycle 0 of the piece that follows it.

    A larger one need not be possible: what holds a unit late in the first may then meet another user of the second.
    """
    n = len(before.steps)
    need = max(max(before.issue) + 1, least)
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


def joined_alike(pairs: Sequence[tuple[Piece, Piece, int]], least: int) -> int:
    """Smallest number, ``least`` or more, that added to the cycles of each pair is a possible distance from the first
    piece to the second."""
    while True:
        need = max(joined(before, after, cycles + least) - cycles for before, after, cycles in pairs)
        if need == least:
            return need
        least = need


def _placed(steps: Sequence[Step], problem: Problem, order: Sequence[int], issue: Sequence[int]) -> Piece:
    """The operations in ``order`` as a piece."""
    first = issue[order[0]]
    variants = [[uses[i] for i in order] for uses in problem.variants]
    return Piece([steps[i] for i in order], variants, [issue[i] - first for i in order])


def straight(isa: BundleFormat, steps: Sequence[Step], registers: Sequence[int], before: Sequence[Step] = ()) -> Piece:
    """Schedule a piece. ``before``: the step ahead of it that it waits for; without one, nothing before it is known."""
    steps = [*before, *steps]
    uses = _uses(isa, steps, registers)
    problem = Problem([uses], _issued(steps, uses) if before else None)
    return _placed(steps, problem, problem.order(), problem.schedule())


def _issued(steps: Sequence[Step], uses: Sequence[Use]) -> dict[int, int]:
    """When the first step was issued if cycle 0 is where the first matmul or pass behind it can be."""
    first = next(i for i, step in enumerate(steps) if i and step.operations.keys() & {"mxm", "vxm"})
    return {0: -dependences(uses[: first + 1])[first][0]}


def _last_pass(steps: Sequence[Step]) -> Step:
    return next(step for step in reversed(steps) if "vxm" in step.operations)


def _layer_steps(layout: Layout, limit: int) -> list[Step]:
    """The steps of the region that repeats, for positions below ``limit``."""
    return tile_region(layout, next(region for region in layout.graph.regions if region.is_repeated), limit)


class Body:
    """The layer's schedule for the positions of some buckets: one order, distances of its own for each bucket.

    limit : positions that it serves lie below. way_out : cycles to what follows the layers: a jump, but for the last
    body, which stands in front of it. pieces : one a bucket.
    """

    def __init__(self, isa: BundleFormat, layout: Layout, limit: int, buckets: list[list[list[int]]]) -> None:
        self.limit = limit
        self.way_out = BRANCH if limit < layout.context else 0
        steps = _layer_steps(layout, limit)
        steps = [_last_pass(steps), *steps]
        variants = [[_uses(isa, steps, registers) for registers in cases] for cases in buckets]
        before = _issued(steps, variants[0][0])
        problems = [Problem(cases, before) for cases in variants]
        # Longer walks overlap where shorter ones do not: one order has to serve them all.
        for problem in problems:
            problem.keep_order(problems)
        # The order is sought on three buckets; the ends stand for fewer positions than the middle.
        chosen = sorted({0, len(buckets) // 2, len(buckets) - 1})
        weights = [2.0 if 0 < b < len(buckets) - 1 else 1.0 for b in chosen]
        order = improve([problems[b] for b in chosen], weights, SEARCH_TRIES)
        self.pieces = [_placed(steps, problem, order, problem.place(order)) for problem in problems]


def _bodies(isa: BundleFormat, layout: Layout, bundles: int) -> tuple[int, list[Body]]:
    """Positions of a bucket, and bodies for halves, quarters ... of the context, as many as the memories hold.

    bundles : bundles of the program beside the bodies. Raises `DoesNotFit` when not even one fits.
    """
    tile = layout.tile
    length = len(_layer_steps(layout, layout.context)) + BESIDE_BODY
    row = _timing_row(length)
    size = tile.rows
    while ceil_div(layout.context, size) * row > tile.timings:
        size *= 2
        if row > tile.timings:
            raise DoesNotFit(f"a layer of {length} bundles needs {row} words of timing memory, the tile has "
                             f"{tile.timings}")  # fmt: skip
    check_bundles(tile, bundles + length)
    limits = [layout.context]
    while len(limits) < min(MOST_BODIES, (tile.bundles - bundles) // length) and limits[0] > size:
        limits.insert(0, ceil_div(limits[0], 2 * size) * size)
    groups = [min(first + tile.rows, layout.context) - 1 for first in range(0, layout.context, tile.rows)]
    bodies = []
    for start, limit in pairwise([0, *limits]):
        buckets = [[position_registers(layout, p) for p in groups if first <= p < first + size]
                   for first in range(start, limit, size)]  # fmt: skip
        bodies.append(Body(isa, layout, limit, buckets))
    return size, bodies


def _timing_row(bundles: int) -> int:
    """Words from one row of timing memory to the next: a power of two, so that a shift finds the row."""
    return 1 << (bundles - 1).bit_length()


def landed(piece: Piece) -> int:
    """Cycle of the last write of a piece."""
    return max(
        int(access.cycle.max()) + issue
        for uses in piece.variants
        for use, issue in zip(uses, piece.issue, strict=True)
        for access in use.accesses
        if access.write
    )


@dataclass(frozen=True)
class Schedule:
    """All pieces of a program.

    bucket : positions that share a row of timing memory. row : words from one row to the next. position : what follows
    from the position alone, for a token of the prompt. classifier : with the same for the next position.
    """

    bucket: int
    row: int
    position: Piece
    prologue: Piece
    bodies: list[Body]
    classifier: Piece


def schedule(layout: Layout) -> Schedule:
    """Schedule all regions for all buckets of positions. Raises `DoesNotFit` where the tile cannot hold it."""
    isa = BundleFormat(layout.tile)
    first, before, _, behind = layout.graph.regions
    angles, prologue, classifier = (tile_region(layout, region) for region in (first, before, behind))
    around = [*[*position_steps(layout, 1, 1, [0] * (MOST_BODIES - 1)), *angles] * 2, *prologue, *classifier]
    bucket, bodies = _bodies(isa, layout, CONTROL + len(around))
    longest = position_registers(layout, layout.context - 1)
    row = _timing_row(len(bodies[0].pieces[0].steps) + 1)
    # What the next position decides is found while the logits stream, and once before a prompt's token.
    steps = [*position_steps(layout, bucket, row, [body.limit for body in bodies[:-1]]), *angles]
    last = [_last_pass(_layer_steps(layout, layout.context))]
    return Schedule(
        bucket, row, straight(isa, steps, longest), straight(isa, prologue, longest), bodies,
        straight(isa, [*classifier, next_position(), *steps], longest, last),
    )  # fmt: skip
