"""Sequencer: random scalar programs, loops, branches, timed issue and mailboxes on RTL against the simulator."""

import random

import numpy as np
import pytest

from lpu_isa.icu import BRANCH, LANE, SCALAR_FUNCTION, IcuOp
from lpu_isa.tables import Function
from lpu_sw.asm import Program
from lpu_sw.asm.builder import Builder

ONE_CYCLE = (IcuOp.LI, IcuOp.ADDI, IcuOp.ADD, IcuOp.SUB, IcuOp.ANDI, IcuOp.SHL, IcuOp.SHR)


def random_word(rng: random.Random) -> int:
    """A signed 32-bit integer, often near a limit."""
    near = rng.choice([0, 1, -1, 2**31 - 1, -(2**31), 1 << rng.randrange(31)])
    return near if rng.random() < 0.3 else rng.randrange(-(2**31), 2**31)


def scalar_program(config, rng: random.Random) -> Program:
    """Arithmetic on random registers, a bundle a cycle where nothing depends, with lanes and functions between."""
    b = Builder(config)
    for register in range(32):
        b.bundle(icu={"op": "li", "rd": register, "imm": random_word(rng)})
    b.bundle(wait=2)
    previous = -1
    for _ in range(200):
        op = rng.choice(ONE_CYCLE)
        rd, rs, rt = (rng.randrange(32) for _ in range(3))
        imm = rng.randrange(32) if op in (IcuOp.SHL, IcuOp.SHR) else random_word(rng)
        if previous in (rs, rt) and previous:
            b.bundle()
        b.bundle(icu={"op": op, "rd": rd, "rs": rs, "rt": rt, "imm": imm})
        previous = rd
    b.bundle(wait=2)
    for _ in range(20):
        rd, rs, rt = rng.randrange(1, 32), rng.randrange(1, 32), rng.randrange(32)
        kind = rng.choice(["vlane", "slane"])
        depth = config.vmem_words if kind == "vlane" else config.smem_words
        b.bundle(icu={"op": "andi", "rd": rs, "rs": rs, "imm": 31}, wait=2)
        b.bundle(
            icu={"op": kind, "rd": rd, "rs": rs, "rt": rt, "imm": rng.randrange(depth - 32)},
            wait=rng.randrange(LANE + 1, LANE + 4),
        )
    one = 127 << (config.significand_bits - 1)
    for function in Function:
        if function is Function.NONE:
            continue
        b.bundle(icu={"op": "li", "rd": 1, "imm": one + rng.randrange(1 << (config.significand_bits - 1))}, wait=2)
        b.bundle(icu={"op": "function", "rd": 1 + function, "rs": 1, "function": function}, wait=SCALAR_FUNCTION + 1)
        b.bundle(icu={"op": "send", "rs": 1 + function})
    b.bundle(icu={"op": "halt"}, wait=4)
    return b.build()


def control_program(config, rng: random.Random) -> Program:
    """Loops four deep with counts from registers, every branch taken and not, and bundles timed by a table."""
    b = Builder(config)
    count, sum_, low, high = (b.register(name) for name in ("count", "sum", "low", "high"))
    b.bundle(icu={"op": "li", "rd": count, "imm": rng.randrange(1, 3)}, wait=2)
    with b.loop(rng.randrange(1, 3)), b.loop(0, count), b.loop(1, count, wait=5), b.loop(rng.randrange(1, 4)):
        b.bundle(icu={"op": "addi", "rd": sum_, "rs": sum_, "imm": 3}, wait=2)
        b.bundle(icu={"op": "send", "rs": sum_}, wait=rng.randrange(1, 9))
    a, z = random_word(rng), random_word(rng)
    b.bundle(icu={"op": "li", "rd": low, "imm": min(a, z)})
    b.bundle(icu={"op": "li", "rd": high, "imm": max(a, z)}, wait=2)
    for op in ("beq", "bne", "blt", "bge", "jump"):
        for rs, rt in ((low, high), (high, low), (low, low)):
            skipped = f"{op}{b.here}"
            b.bundle(icu={"op": op, "rs": rs, "rt": rt, "imm": skipped}, wait=rng.randrange(4, 7))
            b.bundle(icu={"op": "send", "rs": rs}, wait=rng.randrange(1, 4))
            b.label(skipped)
    base = rng.randrange(config.timings // 2)
    for step in range(3):
        b.bundle(icu={"op": "timing", "rs": 0, "imm": base + step}, wait=BRANCH)
        for _ in range(5):
            b.bundle(icu={"op": "send", "rs": sum_}, timed=True)
    # A new base, then single-cycle bundles before the first timed one.
    b.bundle(icu={"op": "timing", "rs": 0, "imm": base}, wait=BRANCH)
    for _ in range(3):
        b.bundle(icu={"op": "send", "rs": sum_})
    b.bundle(icu={"op": "send", "rs": high}, timed=True)
    b.bundle(icu={"op": "send", "rs": high}, timed=True)
    b.bundle(icu={"op": "halt"}, wait=4)
    b.timing(base, np.array([rng.choice([1, 2, 3, 4, 60]) for _ in range(b.here)], np.uint16))
    return b.build()


def mailbox_program(config, rng: random.Random) -> Program:
    """Adds up what it receives and sends every sum."""
    b = Builder(config)
    words = [random_word(rng) for _ in range(rng.randrange(1, 9))]
    with b.loop(len(words)):
        b.bundle(icu={"op": "recv", "rd": 1}, wait=rng.choice([2, 3, 9]))
        b.bundle(icu={"op": "add", "rd": 2, "rs": 2, "rt": 1}, wait=2)
        b.bundle(icu={"op": "send", "rs": 2})
    b.bundle(icu={"op": "halt"}, wait=4)
    program = b.build(prove=False)
    program.inbox = words
    return program


@pytest.mark.parametrize("make", [scalar_program, control_program, mailbox_program])
@pytest.mark.parametrize("seed", [1, 2])
def test_program_leaves_the_simulators_state(small, run_tile, saved, make, seed):
    images = [saved(f"{n}", make(small, random.Random(f"{make.__name__}{seed}{n}"))) for n in range(4)]
    run_tile(small, "tile", "programs", seed, images=images)


def test_waiting_for_the_host_costs_no_counted_cycle(small, run_tile, saved):
    images = [saved(f"{n}", mailbox_program(small, random.Random(n))) for n in range(4)]
    run_tile(small, "tile", "programs", images=images, is_late=True)
