"""A Llama on the tile, by the golden model: cycles are the predicted ones, choices those of the model."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from lpu_isa.config import SHAPES
from lpu_isa.faults import Fault
from lpu_sw.bench import bench, figures_table
from lpu_sw.check import check
from lpu_sw.compiler.llama import CompiledLlama, compile_llama, inbox_words
from lpu_sw.engines import Job, SimDevice, SimEngine, driven
from lpu_sw.evaluate import evaluate
from lpu_sw.frontends import load_model
from lpu_sw.host.decode import MachineFault, Post, Request, decode
from lpu_sw.model import LlamaModel
from lpu_sw.reference.llama import greedy
from lpu_sw.run import Plan, Record, plan_run

KEYS = {
    "text", "tokens", "cycles", "predicted_cycles", "config", "engine", "wall_seconds", "cycles_per_second", "macs",
    "floor_cycles",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(story_llama: Path) -> LlamaModel:
    return load_model(story_llama)


@pytest.fixture(scope="module")
def compiled(model: LlamaModel) -> CompiledLlama:
    return compile_llama(model, SHAPES["8x16"])


@pytest.fixture(scope="module")
def plan(story_llama: Path) -> Plan:
    return plan_run(story_llama, "", 3)


def posts_of(model: LlamaModel, compiled: CompiledLlama, request: Request) -> list[Post]:
    return list(SimEngine().run(Job(model, request, compiled.facts.n_valid, compiled)))


@pytest.mark.parametrize("tile", ["8x16", "16x16"])
@pytest.mark.parametrize("prompt", ["", "Once upon a time"])
def test_sixteen_tokens_take_the_predicted_cycles(tile: str, prompt: str, story_llama: Path) -> None:
    record = Record(plan_run(story_llama, prompt, 16, "sim", tile))
    predicted = list(record.plan.predicted_cycles)
    assert len(list(record.run())) == len(predicted)
    assert record.cycles == predicted
    assert record.first_difference() is None
    figures = record.to_json()
    assert KEYS <= figures.keys()
    json.dumps(figures)
    for name in ("tokens", "cycles", "predicted_cycles", "macs", "floor_cycles"):
        assert len(figures[name]) == 16, name
    assert figures["cycles"] == figures["predicted_cycles"]
    assert sum(figures["prefill_cycles"] + figures["cycles"]) == sum(predicted)
    assert all(floor < cycles for floor, cycles in zip(figures["floor_cycles"], figures["cycles"], strict=True))
    assert figures["text"].startswith(prompt)


@pytest.mark.parametrize("prompt", [[1], [1, 225, 226, 101]])
def test_the_checker_finds_nothing(prompt: list[int], compiled: CompiledLlama) -> None:
    program, inbox = compiled.program, inbox_words(compiled.facts, prompt, 20, False, -1)  # three buckets of positions
    report = check(program.config, program.bundles, program.timings.tolist(), inbox, SimDevice(program).state)
    assert report.is_clean, [str(violation) for violation in report.violations]


def test_macs_are_those_of_the_model(plan: Plan, model: LlamaModel) -> None:
    """Every weight but the norms' is used once a token; of each cached token, every query uses a key and a value."""
    matrices = sum(
        array.size for layer in model.layers for array in vars(layer).values() if array is not None and array.ndim == 2
    )
    cached = 2 * model.config.n_layers * model.config.query_dim
    assert plan.macs == [matrices + model.embedding.size + cached * tokens for tokens in (1, 2, 3)]


def test_a_difference_from_the_prediction_is_found(plan: Plan) -> None:
    record = Record(plan)
    list(record.run())
    record.posts[1] = Post(1, record.posts[1].token, record.posts[1].cycles + 1)
    assert record.first_difference() == 1
    assert "as predicted: NO" in record.summary()


def test_the_tile_starts_the_story_that_float_tells(model: LlamaModel, compiled: CompiledLlama) -> None:
    posts = posts_of(model, compiled, Request((1,), 40))
    assert [post.token for post in posts] == greedy(model, [1], 40)


def test_the_hosts_greedy_choice_is_the_tiles(model: LlamaModel, compiled: CompiledLlama) -> None:
    device = SimDevice(compiled.program)
    own = [post.token for post in driven(decode(device, compiled.facts, Request((1,), 12)))]
    chosen = driven(decode(device, compiled.facts, Request((1,), 12), lambda position, logits: int(np.argmax(logits))))
    assert [post.token for post in chosen] == own


def test_a_seed_fixes_a_story_and_its_cycles_are_predicted(model: LlamaModel, compiled: CompiledLlama) -> None:
    stories = [posts_of(model, compiled, Request((1,), 16, -1, 3.0, seed)) for seed in (7, 7, 8)]
    for posts in stories:
        assert [post.cycles for post in posts] == compiled.facts.cycles.predict(1, 16, True)
    assert stories[0] == stories[1]
    assert [post.token for post in stories[0]] != [post.token for post in stories[2]]


