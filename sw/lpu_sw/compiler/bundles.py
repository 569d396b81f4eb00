"""Pass `bundles`: the scheduled pieces, the loops around them, and the cycles of every position.

    start: parameters from the inbox
    token: a token of the prompt from the inbox, the position's counts, bases and angles
    begin: prologue | a body, n_layers times | classifier (not while the prompt has more tokens) | post
           and on with the token that the tile, the host or the prompt has for the next position

A body's bundles are the same for every layer and for all of its positions. Their distances come from timing memory, one
row for each bucket of positions.
"""

from dataclasses import dataclass
from itertools import pairwise

from lpu_isa.bundle import Bundle
from lpu_isa.fields import Operation
from lpu_isa.icu import ALU, BRANCH, IcuOp

from .layout import Layout
from .registers import Register
from .schedule import Schedule, joined_alike, landed
from .writer import Writer

__all__ = ["NO_TOKEN", "LlamaProgram", "PositionCycles", "build_program"]

NO_TOKEN = 0xFFFFFFFF
"""Posted for a position whose logits were not made, because the next token is already in the inbox."""

PARAMETERS = (Register.LAST_GIVEN, Register.LIMIT, Register.SAMPLED, Register.STOP, Register.EPSILON)
"""Registers that the first words of the inbox go to, in this order; then come the tokens of the prompt."""


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


@dataclass(frozen=True)
class LlamaProgram:
    """Bundles with one name each, contents of timing memory, bundle numbers of the labels, and the cycles."""

    bundles: list[Bundle]
    names: list[str]
    labels: dict[str, int]
    timings: list[int]
    cycles: PositionCycles


def build_program(layout: Layout, schedule: Schedule) -> LlamaProgram:
    """Put the pieces together."""
    r, row, bodies = Register, schedule.row, schedule.bodies
    position, prologue, classifier = schedule.position, schedule.prologue, schedule.classifier
    pieces = [piece for body in bodies for piece in body.pieces]

    w = Writer(layout.tile)
    w.label("start")
    for register in PARAMETERS:
        w.icu(f"receive {register.name.lower()}", IcuOp.RECV, ALU + 1, rd=register)
    w.icu("position 0", IcuOp.LI, ALU + 1, rd=r.POSITION, imm=0)
    w.label("token")
    w.icu("receive token", IcuOp.RECV, ALU + 1, rd=r.TOKEN)
    w.piece(position, landed(position) + 1)
    w.label("begin")
    at = prologue.issue[-1] + 1
    w.piece(prologue, at)
    timings = [1] * (len(pieces) * row)
    # The classifier waits for more of the last layer than a layer for the one before: once a token, not in each layer.
    ends = [(piece, classifier, piece.period + body.way_out) for body in bodies for piece in body.pieces]
    to_classifier = joined_alike(ends, BRANCH)
    layers, tails = [], []
    for k, body in enumerate(bodies):
        w.label(f"layers below {body.limit}")
        if body.way_out:
            w.icu("a longer context?", IcuOp.BGE, BRANCH, f"layers below {bodies[k + 1].limit}", rs=r.POSITION,
                  rt=r.HEAD + 1 + k)  # fmt: skip
            at += BRANCH
        first = joined_alike([(prologue, piece, 0) for piece in body.pieces], at + BRANCH + 1)
        w.icu("timing row", IcuOp.TIMING, BRANCH, rs=r.HEAD, imm=-(len(w.bundles) + 2))
        w.icu("layers", IcuOp.LOOP, first - at - BRANCH, imm=layout.rounds)
        for step in body.pieces[0].steps:
            w.put(step.name, Bundle(timed=True, operations=step.operations))
        w.put("end of layer", Bundle(timed=True, operations={"icu": Operation("icu", {"op": IcuOp.END})}))
        if body.way_out:
            w.icu("after layers", IcuOp.JUMP, body.way_out, "after layers")
        for piece in body.pieces:
            issue = [*piece.issue, piece.issue[-1] + 1, piece.period]
            here = len(layers) * row
            timings[here : here + len(issue) - 1] = [b - a for a, b in pairwise(issue)]
            layers.append(first + layout.rounds * piece.period + body.way_out)
            tails.append(landed(piece) - piece.period)
    w.label("after layers")
    w.icu("more of the prompt?", IcuOp.BLT, to_classifier, "prompt", rs=r.POSITION, rt=r.LAST_GIVEN)
    w.label("classifier")
    chosen = landed(classifier)
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
    # The next token is received, and a register written, when nothing runs any more.
    w.put("last writes", Bundle(max(1, max(tails) + 1 - to_classifier)))
    w.icu("next position", IcuOp.ADDI, 1, rd=r.POSITION, rs=r.POSITION, imm=1)
    w.icu("nothing to post", IcuOp.LI, ALU + 1, rd=r.BEST, imm=-1)
    w.label("post nothing")
    w.icu("post nothing", IcuOp.SEND, 1, rs=r.BEST)
    w.icu("more positions?", IcuOp.BLT, BRANCH, "token", rs=r.POSITION, rt=r.LIMIT)
    w.label("end")
    w.icu("halt", IcuOp.HALT, 1)
    w.finish()
    cycles = _predict(w, [layers[p // schedule.bucket] for p in range(layout.context)])
    return LlamaProgram(w.bundles, w.names, w.labels, timings, cycles)


def _predict(w: Writer, layers: list[int]) -> PositionCycles:
    """Add up the distances along the paths of the program; those to and through the layers are known."""

    def path(first: str, end: str) -> int:
        return sum(bundle.wait for bundle in w.bundles[w.labels[first] : w.labels[end]])

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
