"""The simulator: each unit against integers or NumPy, the order of operations, cycles, faults and the host's view."""

from dataclasses import replace

import numpy as np
import pytest

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import SHAPES
from lpu_isa.faults import Fault
from lpu_isa.fields import Operation
from lpu_isa.formats import FloatFormat
from lpu_isa.host import Window, beats, depth
from lpu_isa.icu import IcuOp
from lpu_isa.mxm import Base, Clear, MxmOp, steps
from lpu_isa.sxm import SxmOp
from lpu_isa.tables import Function
from lpu_isa.vxm import Add, Gain, Multiply, Quantise, Reduce, Source, VxmOp, Write
from lpu_sw.sim.arithmetic import Arithmetic, align, quantise_block
from lpu_sw.sim.state import TileState
from lpu_sw.sim.tile import Event, Simulator, Status

TILE = SHAPES["4x4"].replace(cols=8)
WIDE = SHAPES["8x16"]
HALT = Bundle(operations={"icu": Operation("icu", {"op": IcuOp.HALT})})


def bundle(wait=40, timed=False, **slots):
    """A bundle from field values by slot; the operation of the slots that have one only is filled in."""
    only = {"mxm": MxmOp.MATMUL, "vxm": VxmOp.PASS}
    operations = {slot: Operation(slot, {"op": only.get(slot, 0), **fields}) for slot, fields in slots.items()}
    return Bundle(wait, timed, operations)


def icu(op, wait=10, **fields):
    return bundle(wait, icu={"op": op, **fields})


def random_state(config, seed=0):
    """Memories full of random words; vectors and scales of moderate size."""
    state = TileState(config)
    rng = np.random.default_rng(seed)
    state.randomise(rng)
    number = FloatFormat(config.significand_bits)
    for memory in (state.vmem, state.smem):
        memory[:] = number.round(np.ldexp(rng.uniform(-2, 2, memory.shape), rng.integers(-6, 6, memory.shape)))
    state.act_codes[:] = rng.integers(115, 128, state.act_codes.shape)
    state.acc[:] = rng.integers(-(1 << 30), 1 << 30, state.acc.shape)
    state.acc_bases[:] = rng.integers(120, 130, state.acc_bases.shape)
    return state


def run(config, program, state=None, inbox=(), timings=(), trace=None):
    state = state or TileState(config)
    state.inbox.extend(inbox)
    simulator = Simulator(config, program, timings, state, trace)
    simulator.start()
    status = simulator.run(100_000)
    return status, state


def halted(config, program, state=None, **more):
    status, state = run(config, [*program, HALT], state, **more)
    assert status is Status.HALTED, state.fault
    return state


# Sequencer.


def test_integer_operations_wrap_at_32_bits():
    state = halted(TILE, [
        icu(IcuOp.LI, rd=1, imm=2**31 - 1),
        icu(IcuOp.ADDI, rd=2, rs=1, imm=1),
        icu(IcuOp.ADD, rd=3, rs=1, rt=1),
        icu(IcuOp.SUB, rd=4, rs=2, rt=1),
        icu(IcuOp.ANDI, rd=5, rs=2, imm=-16),
        icu(IcuOp.SHL, rd=6, rs=1, imm=4),
        icu(IcuOp.SHR, rd=7, rs=2, imm=31),
        icu(IcuOp.LI, rd=0, imm=5),
    ])  # fmt: skip
    assert state.registers[:8] == [0, 2**31 - 1, -(2**31), -2, 1, -(2**31), -16, 1]


def test_loops_nest_and_branches_compare_signed():
    state = halted(TILE, [
        icu(IcuOp.LI, rd=5, imm=-1),
        icu(IcuOp.LOOP, imm=3),
        icu(IcuOp.LOOP, imm=3, rs=5),
        icu(IcuOp.ADDI, rd=1, rs=1, imm=1),
        icu(IcuOp.END),
        icu(IcuOp.ADDI, rd=2, rs=2, imm=1),
        icu(IcuOp.END),
        icu(IcuOp.BLT, rs=5, rt=0, imm=9),
        icu(IcuOp.LI, rd=2, imm=100),
        icu(IcuOp.BGE, rs=5, rt=0, imm=0),
        icu(IcuOp.BNE, rs=1, rt=2, imm=12),
        icu(IcuOp.LI, rd=2, imm=100),
        icu(IcuOp.BEQ, rs=0, rt=0, imm=14),
        icu(IcuOp.LI, rd=2, imm=100),
        icu(IcuOp.JUMP, imm=16),
        icu(IcuOp.LI, rd=2, imm=100),
    ])  # fmt: skip
    assert state.registers[1:3] == [6, 3]


