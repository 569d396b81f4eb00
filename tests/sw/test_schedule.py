"""The list scheduler: whatever it moves, every read still sees the write that it means, and nothing is held twice."""

from collections import defaultdict

import numpy as np
import pytest

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import SHAPES
from lpu_isa.fields import REGISTERS, Claim, Operation, Use
from lpu_sw.compiler.schedule import Piece, joined, joined_alike
from lpu_sw.compiler.step import Step
from lpu_sw.schedule.list_scheduler import Problem, improve

TILE = SHAPES["8x16"]
ISA = BundleFormat(TILE)


def random_operations(seed: int, count: int) -> list[Use]:
    """Passes, matmuls and scalar operations that share few words, so that they depend on each other a lot."""
    random = np.random.default_rng(seed)

    def below(n: int) -> int:
        return int(random.integers(n))

    uses = []
    for _ in range(count):
        kind = below(3)
        if kind == 0:
            values = {"op": 1, "inner": 1 + below(6), "outer": 1 + below(3), "act": below(6), "act_outer": 1,
                      "acc": below(10), "acc_inner": 1, "clear": below(3), "base": below(2),
                      "tracker": below(3)}  # fmt: skip
            operation = Operation("mxm", values)
        elif kind == 1:
            values = {"op": 1, "count": 1 + below(4), "source": below(3), "x": below(8), "multiply": below(4),
                      "multiply_reg": below(6), "add": below(3), "add_reg": below(6), "function": below(5), "gain": 0,
                      "b": below(8), "c": below(8), "reduce": below(5), "reduce_reg": 1 + below(5), "write": below(3),
                      "d": below(8), "quantise": below(4), "q": below(6)}  # fmt: skip
            if values["multiply"] == values["add"] == 1:
                values["add"] = 0  # operand B once
            operation = Operation("vxm", values)
        else:
            operation = Operation("icu", {"op": 1 + below(8), "rd": 1 + below(5), "rs": below(6), "rt": below(6)})
        uses.append(ISA.use(operation, [0] * REGISTERS))
    return uses


def seen(uses: list[Use], issue: list[int] | None) -> dict[tuple[int, str, int], list[int]]:
    """For each operation and location that it reads: the operations whose writes it sees.

    issue None: one operation after the other. Otherwise on the time axis, by the latest write before each read.
    """
    writes = defaultdict(list)
    for i, use in enumerate(uses):
        for access in use.accesses:
            if access.write:
                for index, cycle in zip(access.index.tolist(), access.cycle.tolist(), strict=True):
                    writes[access.space, index].append((i if issue is None else issue[i] + cycle, i))
    result = {}
    for j, use in enumerate(uses):
        for access in use.accesses:
            if access.write:
                continue
            for index, cycle in zip(access.index.tolist(), access.cycle.tolist(), strict=True):
                now = j if issue is None else issue[j] + cycle
                before = [w for w in writes[access.space, index] if w[0] < now and (issue is None or w[1] != j)]
                source = max(before)[1] if before else -1
                result.setdefault((j, access.space, index), []).append(source)
    return result


@pytest.mark.parametrize("seed", range(8))
def test_reads_see_what_they_mean_and_nothing_is_held_twice(seed):
    uses = random_operations(seed, 40)
    problem = Problem([uses])
    meant = seen(uses, None)
    for issue in (problem.schedule(), problem.place(improve([problem], [1.0], 20, seed))):
        assert len(set(issue)) == len(issue)  # one bundle each
        assert seen(uses, issue) == meant
        held = [(claim.resource, issue[i] + cycle) for i, use in enumerate(uses) for claim in use.claims
                for cycle in claim.cycle.tolist()]  # fmt: skip
        assert len(set(held)) == len(held)


def test_the_search_is_never_worse_than_its_start_and_is_repeatable():
    problem = Problem([random_operations(3, 60)])
    start = max(problem.place(problem.order()))
    orders = [improve([problem], [1.0], 50, 7) for _ in range(2)]
    assert orders[0] == orders[1]
    assert max(problem.place(orders[0])) <= start


def test_an_order_that_begins_alike_is_placed_as_if_from_the_start():
    problem = Problem([random_operations(5, 40)])
    order, other = problem.order(), improve([problem], [1.0], 50)
    same = next(i for i, (a, b) in enumerate(zip(order, other, strict=True)) if a != b)
    placed = problem.placement()
    assert problem.go_on(placed, order)
    resumed = placed.until(same)
    assert problem.go_on(resumed, other)
    assert resumed.issue == problem.place(other)
    assert placed.issue == problem.place(order)


def test_an_order_that_takes_too_long_is_given_up_at_the_last_cycle_that_is_allowed():
    problem = Problem([random_operations(5, 40)])
    order = problem.order()
    last = max(problem.place(order))
    assert problem.go_on(problem.placement(), order, last)
    assert not problem.go_on(problem.placement(), order, last - 1)


def test_pieces_are_joined_at_a_distance_that_suits_all_of_them():
    def piece(*cycles: int) -> Piece:
        """An operation that holds a port in these cycles."""
        return Piece([Step("some", {})], [[Use((), (Claim("port", np.array(cycles)),))]], [0])

    late, long, behind = piece(5), piece(0, 1, 2, 3, 4), piece(0)
    assert joined(late, behind) == 1
    assert joined(long, behind) == 5
    assert joined(late, behind, 5) == 6
    assert joined_alike([(late, behind, 0), (long, behind, 0)], 0) == 6  # 5 would be both cycles' maximum
    assert joined_alike([(late, behind, 3), (long, behind, 0)], 2) == 5