def test_a_prompt_is_what_generating_it_would_have_been(model: LlamaModel, compiled: CompiledLlama) -> None:
    """Positions inside the prompt leave the classifier out, and the caches as they would be."""
    free = greedy(model, [1], 20)
    assert [post.token for post in posts_of(model, compiled, Request((1,), 20))] == free
    told = posts_of(model, compiled, Request((1, *free[:10]), 20))
    assert [post.token for post in told] == [None] * 10 + free[10:]
    assert max(post.cycles for post in told[1:10]) < min(post.cycles for post in told[10:])


def test_a_run_ends_at_the_stop_token(model: LlamaModel, compiled: CompiledLlama) -> None:
    free = [post.token for post in posts_of(model, compiled, Request((1,), 8))]
    stop = free[5]
    assert stop is not None
    assert [post.token for post in posts_of(model, compiled, Request((1,), 8, stop))] == free[: free.index(stop) + 1]


def test_nothing_is_left_behind_by_an_earlier_run(model: LlamaModel, compiled: CompiledLlama) -> None:
    device, request = SimDevice(compiled.program), Request((1,), 10)
    first = list(driven(decode(device, compiled.facts, request)))
    list(driven(decode(device, compiled.facts, Request((1, 300, 301, 302), 30))))
    assert list(driven(decode(device, compiled.facts, request))) == first


def test_the_last_position_of_the_context_runs(model: LlamaModel) -> None:
    compiled = compile_llama(model, SHAPES["8x16"], context=16)
    posts = posts_of(model, compiled, Request((1,), 1000))
    assert [post.cycles for post in posts] == compiled.facts.cycles.predict(1, 16, False)


def test_a_fault_is_told(model: LlamaModel, compiled: CompiledLlama) -> None:
    device = SimDevice(compiled.program)
    with pytest.raises(MachineFault, match="fault ADDRESS") as caught:
        list(driven(decode(device, compiled.facts, Request((1 << 20,), 2))))
    handed_over = pickle.loads(pickle.dumps(caught.value))
    assert (handed_over.fault, handed_over.pc, str(handed_over)) == (
        Fault.ADDRESS, device.state.fault_pc, str(caught.value)
    )  # fmt: skip


def test_a_prompt_longer_than_the_context_is_refused(model: LlamaModel, compiled: CompiledLlama) -> None:
    n = compiled.facts.context
    with pytest.raises(ValueError, match=f"the prompt has {n + 1} tokens, the context holds {n}"):
        posts_of(model, compiled, Request((1,) * (n + 1), n))
    with pytest.raises(ValueError, match="the prompt is empty"):
        posts_of(model, compiled, Request((), n))


def test_eval_counts_what_it_is_given(story_llama: Path) -> None:
    done: list[tuple[int, int]] = []
    figures = evaluate(
        story_llama, story_llama / "heldout.txt", "sim", SHAPES["8x16"], 60, advance=lambda *both: done.append(both)
    )
    assert (figures["tokens"], figures["stories"]) == (60, 1)
    assert done == [(60, 60)]
    assert abs(figures["difference"]) < 0.05
    assert figures["loss"] == pytest.approx(figures["float_loss"] + figures["difference"])
    assert figures["top1_agreement"] >= 0.9


def test_bench_fills_its_tables(story_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA2C", raising=False)
    said: list[str] = []
    figures = bench([(story_llama, "8x16")], 2, 0, said.append)
    assert said[-1].startswith("llama2.c is left out") and not figures["llama2c"]
    (run,) = figures["runs"]
    assert run["sim"]["is_as_predicted"]
    assert 0.5 < run["mean_utilisation"] < 1
    assert (
        run["positions"]["63"]["utilisation"]
        == run["positions"]["63"]["floor_cycles"] / run["positions"]["63"]["cycles"]
    )
    assert f"{run['mean_utilisation']:.3f}" in figures_table(figures)
    assert {kind["kind"] for kind in run["matmuls"] if kind["busy"]} >= {"queries", "gate", "logits"}
    board = run["board"]
    assert board["tokens_per_second"] == pytest.approx(board["clock_mhz"] * 1e6 / run["mean_cycles"])
    processor = {
        "model": run["model"], "flags": "gcc", "processor": "some", "clock_mhz": None, "mean_cycles": None,
        "tokens_per_second": board["tokens_per_second"] / 2, "weights_per_second": 1e9,
    }  # fmt: skip
    on_processor, on_tile = figures_table(figures | {"llama2c": [processor]}).splitlines()[-2:]
    assert on_processor.startswith("| llama2.c, gcc, one core of some | - | - |") and on_processor.endswith("| 1.00 |")
    assert on_tile.startswith("| tile 8x16, ") and on_tile.endswith("| 2.00 |")
