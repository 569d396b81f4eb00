"""The checker: a right program passes, and each way in which a timing is wrong is found and told once."""

import numpy as np
import pytest

from lpu_isa.bundle import Bundle
from lpu_isa.config import SHAPES
from lpu_isa.fields import Operation
from lpu_isa.icu import BRANCH, IcuOp
from lpu_isa.mxm import Clear, MxmOp
from lpu_isa.sxm import SxmOp
from lpu_isa.vxm import Add, Gain, Multiply, Quantise, Reduce, Source, VxmOp, Write
from lpu_sw.check import Kind, check
from lpu_sw.sim.state import TileState
from lpu_sw.sim.tile import Status

TILE = SHAPES["4x4"]
HALT = Bundle(operations={"icu": Operation("icu", {"op": IcuOp.HALT})})


def bundle(wait=40, timed=False, **slots):
    only = {"mxm": MxmOp.MATMUL, "vxm": VxmOp.PASS}
    operations = {slot: Operation(slot, {"op": only.get(slot, 0), **fields}) for slot, fields in slots.items()}
    return Bundle(wait, timed, operations)


def icu(op, wait=10, **fields):
    return bundle(wait, icu={"op": op, **fields})


def found(*program, **more):
    """Kind, bundle and other bundle of each violation."""
    report = check(TILE, [*program, HALT], **more)
    return [(v.kind, v.pc, v.other_pc) for v in report.violations]


# A chain of quantise -> matmul -> convert, every distance as short as it can be: landed + 1 - first read.
QUANTISE = {"count": 2, "quantise": Quantise.ACT, "q": 0}
MATMUL = {"outer": 2, "act_outer": 1, "clear": Clear.OUTER}
CONVERT = {"source": Source.ACC, "write": Write.VMEM, "d": 9}
QUANTISE_TO_MATMUL = 4 + 1 + 4 + 1 - 2
MATMUL_TO_CONVERT = 8 + 1 + 1 + 1 - 2


def test_a_tight_chain_passes_and_one_cycle_less_does_not():
    tight = [bundle(QUANTISE_TO_MATMUL, vxm=QUANTISE), bundle(MATMUL_TO_CONVERT, mxm=MATMUL), bundle(vxm=CONVERT)]
    assert found(*tight) == []
    tight[0].wait -= 1
    assert found(*tight) == [(Kind.READ_BEFORE_WRITE, 1, 0)]
    tight[0].wait += 1
    tight[1].wait -= 1
    assert found(*tight) == [(Kind.READ_BEFORE_WRITE, 2, 1)]


def test_what_a_violation_tells():
    program = [bundle(6, vxm=QUANTISE), bundle(mxm=MATMUL), HALT]
    report = check(TILE, program, sources=["a.lpu:1:1", "a.lpu:2:1", None])
    (violation,) = report.violations
    assert str(violation) == (
        "read before write: bundle 1 (a.lpu:2:1) reads act 0 in cycle 8 (mxm), "
        "bundle 0 (a.lpu:1:1) writes it in cycle 9: 2 cycles too early"
    )
    assert (report.status, report.cycles, report.bundles, report.is_clean) == (Status.HALTED, 46, 3, False)


def test_a_write_waits_for_the_last_read_of_the_old_value():
    # Operand B is read after the adder's other input has come through the multiplier; the copy lands in cycle 5.
    slow = {"count": 4, "multiply": Multiply.SCALAR, "add": Add.B, "b": 20}
    copy = {"write": Write.VMEM, "d": 23}
    assert found(bundle(4, vxm=slow), bundle(vxm=copy)) == []
    assert found(bundle(4, vxm={**slow, "b_step": 1}), bundle(vxm={**copy, "x": 1})) == []
    late = {**slow, "interval": 2}
    assert found(bundle(7, vxm=late), bundle(vxm=copy)) == []
    slot_free = {"count": 1, "multiply": Multiply.SCALAR, "add": Add.B, "b": 23}
    assert found(bundle(1, vxm=slot_free), bundle(vxm=copy)) == []
    gain = {"multiply": Multiply.SCALAR, "add": Add.SCALAR, "gain": Gain.B, "b": 23}
    assert found(bundle(5, vxm=gain), bundle(vxm=copy)) == [(Kind.WRITE_BEFORE_READ, 1, 0)]
    assert found(bundle(6, vxm=gain), bundle(vxm=copy)) == []


def test_a_pass_must_not_overwrite_what_it_still_reads():
    assert found(bundle(vxm={"count": 8, "write": Write.VMEM, "d": 1})) == []
    assert found(bundle(vxm={"count": 8, "x": 0, "write": Write.VMEM, "d": 7})) == [(Kind.WRITE_BEFORE_READ, 0, 0)]


