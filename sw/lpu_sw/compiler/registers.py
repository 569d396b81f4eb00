"""Scalar registers of the program."""

from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "EXPERT_PLACE",
    "EXPERT_SUM",
    "HEAD_REGISTERS",
    "SCALARS",
    "MOST_CHOSEN",
    "ExpertRegisters",
    "Register",
    "expert_registers",
]


class Register(IntEnum):
    """What each register is for."""

    ZERO = 0
    POSITION = 1
    LAST_GIVEN = 2  # position of the prompt's last token
    LIMIT = 3  # positions to run
    SAMPLED = 4  # 1: the host chooses every token
    STOP = 5  # token that ends the run
    EPSILON = 6  # what sums of squares start from, a float
    TOKEN = 7
    BEST = 8  # the largest logit
    GROUPS = 9  # ceil(tokens / rows)
    STEPS = 10  # ceil(tokens / cols)
    LANES = 11  # valid lanes of the last group
    LAYER = 12  # weight words of the layer
    SCALES = 13  # scale words of the layer
    KEY = 14  # LAYER plus the group of the position
    VALUE = 15  # LAYER plus the step of the position
    SCALAR = 16  # .. 19: scalars of the graph
    TOKEN_GROUP = 20
    TOKEN_SCALE = 21
    ROTARY_HIGH = 22
    ROTARY_LOW = 23
    HEAD = 24  # .. 31: softmax sums, then their reciprocals; between positions free; experts


SCALARS = range(Register.SCALAR, Register.TOKEN_GROUP)
"""Registers for the scalars of a graph."""

HEAD_REGISTERS = 32 - Register.HEAD
"""Heads take turns with so many registers."""

EXPERT_SUM = Register.HEAD + 6
"""The sum of the chosen experts' shares, then its reciprocal, then an expert's number."""

EXPERT_PLACE = Register.HEAD + 7
"""A part of an expert's place on its way."""


class ExpertRegisters(NamedTuple):
    """What is known of a chosen expert.

    weights, scales : bases of its words; while experts are being chosen, ``weights`` holds its number. share : its
    weight in the sum, a float; before that its logit.
    """

    weights: int
    share: int
    scales: int


MOST_CHOSEN = 2
"""Experts of a token."""


def expert_registers(rank: int) -> ExpertRegisters:
    """Registers of the best expert (rank 0), the second and so on."""
    first = Register.HEAD + 3 * rank
    return ExpertRegisters(first, first + 1, first + 2)