def test_cycles_are_the_sum_of_distances_and_waiting_costs_none():
    program = [
        icu(IcuOp.LI, 3, rd=1, imm=77),
        icu(IcuOp.TIMING, 4, imm=6),
        bundle(timed=True),
        icu(IcuOp.RECV, 5, rd=2),
        icu(IcuOp.SEND, 2, rs=2),
        HALT,
    ]
    state = TileState(TILE)
    simulator = Simulator(TILE, program, [0] * 8 + [11], state)
    simulator.start()
    assert simulator.run() is Status.WAITING
    assert simulator.run() is Status.WAITING
    assert state.cycles == 3 + 4 + 11
    state.inbox.append(0xFFFF_FFFE)
    assert simulator.run(20) is Status.RUNNING
    assert simulator.run() is Status.HALTED
    assert state.outbox == [(0xFFFF_FFFE, 3 + 4 + 11 + 5)]
    assert state.cycles == 3 + 4 + 11 + 5 + 2
    assert simulator.run() is Status.HALTED
    simulator.start()
    assert state.outbox == [] and state.registers[2] == -2
    state.reset()
    assert state.registers[2] == 0


def test_lanes_and_functions_reach_registers():
    state = TileState(TILE)
    state.vmem[7] = [1.0, 2.0, -4.0, 8.0]
    state.smem[3] = [0.5, 16.0, 0.0, 0.0]
    state = halted(TILE, [
        icu(IcuOp.LI, rd=1, imm=2),
        icu(IcuOp.VLANE, rd=2, rs=1, rt=1, imm=5),
        icu(IcuOp.LI, rd=3, imm=5),
        icu(IcuOp.SLANE, rd=4, rs=0, rt=3, imm=3),
        icu(IcuOp.FUNCTION, rd=5, rs=4, function=Function.RSQRT),
        icu(IcuOp.FUNCTION, rd=6, rs=2, function=Function.RECIPROCAL),
    ], state)  # fmt: skip
    decode = Arithmetic(state.float_format).decode
    assert [decode(state.registers[r]) for r in (2, 4, 5, 6)] == [-4.0, 16.0, 0.25, -0.25]


# Matrix unit.


