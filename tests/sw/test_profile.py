"""The profile: cycles as predicted, every idle cycle has one cause, and the floors add up to the model's own."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from lpu_isa.config import SHAPES
from lpu_sw.compiler.llama import CompiledLlama, compile_llama
from lpu_sw.engines import SimDevice
from lpu_sw.model import LlamaConfig, LlamaModel
from lpu_sw.profile.figures import Profile, floor_macs, profile
from lpu_sw.profile.page import stall_table
from lpu_sw.profile.report import report
from lpu_sw.profile.stalls import Cause
from lpu_sw.profile.timeline import Run, token_timeline
from lpu_sw.profile.trace import chrome_trace
from lpu_sw.sim.tile import Event, Simulator

AWKWARD = LlamaConfig(18, 21, 2, 3, 1, 6, 37, 16)
LAST = AWKWARD.max_positions - 1
PREFILL = Run(LAST + 1, LAST + 1)


@pytest.fixture(scope="module")
def compiled(random_model: Callable[..., LlamaModel]) -> CompiledLlama:
    return compile_llama(random_model(AWKWARD, seed=3), SHAPES["4x4"])


@pytest.fixture(scope="module", params=[(0, None), (7, None), (LAST, None), (5, PREFILL)], ids=str)
def figures(request: pytest.FixtureRequest, compiled: CompiledLlama) -> Profile:
    position, run = request.param
    return profile(compiled, AWKWARD, position, run)


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
    state.inbox.extend([3, 6, 0, -1, compiled.facts.epsilon_word, 1, 5, 36])
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


def test_the_norm_is_waited_for_in_every_layer(figures: Profile) -> None:
    passes = {(wanted, behind) for wanted, cause, behind, _ in figures.stalls if cause is Cause.PASS}
    assert any(behind == "o residual" for _, behind in passes)


def test_floors_are_the_models_own_multiplications(figures: Profile, compiled: CompiledLlama) -> None:
    timeline = figures.timeline
    macs = compiled.facts.position_macs(timeline.position, timeline.decodes)
    assert figures.floor == pytest.approx(macs / SHAPES["4x4"].multipliers)
    assert {kind.kind for kind in figures.kinds if kind.busy} == set(
        floor_macs(AWKWARD, 37, timeline.position, timeline.decodes)
    )


def test_names_tell_the_layer(figures: Profile) -> None:
    scores = [event.name for event in figures.timeline.events() if event.name.endswith("head 2 scores")]
    assert scores == ["layer 0 / head 2 scores", "layer 1 / head 2 scores"]
    logits = [event.name for event in figures.timeline.events() if event.name.startswith("logits")]
    assert bool(logits) == figures.timeline.decodes


def test_the_trace_is_json_with_an_event_an_operation(figures: Profile) -> None:
    trace = json.loads(json.dumps(chrome_trace(figures.timeline.events(), "a token")))
    shown = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(shown) == len(figures.timeline.events())
    tracks = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert all(tracks[event["tid"]] == event["cat"] for event in shown)


def test_the_stall_table_adds_up(figures: Profile) -> None:
    rows = [line.split("|")[1:-1] for line in stall_table([figures]).split("\n\n")[0].splitlines()[2:]]
    cycles = {name.strip(): int(count.replace(",", "")) for name, count in rows}
    idle = sum(count for name, count in cycles.items() if name.startswith("idle"))
    assert cycles["all"] == cycles["busy"] + idle == figures.timeline.cycles


def test_the_memory_map_covers_every_word_once(compiled: CompiledLlama) -> None:
    tile = compiled.program.config
    depths = {"weight SRAM": tile.wmem_words, "scale SRAM": tile.smem_words, "vector SRAM": tile.vmem_words,
              "activation buffer": tile.act_blocks, "accumulators": tile.accumulators}  # fmt: skip
    at = dict.fromkeys(depths, 0)
    for region in compiled.stretches:
        assert region.first == at[region.memory] and region.words > 0, region
        at[region.memory] += region.words
    assert at == depths


def test_the_page_is_well_formed_and_needs_nothing_else(figures: Profile, compiled: CompiledLlama) -> None:
    page = report(figures, compiled.stretches, "a <token>")
    root = ElementTree.fromstring(page.removeprefix("<!doctype html>").replace('<meta charset="utf-8">', ""))
    assert [element.text for element in root.iter("title")][0] == "a <token>"
    assert not {element.tag for element in root.iter()} & {"script", "link", "img"}
    tips = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(tip.startswith("layer 1 / gate ") for tip in tips) > 0
    assert any(tip.startswith("layer 0 / keys.cache: words") for tip in tips)


@pytest.mark.parametrize("position", [-1, LAST + 1])
def test_a_position_that_the_cache_does_not_hold(compiled: CompiledLlama, position: int) -> None:
    with pytest.raises(ValueError, match=f"position must be from 0 to {LAST}, not {position}"):
        token_timeline(compiled, position)
