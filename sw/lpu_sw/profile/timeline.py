"""Timeline: which bundle issues in which cycle of one token or one inference, and what its operations touch.

Only the program's control is walked, in the simulator: what the tile computes decides nothing about time. The one
number that it decides at all, the token, is an address in a table; another token reads another row in the same cycles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.fields import Operation, Use
from lpu_isa.icu import ALU, BRANCH, BRANCHES, IcuOp
from lpu_sw.asm.program import Program
from lpu_sw.compiler.llama import CompiledLlama, inbox_words
from lpu_sw.compiler.schedule import together
from lpu_sw.feed_forward.compile import CompiledNetwork
from lpu_sw.sim.tile import Simulator, Status

__all__ = ["Issue", "Run", "Timeline", "UnitEvent", "layers_of", "network_timeline", "titled", "token_timeline"]

ANY_TOKEN = 0
"""Token of every position of the walk."""

WALKED_AT_ONCE_CYCLES = 10_000

_COMPUTING = (IcuOp.FUNCTION, IcuOp.VLANE, IcuOp.SLANE)
"""Operations of the sequencer that work on the model's numbers."""


class Issue(NamedTuple):
    """A bundle with operations that issues. ``cycle`` counts from the post before.

    layer : None outside the layers. least : smallest distance that the sequencer allows to the next bundle.
    uses : what each slot's operation touches, in cycles after ``cycle``.
    """

    cycle: int
    pc: int
    name: str
    layer: int | None
    least: int
    uses: dict[str, Use]

    @property
    def title(self) -> str:
        """Its name with its layer, such as ``layer 2 / head 3 scores``."""
        return titled(self.name, self.layer)

    @property
    def together(self) -> Use:
        """What the bundle touches."""
        return together(self.uses.values())

    def busy(self, slot: str) -> int:
        """Cycles for which the operation of a slot keeps its unit; one where it is not kept."""
        return next((len(claim.cycle) for claim in self.uses[slot].claims if claim.resource == slot), 1)


class UnitEvent(NamedTuple):
    """One operation on one unit, as a trace shows it; ``cycle`` counts from the post before."""

    cycle: int
    pc: int
    slot: str
    name: str
    busy: int


@dataclass(frozen=True)
class Run:
    """What decides the way through the program, beside the program itself.

    prompt_tokens : at least 1. positions : that run, prompt included. host_chooses : whether the host draws the tokens.
    """

    prompt_tokens: int
    positions: int
    host_chooses: bool = False


@dataclass(frozen=True)
class Timeline:
    """From one post (cycle 0, or the machine's start) to the next, in cycle ``cycles``.

    subject : what is done in it, such as ``position 3``. start : the cycle of the run that is cycle 0 here.
    """

    subject: str
    start: int
    cycles: int
    issues: list[Issue]

    def events(self) -> list[UnitEvent]:
        """Every operation, in the order of issue."""
        return [UnitEvent(i.cycle, i.pc, slot, i.title, i.busy(slot)) for i in self.issues for slot in i.uses]


def token_timeline(compiled: CompiledLlama, position: int, run: Run | None = None) -> Timeline:
    """Walk one position of a run; by default of one that starts from a single token and goes on.

    Raises ValueError when the run or the cache does not reach the position.
    """
    context = compiled.facts.context
    run = run or Run(1, context)
    last = min(run.positions, context) - 1
    if not 0 <= position <= last:
        raise ValueError(f"position must be from 0 to {last}, not {position}")
    prompt, chosen = [ANY_TOKEN] * run.prompt_tokens, [ANY_TOKEN] * (run.positions if run.host_chooses else 0)
    inbox = inbox_words(compiled.facts, prompt, run.positions, run.host_chooses, -1) + chosen
    subject = f"position {position}" + (", inside a prompt" if position + 1 < run.prompt_tokens else "")
    return _timeline(subject, compiled.program, compiled.names, inbox, position)


def network_timeline(compiled: CompiledNetwork) -> Timeline:
    """Walk the one inference of a network's program."""
    return _timeline("one input", compiled.program, compiled.names, [], 0)


def _timeline(subject: str, program: Program, names: Sequence[str], inbox: Sequence[int], post: int) -> Timeline:
    """Walk a program from the post before post number ``post`` to that one."""
    isa = BundleFormat(program.config)
    walked: list[tuple[int, int, list[int]]] = []
    posts = [0]

    def observe(pc: int) -> None:
        if len(posts) == post + 1 and program.bundles[pc].operations:
            walked.append((state.cycles, pc, state.registers.copy()))
        if _icu_op(program.bundles[pc]) == IcuOp.SEND:
            posts.append(state.cycles)
            state.outbox.clear()

    control = [_control(bundle) for bundle in program.bundles]
    simulator = Simulator(program.config, control, program.timings.tolist(), observer=observe)
    state = simulator.state
    state.inbox.extend(inbox)
    simulator.start()
    while len(posts) < post + 2:
        status = simulator.run(state.cycles + WALKED_AT_ONCE_CYCLES)
        assert status in (Status.RUNNING, Status.HALTED), f"{status} in bundle {state.fault_pc}: {state.fault.text}"
    start, end = posts[post], posts[post + 1]
    issues = []
    for (cycle, pc, registers), layer in zip(
        walked, layers_of(program.bundles, [pc for _, pc, _ in walked]), strict=True
    ):
        bundle = program.bundles[pc]
        uses = {slot: isa.use(operation, registers) for slot, operation in bundle.operations.items()}
        issues.append(Issue(cycle - start, pc, names[pc], layer, _least_distance(bundle), uses))
    return Timeline(subject, start, end - start, issues)


def layers_of(bundles: Sequence[Bundle], issued: Sequence[int]) -> list[int | None]:
    """The layer of each bundle that issues, one after the other: how often the loop around it has been round."""
    layers: list[int | None] = []
    layer, body = None, 0
    for pc in issued:
        # The bundle that ends the loop belongs to the layer that it ends.
        layers.append(layer)
        op = _icu_op(bundles[pc])
        if op == IcuOp.LOOP:
            layer, body = 0, pc + 1
        elif op == IcuOp.END and layer is not None:
            layer = layer + 1 if layer + 1 < bundles[body - 1].operations["icu"]["imm"] else None
    return layers


def titled(name: str, layer: int | None) -> str:
    """An operation's name with its layer."""
    return name if layer is None else f"layer {layer} / {name}"


def _icu_op(bundle: Bundle) -> int:
    return bundle.operations["icu"]["op"] if "icu" in bundle.operations else IcuOp.NOP


def _least_distance(bundle: Bundle) -> int:
    op = _icu_op(bundle)
    if op in BRANCHES or op == IcuOp.END:
        return BRANCH
    return ALU + 1 if op == IcuOp.RECV else 1


def _control(bundle: Bundle) -> Bundle:
    """The bundle without what works on the model's numbers."""
    operations: dict[str, Operation] = {}
    if "icu" in bundle.operations and bundle.operations["icu"]["op"] not in _COMPUTING:
        operations["icu"] = bundle.operations["icu"]
    return Bundle(bundle.wait, bundle.timed, operations)
