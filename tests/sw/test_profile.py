"""The profile: cycles as predicted, every idle cycle has one cause, and the floors add up to the model's own."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lpu_isa.config import SHAPES
from lpu_sw.compiler.llama import CompiledLlama, compile_llama, inbox_words
from lpu_sw.compiler.memory import Memory
from lpu_sw.compiler.step import kind_of
from lpu_sw.engines import SimDevice
from lpu_sw.feed_forward.compile import CompiledNetwork, compile_network
from lpu_sw.frontends.onnx import read_onnx
from lpu_sw.model import LlamaConfig, LlamaModel
from lpu_sw.profile.figures import Profile, network_profile, token_macs, token_profile
from lpu_sw.profile.page import stall_table
from lpu_sw.profile.report import report
from lpu_sw.profile.stalls import Cause
from lpu_sw.profile.timeline import Run, network_timeline, token_timeline
from lpu_sw.profile.trace import chrome_trace
from lpu_sw.sim.tile import Event, Simulator

AWKWARD = LlamaConfig(18, 21, 2, 3, 1, 6, 37, 16)
LAST = AWKWARD.max_positions - 1
PREFILL = Run(LAST + 1, LAST + 1)
DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits" / "digits.onnx"


@pytest.fixture(scope="module")
def compiled(random_model: Callable[..., LlamaModel]) -> CompiledLlama:
    return compile_llama(random_model(AWKWARD, seed=3), SHAPES["4x4"])


@pytest.fixture(scope="module")
def network() -> CompiledNetwork:
    return compile_network(read_onnx(DIGITS), SHAPES["16x16-cnn"])


@pytest.fixture(scope="module", params=[(0, None), (7, None), (LAST, None), (5, PREFILL)], ids=str)
def place(request: pytest.FixtureRequest) -> tuple[int, Run | None]:
    """A position and its run."""
    return request.param


@pytest.fixture(scope="module")
def token_figures(place: tuple[int, Run | None], compiled: CompiledLlama) -> Profile:
    return token_profile(compiled, AWKWARD, *place)


@pytest.fixture(scope="module", params=["token", "network"])
def figures(request: pytest.FixtureRequest, token_figures: Profile, network: CompiledNetwork) -> Profile:
    return token_figures if request.param == "token" else network_profile(network)


@pytest.mark.parametrize("host_chooses", [False, True])
@pytest.mark.parametrize("prompt_tokens", [1, 5, LAST + 1])
def test_cycles_are_those_that_the_compiler_states(
    compiled: CompiledLlama, prompt_tokens: int, host_chooses: bool
) -> None:
    run = Run(prompt_tokens, LAST + 1, host_chooses)
    walked = [token_timeline(compiled, position, run).cycles for position in range(LAST + 1)]
    assert walked == compiled.facts.cycles.predict(prompt_tokens, LAST + 1, host_chooses)


def test_the_walk_issues_what_the_simulator_issues(compiled: CompiledLlama) -> None:
    run = Run(3, 6)
    trace: list[Event] = []
    state = SimDevice(compiled.program).state
    state.inbox.extend(inbox_words(compiled.facts, [1, 5, 36], run.positions, False, -1))
    simulator = Simulator(compiled.program.config, compiled.program.bundles, compiled.program.timings.tolist(), state,
                          trace)  # fmt: skip
    simulator.start()
    simulator.run()
    ran = [(event.cycle, event.pc, event.slot) for event in trace]
    walked = []
    for position in range(run.positions):
        timeline = token_timeline(compiled, position, run)
        walked += [(timeline.start + event.cycle, event.pc, event.slot) for event in timeline.events()]
    halt = ran.pop()
    assert walked == ran
    assert compiled.names[halt[1]] == "halt"


def test_a_network_takes_the_cycles_that_the_compiler_states(network: CompiledNetwork) -> None:
    timeline = network_timeline(network)
    assert (timeline.start, timeline.cycles) == (0, network.cycles)
    assert [issue.name for issue in timeline.issues] == [*network.names[:-1]]


def test_busy_cycles_are_the_steps_of_the_matmuls(figures: Profile) -> None:
    steps = sum(event.busy for event in figures.timeline.events() if event.slot == "mxm")
    assert figures.busy == steps == sum(kind.busy for kind in figures.kinds)
    assert 0 < figures.floor < figures.busy < figures.timeline.cycles


def test_every_idle_cycle_has_one_cause(figures: Profile) -> None:
    idle = [cycle for cycle, busy in enumerate(figures.analysis.is_busy) if not busy]
    caused = [cycle for s in figures.analysis.stalls for cycle in range(s.first, s.first + s.cycles)]
    assert caused == idle
    assert sum(figures.analysis.by_cause().values()) == figures.idle == sum(cycles for *_, cycles in figures.stalls)
    assert sum(kind.idle for kind in figures.kinds) == sum(kind.idle for _, kind in figures.layer_kinds) == figures.idle


def test_a_cause_lies_before_what_waits_for_it(figures: Profile) -> None:
    issues = figures.timeline.issues
    for stall in figures.analysis.stalls:
        assert stall.first + stall.cycles <= issues[stall.wanted].cycle
        if stall.behind is not None and stall.cause is not Cause.SHARED:
            assert issues[stall.behind].cycle <= stall.first


def test_the_norm_is_waited_for_in_every_layer(token_figures: Profile) -> None:
    passes = {(wanted, behind) for wanted, cause, behind, _ in token_figures.stalls if cause is Cause.PASS}
    assert any(behind == "o residual" for _, behind in passes)


def test_floors_are_the_models_own_multiplications(
    token_figures: Profile, place: tuple[int, Run | None], compiled: CompiledLlama
) -> None:
    position, decodes = place[0], place[1] is None
    macs = compiled.facts.position_macs(position, decodes)
    assert token_figures.floor == pytest.approx(macs / SHAPES["4x4"].multipliers)
    kinds = {kind.kind for kind in token_figures.kinds if kind.busy}
    assert kinds == set(token_macs(AWKWARD, 37, position, decodes))


def test_floors_of_a_network_are_the_products_of_its_operators(network: CompiledNetwork) -> None:
    """Counted one by one: ones in the place of image and weights, zeros in that of the padding."""

    def products(size: int, channels: int, window: int, padding: int) -> int:
        image = np.pad(np.ones((size, size), int), padding)
        windows = np.lib.stride_tricks.sliding_window_view(image, (window, window))
        return channels * int(windows.sum())

    expected = {
        "conv1": products(8, 16, 3, 1),
        "conv2": products(8, 16 * 16, 3, 1),
        "depthwise": products(4, 16, 3, 1),
        "pointwise": products(4, 16 * 32, 1, 0),
        "classifier": products(2, 32 * 10, 2, 0),
    }
    assert network.macs == {f"{name}.integers: row": macs for name, macs in expected.items()}
    figures = network_profile(network)
    assert {kind.kind: kind.floor for kind in figures.kinds if kind.busy} == {
        kind: macs / SHAPES["16x16-cnn"].multipliers for kind, macs in network.macs.items()
    }
    assert all(kind.floor <= kind.busy for kind in figures.kinds)


def test_names_tell_the_layer(token_figures: Profile, place: tuple[int, Run | None]) -> None:
    scores = [event.name for event in token_figures.timeline.events() if event.name.endswith("head 2 scores")]
    assert scores == ["layer 0 / head 2 scores", "layer 1 / head 2 scores"]
    logits = [event.name for event in token_figures.timeline.events() if event.name.startswith("logits")]
    assert bool(logits) == (place[1] is None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("head 3 scores", "head scores"), ("down block 12", "down block"), ("conv2/3: row 4", "conv2/3: row")],
)
def test_a_kind_leaves_out_what_is_counted_and_keeps_the_names_of_nodes(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_the_trace_is_json_with_an_event_an_operation(figures: Profile) -> None:
    trace = json.loads(json.dumps(chrome_trace(figures.timeline.events(), "a token")))
    shown = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(shown) == len(figures.timeline.events())
    tracks = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert all(tracks[event["tid"]] == event["cat"] for event in shown)


def test_an_event_lasts_a_unit_of_time_a_cycle(token_figures: Profile, place: tuple[int, Run | None]) -> None:
    """A head of 6 takes two key words for every four positions."""
    timeline, position = token_figures.timeline, place[0]
    trace = chrome_trace(timeline.events(), "a token")
    shown = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    scores = [event["dur"] for event in shown if event["name"].endswith("scores")]
    assert scores == [2 * -(-(position + 1) // 4)] * AWKWARD.n_layers * AWKWARD.n_heads
    first, last = min(event["ts"] for event in shown), max(event["ts"] for event in shown)
    assert 0 <= first and last - first <= timeline.cycles
    issues = {issue.cycle: issue.title for issue in timeline.issues}
    assert all(issues[event["ts"]] == event["name"] for event in shown)


def test_the_stall_table_adds_up(figures: Profile) -> None:
    rows = [line.split("|")[1:-1] for line in stall_table([figures]).split("\n\n")[0].splitlines()[2:]]
    cycles = {name.strip(): int(count.replace(",", "")) for name, count in rows}
    idle = sum(count for name, count in cycles.items() if name.startswith("idle"))
    assert cycles["all"] == cycles["busy"] + idle == figures.timeline.cycles


@pytest.mark.parametrize("made", ["compiled", "network"])
def test_the_memory_map_covers_every_word_once(made: str, request: pytest.FixtureRequest) -> None:
    mapped = request.getfixturevalue(made)
    at = dict.fromkeys(Memory, 0)
    for stretch in mapped.stretches:
        assert stretch.first == at[stretch.memory] and stretch.words > 0, stretch
        at[stretch.memory] += stretch.words
    assert at == {memory: memory.depth(mapped.program.config) for memory in Memory}


def test_the_page_is_well_formed_and_needs_nothing_else(token_figures: Profile, compiled: CompiledLlama) -> None:
    page = report(token_figures, compiled.stretches, "a <token>")
    root = ElementTree.fromstring(page.removeprefix("<!doctype html>"))
    assert [element.text for element in root.iter("title")][0] == "a <token>"
    assert not {element.tag for element in root.iter()} & {"script", "link", "img"}
    tips = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(tip.startswith("layer 1 / gate ") for tip in tips) > 0
    assert any(tip.startswith("layer 0 / keys.cache: words") for tip in tips)
    listed = list(root.iter("details"))[0].iter("tr")
    assert [row[1].text for row in listed] == ["holds", *(stretch.name for stretch in compiled.stretches)]


@pytest.mark.parametrize("position", [-1, LAST + 1])
def test_a_position_that_the_cache_does_not_hold(compiled: CompiledLlama, position: int) -> None:
    with pytest.raises(ValueError, match=f"position must be from 0 to {LAST}, not {position}"):
        token_timeline(compiled, position)