def reference_matmul(state, op, inner, outer, first, base):
    """Accumulators and bases after a matmul, on Python integers, one step after the other."""
    acc = state.acc.astype(np.int64).tolist()
    bases = state.acc_bases.tolist()
    walks = [steps(op, inner, outer, name, at).tolist() for name, at in
             (("weights", first), ("act", op["act"]), ("acc", op["acc"]))]  # fmt: skip
    for step, (word, block, entry) in enumerate(zip(*walks, strict=True)):
        sums = state.wmem[word].astype(np.int64) @ state.act[block].astype(np.int64)
        code = int(state.act_codes[block])
        shift = 14 + code - base
        clear = {Clear.NEVER: 1, Clear.INNER: step % inner, Clear.OUTER: step // inner}[op["clear"]] == 0
        for row, total in enumerate(sums.tolist()):
            aligned = (total << shift if shift >= 0 else total >> -shift) if code else 0
            acc[entry][row] = aligned + (0 if clear else acc[entry][row])
        bases[entry] = base
    return acc, bases


MATMULS = {
    "groups outside": {"inner": 3, "outer": 4, "weights_inner": 1, "weights_outer": 3, "act_inner": 1, "acc_outer": 1},
    "groups inside": {"inner": 4, "outer": 3, "weights_inner": 1, "weights_outer": 4, "act_outer": 2, "acc_inner": 1},
    "words apart": {"inner": 4, "outer": 3, "weights_inner": 5, "weights_outer": -1, "act_outer": -1, "acc_inner": -2},
    "one step": {},
    "a block each": {"inner": 4, "outer": 2, "weights_inner": 2, "act_inner": 1, "act_outer": 3, "acc_inner": 1},
    "one entry": {"inner": 3, "outer": 2, "weights_inner": 1, "act_inner": 1, "act_outer": 1},
    "diagonals": {"inner": 3, "outer": 3, "act_inner": 1, "weights_outer": 1, "acc_inner": 1, "acc_outer": 1},
}


@pytest.mark.parametrize("clear", Clear)
@pytest.mark.parametrize("base", [100, 118, 127, 134, 160], ids="base{}".format)
@pytest.mark.parametrize("walk", MATMULS)
def test_matmul(walk, base, clear):
    state = random_state(TILE, base)
    state.act_codes[5] = 0
    fields = {"weights": 40, "act": 6, "acc": 10, "weights_reg": 3, "inner_reg": 4, "clear": clear, "exponent": base,
              **MATMULS[walk]}  # fmt: skip
    fields["inner"] = fields.get("inner", 1) + 1
    state.registers[3], state.registers[4] = -8, -1
    if base < 120:
        # Far above the base only blocks of a code that is not too large may be used.
        state.act_codes[:] = base + np.random.default_rng(base).integers(-3, 9, len(state.act_codes))
        state.acc[:] //= 1 << 10
    op = BundleFormat(TILE).complete(Operation("mxm", fields))
    expected = reference_matmul(state, op, op["inner"] - 1, op["outer"], 32, base)
    halted(TILE, [bundle(mxm=fields)], state)
    assert (state.acc.astype(np.int64).tolist(), state.acc_bases.tolist()) == expected
    assert not np.signbit(state.acc[state.acc == 0]).any()


def test_matmul_takes_its_base_from_a_tracker():
    state = random_state(TILE)
    state.trackers[2] = 125
    expected = align(state.wmem[0] @ state.act[0], state.act_codes[0], 125)
    halted(TILE, [bundle(mxm={"base": Base.TRACKER, "tracker": 2, "exponent": 1, "clear": Clear.INNER})], state)
    assert state.acc[0].tolist() == expected.tolist()
    assert state.acc_bases[0] == 125


@pytest.mark.parametrize("sign", [1, -1])
def test_an_accumulator_that_overflows_is_a_fault_even_if_it_comes_back(sign):
    state = TileState(TILE)
    state.wmem[0], state.wmem[1] = sign * 127, -sign * 127
    state.act[0], state.act_codes[0] = 127, 135
    state.acc[0] = sign * ((1 << 43) - 1)
    fields = {"inner": 2, "weights_inner": 1, "exponent": 127}
    status, state = run(TILE, [bundle(mxm=fields), HALT], state)
    assert (status, state.fault, state.fault_pc) == (Status.FAULTED, Fault.ACCUMULATOR, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_exact_as_far_as_the_accumulator_reaches(sign):
    """All weights and activations at their ends, blocks as far above the base as may be: a fault, and never a wrap."""
    largest = TILE.cols * 127 * 127 << 14 + 8
    reach = ((1 << 43) - 1) // largest
    for taken in (reach, reach + 1):
        state = TileState(TILE)
        state.wmem[0], state.act[0], state.act_codes[0] = sign * 127, 127, 135
        status, state = run(TILE, [bundle(mxm={"inner": taken, "clear": Clear.INNER, "exponent": 127}), HALT], state)
        if taken == reach:
            assert status == Status.HALTED
            assert state.acc[0].tolist() == [sign * reach * largest] * TILE.rows
        else:
            assert (status, state.fault) == (Status.FAULTED, Fault.ACCUMULATOR)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_sum_over_a_full_activation_buffer_leaves_the_accumulator(shape):
    """Blocks of one exponent; a model that needs more blocks is refused."""
    tile = SHAPES[shape]
    assert tile.act_blocks * tile.cols * 127 * 127 << 14 < 1 << 43


def test_a_block_too_far_above_the_base_is_a_fault_unless_it_is_zero():
    state = TileState(TILE)
    state.act_codes[0] = 136
    assert run(TILE, [bundle(mxm={"exponent": 127}), HALT], state)[1].fault is Fault.ACCUMULATOR
    state.act_codes[0] = 0
    halted(TILE, [bundle(mxm={"exponent": 127})], state)


# Vector unit.


def test_the_whole_chain_is_one_rounded_operation_after_the_other():
    state = random_state(WIDE)
    a = Arithmetic(state.float_format)
    state.registers[9] = a.encode(1.5)
    x = a.convert(state.acc[3:7], state.acc_bases[3:7, None]).values
    t = a.add(a.multiply(x, state.smem[20:28:2]).values, -state.vmem[30:26:-1]).values
    expected = a.multiply(a.function(Function.SIGMOID, t).values, t).values
    halted(WIDE, [bundle(vxm={
        "count": 4, "source": Source.ACC, "x": 3, "multiply": Multiply.C, "c": 20, "c_step": 2, "add": Add.MINUS_B,
        "b": 30, "b_step": -1, "function": Function.SIGMOID, "gain": Gain.SELF, "write": Write.VMEM, "d": 50,
    })], state)  # fmt: skip
    assert state.vmem[50:54].tolist() == expected.tolist()


def test_scalars_and_gains_that_move_from_register_to_register():
    state = random_state(TILE)
    a = Arithmetic(state.float_format)
    gains = [0.5, -3.0, 7.0]
    for register, gain in zip((31, 0, 1), gains, strict=True):
        state.registers[register] = a.encode(gain)
    state.registers[0] = 0
    state.registers[4] = a.encode(0.3125)
    product = a.multiply(a.add(state.vmem[0:3], 0.3125).values, np.array([[0.5], [0.0], [7.0]])).values
    halted(TILE, [bundle(vxm={"count": 3, "add": Add.SCALAR, "add_reg": 4, "gain": Gain.SCALAR, "gain_reg": 31,
                              "gain_step": 1, "write": Write.SMEM, "d": 9, "d_step": -2})], state)  # fmt: skip
    assert state.smem[9:4:-2].tolist() == product.tolist()


def test_lanes_past_the_count_are_zero_and_raise_no_fault():
    state = random_state(TILE)
    state.vmem[4:6] = 2.0**127
    state.vmem[5, :2] = [3.0, -4.0]
    state.registers[1] = -2
    program = [bundle(vxm={"x": 5, "lanes": 4, "lanes_reg": 1, "gain": Gain.SELF, "write": Write.VMEM, "d": 9,
                           "reduce": Reduce.SUM, "reduce_reg": 2, "quantise": Quantise.ACT})]  # fmt: skip
    halted(TILE, program, state)
    assert state.vmem[9].tolist() == [9.0, 16.0, 0.0, 0.0]
    assert Arithmetic(state.float_format).decode(state.registers[2]) == 25.0
    assert state.act[0].tolist() == [36, 64, 0, 0, 0, 0, 0, 0] and state.act_codes[0] == 131 - 6
    program[0].operations["vxm"].values["lanes"] = 5
    status, state = run(TILE, [*program, HALT], state)
    assert (status, state.fault) == (Status.FAULTED, Fault.FLOAT)


@pytest.mark.parametrize("tiny", [2.0**-100, -(2.0**-100)])
def test_tiny_results_are_zero_between_units(tiny):
    state = random_state(TILE)
    state.vmem[0], state.vmem[1] = tiny, 2.0**-60
    halted(TILE, [bundle(vxm={"multiply": Multiply.B, "b": 1, "gain": Gain.B, "write": Write.VMEM, "d": 2})], state)
    assert np.copysign(1, state.vmem[2]).tolist() == [np.copysign(1, tiny)] * 4
    assert not state.vmem[2].any()


@pytest.mark.parametrize(
    "op, amount, expected",
    [(SxmOp.ROTATE, 1, [1, 2, 3, 0]), (SxmOp.ROTATE, -1, [3, 0, 1, 2]), (SxmOp.EXCHANGE, 1, [1, 0, 3, 2]),
     (SxmOp.EXCHANGE, 2, [2, 3, 0, 1]), (SxmOp.BROADCAST, 2, [2, 2, 2, 2])],
)  # fmt: skip
def test_switch_moves_lanes(op, amount, expected):
    state = TileState(TILE)
    state.vmem[0] = [0, 1, 2, 3]
    state.registers[1] = amount - 3
    halted(TILE, [bundle(sxm={"op": op, "amount": 3, "amount_reg": 1},
                         vxm={"count": 2, "x_step": 0, "source": Source.SXM, "write": Write.VMEM, "d": 8})],
           state)  # fmt: skip
    assert state.vmem[8:10].tolist() == [expected, expected]


def test_reductions_reach_their_registers():
    state = TileState(TILE)
    a = Arithmetic(state.float_format)
    state.vmem[0:2] = [[1.0, -2.0, 3.0, 4.0], [4.0, -5.0, 100.0, 0.5]]
    state.registers[8] = a.encode(0.5)
    shared = {"count": 2, "lanes": 2}
    halted(TILE, [
        bundle(vxm={**shared, "reduce": Reduce.SUM, "reduce_reg": 1, "start_reg": 8}),
        bundle(vxm={**shared, "reduce": Reduce.SUM_SQUARES, "reduce_reg": 2}),
        bundle(vxm={**shared, "reduce": Reduce.MAX, "reduce_reg": 3}),
        bundle(vxm={**shared, "reduce": Reduce.ARGMAX, "reduce_reg": 4}),
        bundle(vxm={**shared, "relu": 1, "reduce": Reduce.SUM, "reduce_reg": 6, "write": Write.VMEM, "d": 5}),
    ], state)  # fmt: skip
    assert [a.decode(state.registers[r]) for r in (1, 2, 3, 5, 6)] == [5.5, 71.0, 4.0, 4.0, 12.0]
    assert state.registers[4] == 3
    assert state.vmem[5:7].tolist() == [[1, 0, 3, 4], [4, 0, 0, 0]]


def test_blocks_close_early_or_with_the_last_vector():
    state = random_state(TILE)
    x = state.vmem[0:3].copy()
    halted(TILE, [bundle(vxm={"count": 3, "lanes": 3, "quantise": Quantise.ACT, "q": 4, "q_step": 2, "tracker": 1}),
                  bundle(vxm={"count": 2, "quantise": Quantise.ACT, "q": 20, "block": 1, "tracker": 3})],
           state)  # fmt: skip
    padded = np.concatenate([x, np.zeros((1, 4))]).reshape(2, 8)
    padded[1, 3] = 0
    values, codes = quantise_block(padded)
    assert (state.act[[4, 6]].tolist(), state.act_codes[[4, 6]].tolist()) == (values.tolist(), codes.tolist())
    assert state.trackers[1] == codes.max()
    values, codes = quantise_block(x[:2])
    assert state.act[20:22].tolist() == np.pad(values, ((0, 0), (0, 4))).tolist()
    assert state.act_codes[20:22].tolist() == codes.tolist()


def test_rows_and_columns_are_quantised_with_scale_1_and_clamped_lanes_counted():
    state = random_state(TILE)
    state.vmem[0:3] = [[0.5, 1.5, 2.5, -2.5], [126.5, 127.5, -127.5, 1e9], [1.0, 2.0, 3.0, 1e9]]
    state.registers[1] = 4 + 2
    before = state.wmem.copy()
    halted(TILE, [bundle(vxm={"count": 3, "lanes": 3, "quantise": Quantise.ROW, "q": 9, "index_reg": 1})], state)
    before[9, 2] = [0, 2, 2, -2, 126, 127, -127, 127]
    before[10, 2, :4] = [1, 2, 3, 0]
    assert np.array_equal(state.wmem, before)
    assert state.clamped == 3
    halted(TILE, [bundle(vxm={"count": 2, "quantise": Quantise.COLUMN, "q": 30, "q_step": -1, "index_reg": 1})], state)
    before[30, :, 6] = [0, 2, 2, -2]
    before[29, :, 6] = [126, 127, -127, 127]
    assert np.array_equal(state.wmem, before)


def test_a_row_of_weight_words_comes_back_as_vectors():
    state = random_state(TILE)
    state.registers[1] = 7
    halted(TILE, [bundle(vxm={"count": 3, "source": Source.WMEM, "x": 5, "x_step": 3, "row_reg": 1,
                              "write": Write.VMEM, "d": 60})], state)  # fmt: skip
    assert state.vmem[60:63].ravel().tolist() == [*state.wmem[5, 3], *state.wmem[8, 3, :4]]


def reference_pass(state, op):
    """What enters the reduction or memory: every unit's rounded and settled result, and the faults of valid lanes."""
    a, count, rows = Arithmetic(state.float_format), op["count"], state.config.rows
    valid = np.arange(count * rows).reshape(count, rows) < (count - 1) * rows + op["lanes"]
    b = state.vmem[op["b"] : op["b"] + count]
    c = state.smem[op["c"] : op["c"] + count]
    scalar = a.decode(state.registers[op["multiply_reg"]])
    faults = []

    def note(result):
        faults.append(np.where(valid, result.faults, 0))
        return result.values

    x = state.vmem[op["x"] : op["x"] + count]
    if op["source"] == Source.ACC:
        entries = slice(op["x"], op["x"] + count)
        x = note(a.convert(state.acc[entries], state.acc_bases[entries, None]))
    if op["multiply"]:
        x = note(a.multiply(x, {Multiply.B: b, Multiply.C: c, Multiply.SCALAR: scalar}[op["multiply"]]))
    if op["add"]:
        x = note(a.add(x, {Add.B: b, Add.SCALAR: scalar, Add.MINUS_B: -b, Add.MINUS_SCALAR: -scalar}[op["add"]]))
    before = x
    if op["function"]:
        x = note(a.function(Function(op["function"]), x))
    if op["gain"]:
        factor = before if op["function"] else x
        x = note(a.multiply(x, {Gain.B: b, Gain.C: c, Gain.SCALAR: scalar, Gain.SELF: factor}[op["gain"]]))
    if op["relu"]:
        x = np.where(x > 0, x, 0.0)
    return np.where(valid, x, 0.0), np.concatenate([np.zeros((1, count, rows)), *[f[None] for f in faults]])


@pytest.mark.parametrize("exponents", [(-8, 8), (-70, 70), (-126, 127)], ids=str)
@pytest.mark.parametrize("p", [18, 24])
def test_any_pass_is_its_units_one_after_the_other(p, exponents):
    config = TILE.replace(significand_bits=p)
    rng = np.random.default_rng(p + exponents[1])
    outcomes = []
    for _ in range(150):
        state = random_state(config, int(rng.integers(1 << 30)))
        for memory in (state.vmem, state.smem):
            spread = np.ldexp(rng.uniform(-2, 2, memory.shape), rng.integers(*exponents, memory.shape))
            memory[:] = np.where(rng.random(memory.shape) < 0.1, 0.0, state.float_format.round(spread))
        state.acc_bases[:] = rng.integers(127 + exponents[0], 127 + exponents[1], state.acc_bases.shape)
        state.registers[1] = Arithmetic(state.float_format).encode(float(state.vmem[0, 0]))
        fields = {"count": int(rng.integers(1, 5)), "lanes": int(rng.integers(1, 5)), "x": 4, "b": 9, "c": 2,
                  "source": rng.choice([Source.VMEM, Source.ACC]), "multiply": rng.choice(Multiply),
                  "add": rng.choice(Add), "function": rng.choice(Function), "gain": rng.choice(Gain),
                  "relu": int(rng.integers(2)), "multiply_reg": 1, "add_reg": 1, "gain_reg": 1,
                  "write": Write.VMEM, "d": 30}  # fmt: skip
        fields = {name: int(value) for name, value in fields.items()}
        expected, faults = reference_pass(state, BundleFormat(config).complete(Operation("vxm", fields)))
        status, state = run(config, [bundle(60, vxm=fields), HALT], state)
        outcomes.append(state.fault)
        if faults.any():
            assert state.fault in set(faults.ravel().tolist()) - {0}
        else:
            assert status is Status.HALTED
            written = state.vmem[30 : 30 + fields["count"]]
            assert np.array_equal(written.view(np.int64), expected.view(np.int64)), fields
    assert outcomes.count(Fault.NONE) > 40
    assert exponents == (-8, 8) or outcomes.count(Fault.NONE) < 140


# Order of operations.


def test_operations_of_a_bundle_read_what_was_there_before_it():
    state = random_state(TILE)
    state.registers[1] = 2
    x = state.vmem[2].copy()
    accumulated = state.acc[0] * 2.0 ** (int(state.acc_bases[0]) - 141)
    state.act[0], state.act_codes[0] = 1, 127
    expected = state.wmem[0].sum(axis=1) * 2.0**14
    halted(TILE, [
        bundle(icu={"op": IcuOp.ADDI, "rd": 1, "rs": 1, "imm": 1}, vxm={"x_reg": 1, "write": Write.VMEM, "d": 9}),
        bundle(icu={"op": IcuOp.ADDI, "rd": 2, "rs": 3, "imm": 0}, vxm={"reduce": Reduce.MAX, "reduce_reg": 3}),
        bundle(mxm={"clear": Clear.INNER}, vxm={"source": Source.ACC, "write": Write.VMEM, "d": 10,
                                                "quantise": Quantise.ACT}),
    ], state)  # fmt: skip
    assert state.registers[1:3] == [3, 0] and state.vmem[9].tolist() == x.tolist()
    assert state.vmem[10].tolist() == state.float_format.round(accumulated).tolist()
    assert state.acc[0].tolist() == expected.tolist()


def test_a_pass_in_place_reads_before_it_writes():
    state = TileState(TILE)
    state.vmem[:6, 0] = range(6)
    halted(TILE, [bundle(vxm={"count": 5, "write": Write.VMEM, "d": 1})], state)
    assert state.vmem[:6, 0].tolist() == [0, 0, 1, 2, 3, 4]


def test_the_trace_holds_every_operation():
    trace = []
    halted(TILE, [bundle(7, icu={"op": IcuOp.LOOP, "imm": 2}, vxm={"count": 3}),
                  bundle(5, mxm={"inner": 2, "outer": 2}),
                  icu(IcuOp.END, 4)], trace=trace)  # fmt: skip
    matmul, end = Event(0, 1, "mxm", "matmul", 4), Event(0, 2, "icu", "end", 1)
    assert trace == [
        Event(0, 0, "icu", "loop", 1), Event(0, 0, "vxm", "pass", 3),
        replace(matmul, cycle=7), replace(end, cycle=12), replace(matmul, cycle=16), replace(end, cycle=21),
        Event(25, 3, "icu", "halt", 1),
    ]  # fmt: skip


# Faults.

FAULTS = {
    "enumeration": (Fault.OPCODE, 0, [bundle(vxm={"source": 1, "function": 7})]),
    "reserved field": (Fault.OPCODE, 0, [bundle(link={"reserved": 1})]),
    "function of none": (Fault.OPCODE, 0, [icu(IcuOp.FUNCTION)]),
    "source without switch": (Fault.CONFLICT, 0, [bundle(vxm={"source": Source.SXM})]),
    "switch without source": (Fault.CONFLICT, 0, [bundle(vxm={}, sxm={"op": SxmOp.ROTATE})]),
    "switch alone": (Fault.CONFLICT, 0, [bundle(sxm={"op": SxmOp.ROTATE})]),
    "multiplier used twice": (Fault.CONFLICT, 0, [bundle(vxm={"gain": Gain.B, "reduce": Reduce.SUM_SQUARES})]),
    "source address": (Fault.ADDRESS, 0, [bundle(vxm={"count": 3, "x": 254})]),
    "negative address": (Fault.ADDRESS, 1, [icu(IcuOp.LI, rd=1, imm=-9), bundle(vxm={"x": 8, "x_reg": 1})]),
    "destination": (Fault.ADDRESS, 0, [bundle(vxm={"count": 4, "write": Write.SMEM, "d": 5, "d_step": -2})]),
    "weights": (Fault.ADDRESS, 0, [bundle(mxm={"inner": 2, "weights": 511, "weights_inner": 1})]),
    "activations": (Fault.ADDRESS, 0, [bundle(mxm={"outer": 2, "act_outer": -1})]),
    "accumulators": (Fault.ADDRESS, 0, [bundle(60, mxm={"outer": 40, "acc_outer": 1})]),
    "lane of a word": (Fault.ADDRESS, 0, [icu(IcuOp.SLANE, imm=256)]),
    "no vectors": (Fault.COUNT, 0, [bundle(vxm={"count": 0})]),
    "no lanes": (Fault.COUNT, 0, [bundle(vxm={"lanes": 0})]),
    "many lanes": (Fault.COUNT, 1, [icu(IcuOp.LI, rd=1, imm=1), bundle(vxm={"lanes_reg": 1})]),
    "no interval": (Fault.COUNT, 0, [bundle(vxm={"interval": 0})]),
    "quantising slowly": (Fault.COUNT, 0, [bundle(vxm={"interval": 2, "quantise": Quantise.ACT})]),
    "no block": (Fault.COUNT, 0, [bundle(vxm={"block": 0})]),
    "no steps": (Fault.COUNT, 0, [bundle(mxm={"inner": 0})]),
    "many steps": (Fault.COUNT, 1, [icu(IcuOp.LI, rd=1, imm=1000), bundle(mxm={"outer": 24, "outer_reg": 1})]),
    "no distance": (Fault.COUNT, 0, [bundle(timed=True)]),
    "function": (Fault.FUNCTION, 0, [icu(IcuOp.FUNCTION, 20, function=Function.RECIPROCAL)]),
    "function of a vector": (Fault.FUNCTION, 0, [bundle(vxm={"function": Function.RSQRT})]),
    "loop of no iterations": (Fault.LOOP, 0, [icu(IcuOp.LOOP, imm=0)]),
    "end without loop": (Fault.LOOP, 0, [icu(IcuOp.END)]),
    "loops too deep": (Fault.LOOP, 4, [icu(IcuOp.LOOP, imm=1)] * 5),
    "jump away": (Fault.PROGRAM, 0, [icu(IcuOp.JUMP, imm=100)]),
    "outbox full": (Fault.MAILBOX, 1, [icu(IcuOp.LOOP, imm=65), icu(IcuOp.SEND), icu(IcuOp.END)]),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_fault(case):
    fault, pc, program = FAULTS[case]
    status, state = run(TILE, [*program, HALT])
    assert (status, state.fault, state.fault_pc) == (Status.FAULTED, fault, pc)
    assert not state.halted


def test_the_end_of_the_program_is_a_fault():
    status, state = run(TILE, [icu(IcuOp.LI)])
    assert (status, state.fault, state.fault_pc) == (Status.FAULTED, Fault.PROGRAM, 0)


def test_a_fault_stops_the_program_in_the_cycle_in_which_it_shows():
    state = TileState(TILE)
    state.vmem[0] = 2.0**100
    # The product leaves the multiplier in cycle 4 + 3: what issues by then still happens.
    program = [bundle(5, vxm={"multiply": Multiply.B}), icu(IcuOp.SEND, 3), icu(IcuOp.SEND, 3), HALT]
    status, state = run(TILE, program, state)
    assert (status, state.fault, state.fault_pc, state.cycles) == (Status.FAULTED, Fault.FLOAT, 1, 7)
    assert len(state.outbox) == 1


def test_the_fault_of_the_earliest_vector_and_unit_counts():
    state = TileState(TILE)
    state.vmem[0:2] = [[1.0] * 4, [0.0] * 4]
    state.vmem[2] = 2.0**127
    # The second vector has no reciprocal; the third, which comes later, has a product that is too large.
    status, state = run(TILE, [bundle(vxm={"count": 3, "function": Function.RECIPROCAL, "gain": Gain.SCALAR}), HALT],
                        state)  # fmt: skip
    assert (state.fault, state.cycles) == (Fault.FUNCTION, 4 + 8 + 1)


LARGE = {"count": 30, "multiply": Multiply.B}


@pytest.mark.parametrize(
    ("slots", "fault", "cycle"),
    [
        ({"vxm": LARGE | {"x": 230}}, Fault.FLOAT, 4 + 3),
        ({"vxm": LARGE | {"x": 254}}, Fault.ADDRESS, 1 + 2),
        ({"vxm": LARGE | {"gain": Gain.C, "c": 250}}, Fault.FLOAT, 4 + 3),
        ({"vxm": LARGE | {"gain": Gain.C, "c": 255}}, Fault.ADDRESS, 4 + 3 - 2 + 1),
        ({"vxm": LARGE, "mxm": {"inner": 40, "weights": 480, "weights_inner": 1}}, Fault.FLOAT, 4 + 3),
        ({"vxm": LARGE, "mxm": {"inner": 40, "weights": 511, "weights_inner": 1}}, Fault.ADDRESS, 2 + 1),
        ({"vxm": LARGE, "icu": {"op": IcuOp.SLANE, "imm": 256}}, Fault.ADDRESS, 1),
    ],
)
def test_of_two_faults_in_one_bundle_the_first_in_time_counts(slots, fault, cycle):
    state = TileState(TILE)
    state.vmem[:] = 2.0**100
    status, state = run(TILE, [bundle(60, **slots), HALT], state)
    assert (status, state.fault, state.fault_pc, state.cycles) == (Status.FAULTED, fault, 0, cycle)


# The host's view.


@pytest.mark.parametrize("config", [TILE, WIDE, SHAPES["8x16"].replace(significand_bits=24)], ids=["4x8", "8x16", "24"])
@pytest.mark.parametrize("window", [Window.WMEM, Window.VMEM, Window.SMEM])
def test_windows_read_back_what_was_written(config, window):
    state = TileState(config)
    state.randomise(np.random.default_rng(4))
    words = state.export(window)
    assert words.shape == (depth(config, window), beats(config, window))
    other = TileState(config)
    other.load(window, words[3:7], 3)
    assert np.array_equal(other.export(window)[3:7], words[3:7])
    assert not other.export(window)[7:].any()


def test_words_of_the_read_only_windows():
    state = TileState(TILE)
    state.wmem[1, 2] = [1, -1, 2, -2, 3, -3, 4, -128]
    assert [hex(w) for w in state.export(Window.WMEM)[1, 4:6]] == ["0xfe02ff01", "0x8004fd03"]
    state.act[1], state.act_codes[1] = [1, -1, 2, -2, 0, 0, 0, 127], 200
    assert [hex(w) for w in state.export(Window.ACT)[1]] == ["0xfe02ff01", "0x7f000000", "0xc8"]
    state.acc[0, :2] = [-2, 1 << 40]
    assert state.export(Window.ACC)[0, :4].tolist() == [0xFFFF_FFFE, 0xFFFF_FFFF, 0, 1 << 8]


def test_misuse_is_told():
    state = TileState(TILE)
    with pytest.raises(ValueError, match="window must be one of wmem, vmem, smem, not act"):
        state.load(Window.ACT, np.zeros((1, 3), np.uint32))
    with pytest.raises(ValueError, match=r"words must have the shape \(n, 4\), not \(1, 3\)"):
        state.load(Window.VMEM, np.zeros((1, 3), np.uint32))
    with pytest.raises(ValueError, match="words 255 to 256 do not lie in a memory of 256"):
        state.load(Window.VMEM, np.zeros((2, 4), np.uint32), 255)
    with pytest.raises(ValueError, match="window must be a memory of the state, not timing"):
        state.export(Window.TIMING)
    with pytest.raises(ValueError, match="the program has 513 words, more than the 512 of the tile"):
        Simulator(TILE, [HALT] * 513)
    with pytest.raises(ValueError, match="vxm has no field 'colour'"):
        Simulator(TILE, [bundle(vxm={"colour": 1})])
    with pytest.raises(ValueError, match="vxm: count must be from 0 to 1023, not 1024"):
        Simulator(TILE, [bundle(vxm={"count": 1024})])
    with pytest.raises(ValueError, match="a slot must be one of icu, mxm, vxm, sxm, link, not 'dsp'"):
        Simulator(TILE, [bundle(dsp={})])