def test_writes_land_in_the_order_of_the_program():
    long = {"multiply": Multiply.SCALAR, "add": Add.SCALAR, "write": Write.VMEM, "d": 5}
    short = {"write": Write.VMEM, "d": 5}
    assert found(bundle(3, vxm=long), bundle(vxm=short)) == [(Kind.WRITES_OUT_OF_ORDER, 1, 0)]
    assert found(bundle(10, vxm=long), bundle(vxm=short)) == []


@pytest.mark.parametrize(
    "first, wait, second, resource",
    [
        ({"multiply": Multiply.SCALAR, "write": Write.VMEM, "d": 5}, 3, {"write": Write.VMEM, "d": 6}, "vxm.result"),
        ({"add": Add.B}, 4, {"gain": Gain.B}, None),
        ({"multiply": Multiply.SCALAR, "add": Add.B}, 3, {"gain": Gain.B}, "vmem.b"),
    ],
)
def test_a_port_has_one_user_a_cycle(first, wait, second, resource):
    report = check(TILE, [bundle(wait, vxm=first), bundle(vxm=second), HALT])
    claimed = [v for v in report.violations if v.kind is Kind.CLAIMED_TWICE]
    assert [f"both use {resource}" in v.text for v in claimed] == ([True] if resource else [])


def test_one_pass_cannot_read_operand_b_twice_in_a_cycle():
    both = {"multiply": Multiply.B, "add": Add.B}
    assert found(bundle(vxm=both)) == []
    assert found(bundle(vxm={**both, "count": 4})) == [(Kind.CLAIMED_TWICE, 0, 0)]


def test_gain_and_sum_of_squares_share_a_multiplier():
    assert (Kind.CLAIMED_TWICE, 0, None) in found(bundle(vxm={"gain": Gain.SELF, "reduce": Reduce.SUM_SQUARES}))


def test_the_register_file_has_one_write_port():
    reduce = bundle(15, vxm={"reduce": Reduce.MAX, "reduce_reg": 1})
    assert found(reduce, icu(IcuOp.LI, rd=2, imm=1)) == [(Kind.CLAIMED_TWICE, 1, 0)]


def test_the_register_of_a_scalar_is_read_when_its_unit_starts():
    program = [icu(IcuOp.LI, 1, rd=1, imm=1), bundle(vxm={"multiply": Multiply.SCALAR, "multiply_reg": 1})]
    assert found(*program) == []
    program[1] = bundle(vxm={"x_reg": 1})
    assert found(*program) == [(Kind.READ_BEFORE_WRITE, 1, 0)]
    overwritten = [bundle(1, vxm={"multiply": Multiply.SCALAR, "add": Add.SCALAR, "add_reg": 1}),
                   icu(IcuOp.LI, 20, rd=1, imm=1)]  # fmt: skip
    assert found(*overwritten) == [(Kind.WRITE_BEFORE_READ, 1, 0)]


def test_register_0_is_no_dependence():
    assert found(icu(IcuOp.LI, 1, rd=0, imm=1), icu(IcuOp.ADDI, rd=1, rs=0)) == []


def test_trackers_are_read_after_the_pass_that_sets_them():
    matmul = bundle(mxm={"base": 1, "tracker": 2, "act": 9})
    assert found(bundle(7, vxm={"quantise": Quantise.ACT, "tracker": 2}), matmul) == [(Kind.READ_BEFORE_WRITE, 1, 0)]
    assert found(bundle(8, vxm={"quantise": Quantise.ACT, "tracker": 2}), matmul) == []


def test_a_slot_runs_one_operation_at_a_time():
    assert (Kind.BUSY, 1, 0) in found(bundle(3, vxm={"count": 4}), bundle(vxm={}))
    assert (Kind.BUSY, 1, 0) in found(bundle(7, mxm={"inner": 2, "outer": 4}), bundle(mxm={}))
    assert found(bundle(4, vxm={"count": 4}), bundle(vxm={})) == []


def test_nothing_runs_during_receive_and_halt():
    copy = bundle(5, vxm={"write": Write.VMEM})
    assert found(copy, icu(IcuOp.RECV, rd=1), inbox=[1]) == [(Kind.RUNNING, 1, 0)]
    assert found(copy, icu(IcuOp.RECV, rd=1)) == [(Kind.RUNNING, 1, 0)]
    assert found(copy) == [(Kind.RUNNING, 1, 0)]
    copy.wait += 1
    assert found(copy) == []


BUNDLES = {
    "halt has company": (Kind.COMPANION, bundle(icu={"op": IcuOp.HALT}, vxm={})),
    "receive has company": (Kind.COMPANION, bundle(icu={"op": IcuOp.RECV}, mxm={})),
    "switch alone": (Kind.COMPANION, bundle(sxm={"op": SxmOp.ROTATE})),
    "switch without source": (Kind.COMPANION, bundle(sxm={"op": SxmOp.ROTATE}, vxm={})),
    "source without switch": (Kind.COMPANION, bundle(vxm={"source": Source.SXM})),
    "interval": (Kind.OPERAND, bundle(vxm={"interval": 0})),
    "interval of a quantiser": (Kind.OPERAND, bundle(vxm={"interval": 2, "quantise": Quantise.ACT})),
    "block": (Kind.OPERAND, bundle(vxm={"block": 0})),
    "function": (Kind.OPERAND, icu(IcuOp.FUNCTION)),
    "target": (Kind.TARGET, icu(IcuOp.JUMP, imm=7)),
    "negative target": (Kind.TARGET, icu(IcuOp.BNE, imm=-1)),
    "loop without end": (Kind.LOOP, icu(IcuOp.LOOP, imm=1)),
    "end without loop": (Kind.LOOP, icu(IcuOp.END)),
    "wait": (Kind.WAIT, Bundle(0)),
}


@pytest.mark.parametrize("case", BUNDLES)
def test_a_wrong_bundle_is_found_even_if_it_never_runs(case):
    kind, wrong = BUNDLES[case]
    violations = found(icu(IcuOp.BEQ, imm=2), wrong)
    assert violations == [(kind, 1, None)]


def test_loops_nest_four_deep():
    nest = [icu(IcuOp.LOOP, imm=1)] * 5 + [icu(IcuOp.END)] * 5
    assert (Kind.LOOP, 4, None) in found(*nest)
    assert found(*nest[1:-1]) == []


def test_branches_need_their_distance_taken_or_not():
    for op in (IcuOp.BNE, IcuOp.BEQ):
        assert found(icu(op, BRANCH - 1, imm=1)) == [(Kind.WAIT, 0, 1)]
        assert found(icu(op, BRANCH, imm=1)) == []
    assert found(icu(IcuOp.LOOP, 1, imm=2), icu(IcuOp.END, BRANCH - 1)) == [(Kind.WAIT, 1, 1), (Kind.WAIT, 1, 2)]


def test_timed_bundles_need_a_timing_base():
    timed = bundle(timed=True)
    timings = [20] * 8
    assert found(icu(IcuOp.TIMING, BRANCH, imm=0), timed, timings=timings) == []
    assert found(icu(IcuOp.TIMING, BRANCH - 1, imm=0), timed, timings=timings) == [(Kind.WAIT, 0, 1)]
    assert found(timed, timings=timings) == [(Kind.WAIT, 0, None)]


def test_a_fault_ends_the_check():
    assert found(bundle(60, mxm={"outer": 40, "acc_outer": 1})) == [(Kind.FAULT, 0, None)]
    assert found(bundle(vxm={"count": 9, "x": 250})) == [(Kind.FAULT, 0, None)]
    assert found(bundle(vxm={"count": 0})) == [(Kind.FAULT, 0, None)]


def test_a_program_that_does_not_end_is_told():
    assert found(icu(IcuOp.JUMP, imm=0), max_cycles=100) == [(Kind.UNFINISHED, 0, None)]


def test_scalars_decide_what_an_operation_touches_and_errors_are_told_once():
    program = [
        icu(IcuOp.RECV, rd=1),
        icu(IcuOp.LOOP, imm=3),
        bundle(3, vxm={"count_reg": 1, "write": Write.VMEM, "d": 30}),
        bundle(30, vxm={"x": 33}),
        icu(IcuOp.END),
    ]
    assert found(*program, inbox=[2]) == []
    # With four vectors the slot is still busy, the results collide, and word 33 is read before it is written.
    more = found(*program, inbox=[3])
    assert sorted(more, key=str) == sorted(
        [(kind, 3, 2) for kind in (Kind.BUSY, Kind.CLAIMED_TWICE, Kind.READ_BEFORE_WRITE)], key=str
    )


def test_the_state_given_is_where_the_run_begins():
    state = TileState(TILE)
    state.registers[1] = 300
    assert found(bundle(vxm={"x_reg": 1}), state=state) == [(Kind.FAULT, 0, None)]
    state = TileState(TILE)
    state.randomise(np.random.default_rng(0))
    state.inbox.append(5)
    check(TILE, [icu(IcuOp.RECV, rd=1), HALT], inbox=[6], state=state)
    assert state.registers[1] == 5


def test_claims_far_apart_do_not_meet():
    long = {"inner": 100, "outer": 90}
    assert found(bundle(4095, mxm=long), bundle(4095), bundle(810), bundle(mxm=long), bundle(4095), bundle(4095),
                 bundle(1000)) == []  # fmt: skip
    assert (Kind.BUSY, 3, 0) in found(bundle(4095, mxm=long), bundle(4095), bundle(809), bundle(mxm={}), bundle(100))
