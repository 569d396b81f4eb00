"""A sparse mixture of experts: its reader, its float32 against PyTorch and plain float64, the tile bit for bit."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import SHAPES
from lpu_sw.check import check
from lpu_sw.compiler.calibrate import calibrate
from lpu_sw.compiler.llama import CompiledLlama, compile_llama, inbox_words
from lpu_sw.compiler.memory import DoesNotFit, Memory
from lpu_sw.frontends import load_model
from lpu_sw.frontends.safetensors import INDEX
from lpu_sw.frontends.tokenizer import load_tokenizer
from lpu_sw.heldout import read_stories, story_tokens
from lpu_sw.image import Image
from lpu_sw.model import LlamaConfig, ModelError
from lpu_sw.reference.llama import FloatLlama, choose_experts, greedy, next_token_losses
from lpu_sw.reference.quantised import QuantisedLlama
from lpu_sw.sim.state import TileState
from lpu_sw.sim.tile import Simulator, Status

CONFIG = LlamaConfig(
    dim=24, hidden_dim=20, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=12, vocab_size=50, max_positions=16,
    n_experts=5, experts_per_token=3,
)  # fmt: skip
FIRST = "model.layers.0.block_sparse_moe.experts"


@pytest.fixture
def folder(story_moe: Path, tmp_path: Path) -> Path:
    """A copy of the shipped model's config and weights."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((story_moe / name).read_bytes())
    return tmp_path


def refusal(folder: Path, options: dict[str, Any] | None = None, **tensors: np.ndarray | None) -> str:
    """What is said of a folder with some options and tensors changed; None takes a tensor out."""
    if options:
        config = json.loads((folder / "config.json").read_text()) | options
        (folder / "config.json").write_text(json.dumps(config))
    kept = load_file(folder / "model.safetensors") | tensors
    save_file({name: tensor for name, tensor in kept.items() if tensor is not None}, folder / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    return str(caught.value).removeprefix(f"{folder}: ")


def test_matches_pytorch_on_the_shipped_model(story_moe):
    model = load_model(story_moe)
    assert (model.config.n_experts, model.config.experts_per_token) == (4, 2)
    reference = json.loads((story_moe / "reference.json").read_text())
    logits = FloatLlama(model).forward(reference["greedy"][0]["prompt_ids"])[-1]
    np.testing.assert_allclose(logits, reference["logits_after_first_prompt"], atol=1e-4)
    for continuation in reference["greedy"]:
        assert greedy(model, continuation["prompt_ids"], 100) == continuation["greedy_ids"]


def test_the_loss_on_held_out_stories_is_that_of_pytorch(story_moe, story_llama):
    model = load_model(story_moe)
    tokenizer = load_tokenizer(story_moe, model.config)
    reference = json.loads((story_moe / "reference.json").read_text())["heldout"]
    stories = read_stories(story_llama / reference["file"])
    losses = [next_token_losses(model, story_tokens(story, tokenizer, model.config)) for story in stories]
    assert sum(map(len, losses)) == reference["predicted_tokens"]
    assert np.concatenate(losses).mean() == pytest.approx(reference["mean_loss"], abs=2e-5)


def test_the_experts_weights_are_a_softmax_over_all_made_to_sum_to_one():
    logits = np.random.default_rng(0).normal(size=(40, 6))
    chosen, weights = choose_experts(logits, 3)
    for row, experts, shares in zip(logits, chosen, weights, strict=True):
        all_shares = np.exp(row) / np.exp(row).sum()
        assert experts.tolist() == sorted(range(6), key=lambda expert: -row[expert])[:3]
        np.testing.assert_allclose(shares, all_shares[experts] / all_shares[experts].sum(), rtol=1e-12)


def test_of_equal_logits_the_lowest_expert_is_chosen_first():
    chosen, weights = choose_experts(np.array([[1.0, 2, 2, 2], [0, 0, 0, 0], [3, 1, 1, 3]]), 2)
    assert chosen.tolist() == [[1, 2], [0, 1], [0, 3]]
    np.testing.assert_array_equal(weights, 0.5)


def test_each_token_goes_through_its_own_experts(random_model):
    """The feed-forward of one layer, token by token in float64, from the hidden states around it."""
    model = random_model(CONFIG, seed=2)
    (layer,) = model.layers
    hidden: list[np.ndarray] = []
    FloatLlama(model, lambda name, _, values: hidden.append(values) if name == "hidden" else None).forward(range(16))
    _, before, after = np.array(hidden, np.float64)
    for x, y in zip(before, after, strict=True):
        normed = x / np.sqrt(x @ x / CONFIG.dim + CONFIG.norm_epsilon) * layer.feed_forward_norm
        shares = np.exp(layer.router @ normed)
        best = np.argsort(-shares)[:3]
        expected = x.copy()
        for expert in best:
            gate = layer.gate[expert] @ normed
            gated = gate / (1 + np.exp(-gate)) * (layer.up[expert] @ normed)
            expected += layer.down[expert] @ gated * shares[expert] / shares[best].sum()
        np.testing.assert_allclose(y, expected, atol=1e-4)


def test_equal_experts_are_a_dense_model(random_model):
    model = random_model(CONFIG, seed=4)
    (layer,) = model.layers
    for name in ("gate", "up", "down"):
        getattr(layer, name)[1:] = getattr(layer, name)[0]
    dense = dataclasses.replace(
        model,
        config=dataclasses.replace(CONFIG, n_experts=0, experts_per_token=0),
        layers=(dataclasses.replace(layer, gate=layer.gate[0], up=layer.up[0], down=layer.down[0], router=None),),
    )
    tokens = range(16)
    np.testing.assert_allclose(FloatLlama(model).forward(tokens), FloatLlama(dense).forward(tokens), atol=1e-5)


@pytest.mark.parametrize("missing", [["0.w1", "3.w2"], ["0.w3", "1.w3", "2.w3", "3.w3"]], ids=["some", "all of a kind"])
def test_names_all_missing_experts(folder, missing):
    names = [f"{FIRST}.{name}.weight" for name in missing]
    assert refusal(folder, **dict.fromkeys(names)) == f"missing tensors: {', '.join(names)}"


def test_names_missing_routers(folder):
    router = "model.layers.1.block_sparse_moe.gate.weight"
    assert refusal(folder, **{router: None}) == f"missing tensors: {router}"


def test_names_the_expert_that_differs_in_shape(folder):
    name = f"{FIRST}.2.w3.weight"
    changed = {name: np.zeros((95, 64), np.float32)}
    assert refusal(folder, **changed) == f"tensor {name} has shape (95, 64), expert 0's has (96, 64)"


def test_names_the_place_of_what_is_not_a_number(folder):
    name = f"{FIRST}.2.w3.weight"
    weights = load_file(folder / "model.safetensors")[name]
    weights[7, 5] = np.nan
    assert "nan at expert 2, row 7, column 5" in refusal(folder, **{name: weights})


@pytest.fixture
def shards(folder: Path) -> dict[str, str]:
    """Which of three shards holds what: no layer, and no expert, lies in one alone."""
    tensors = load_file(folder / "model.safetensors")
    places = {name: f"model-{1 + number % 3:05}-of-00003.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({name: tensors[name] for name, place in places.items() if place == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    (folder / "model.safetensors").unlink()
    return places


def shard_refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    return str(caught.value).removeprefix(f"{folder}: ")


def test_experts_across_shards_make_the_same_image(folder, shards, story_moe):
    assert {len({place for name, place in shards.items() if f"experts.{n}." in name}) for n in range(4)} == {3}
    stories = [[1, 5, 9, 13]]
    images = []
    for path in (folder, story_moe):
        model = load_model(path)
        compiled = compile_llama(model, ROOMY["16x16"], context=16, ranges=calibrate(model, stories))
        Image.from_program(compiled.program).save(folder / "image")
        images.append((folder / "image").read_bytes())
    assert images[0] == images[1]


def test_a_shard_of_experts_that_is_gone_is_named(folder, shards):
    gone = shards[f"{FIRST}.2.w1.weight"]
    (folder / gone).unlink()
    assert shard_refusal(folder) == f"missing shards: {gone}"


def test_an_expert_in_another_shard_than_the_index_says_is_named(folder, shards):
    name = f"{FIRST}.2.w1.weight"
    other = next(place for place in sorted(shards.values()) if place != shards[name])
    (folder / INDEX).write_text(json.dumps({"weight_map": shards | {name: other}}))
    said = shard_refusal(folder)
    assert name in said and INDEX in said and (shards[name] in said or other in said)


def test_an_expert_that_no_shard_holds_is_named(folder, shards):
    name = f"{FIRST}.2.w1.weight"
    kept = load_file(folder / shards[name])
    del kept[name]
    save_file(kept, folder / shards[name])
    (folder / INDEX).write_text(json.dumps({"weight_map": {n: place for n, place in shards.items() if n != name}}))
    assert shard_refusal(folder) == f"missing tensors: {name}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_experts_per_tok": 5}, "a token cannot go through 5 of 4 experts"),
        ({"num_experts_per_tok": 0}, "a token cannot go through 0 of 4 experts"),
        ({"num_local_experts": 0}, "config.json has num_local_experts = 0, expected at least 1"),
        ({"num_local_experts": 3}, f"unknown tensors in model.safetensors: {FIRST}.3.w1.weight"),
        ({"num_local_experts": "4"}, "config.json has num_local_experts = '4', expected a number"),
        ({"sliding_window": 128}, "sliding_window is 128, supported: None"),
    ],
)
def test_refuses_impossible_mixtures(folder, options, message):
    assert message in refusal(folder, options)


ROOMY = {name: tile.replace(wmem_words=8192, smem_words=1024, vmem_words=1024, act_blocks=64, accumulators=64,
                            summed=32, timings=4096) for name, tile in SHAPES.items()}  # fmt: skip


def loaded(compiled: CompiledLlama) -> TileState:
    """A tile with the model in it."""
    state = TileState(compiled.program.config)
    for section in compiled.program.sections:
        memory = getattr(state, section.space)
        data = section.data if section.space == "wmem" else state.float_format.decode(section.data)
        memory[section.address : section.address + len(data)] = data
    return state


def assert_tile_agrees(compiled: CompiledLlama, quantised: QuantisedLlama, tokens: list[int]) -> None:
    """The tile's logits equal the quantised model's bit for bit, in the predicted cycles.

    The host chooses every token.
    """
    program, facts = compiled.program, compiled.facts
    state = loaded(compiled)
    state.inbox.extend(inbox_words(facts, tokens[:1], len(tokens), True, -1))
    simulator = Simulator(program.config, program.bundles, program.timings.tolist(), state)
    simulator.start()
    for position, token in enumerate(tokens):
        status = simulator.run()
        assert status is (Status.HALTED if position + 1 == len(tokens) else Status.WAITING), state.fault
        logits = state.vmem[facts.logits : facts.logits + facts.logit_words].ravel()[: facts.n_valid]
        assert quantised.step(token).tolist() == logits.tolist(), f"position {position}"
        state.inbox.extend(tokens[position + 1 : position + 2])
    stamps = np.diff([0, *(sent.stamp for sent in state.outbox)])
    assert stamps.tolist() == facts.cycles.predict(1, len(tokens), True)


def test_the_shipped_model_on_the_tile(story_moe):
    model = load_model(story_moe)
    tokens = json.loads((story_moe / "reference.json").read_text())["greedy"][0]
    tokens = (tokens["prompt_ids"] + tokens["greedy_ids"])[:40]
    ranges = calibrate(model, [tokens])
    compiled = compile_llama(model, ROOMY["8x16"], context=48, ranges=ranges)
    assert_tile_agrees(compiled, QuantisedLlama(model, ROOMY["8x16"], ranges), tokens)


@pytest.mark.parametrize(("shape", "n_chosen"), [("4x4", 2), ("8x16", 1), ("16x16", 2)])
def test_awkward_mixtures_on_the_tile(random_model, shape, n_chosen):
    sizes = dataclasses.replace(CONFIG, n_layers=2, n_experts=3, experts_per_token=n_chosen)
    model = random_model(sizes, seed=1)
    tokens = np.random.default_rng(5).integers(0, sizes.vocab_size, 12).tolist()
    ranges = calibrate(model, [tokens])
    compiled = compile_llama(model, ROOMY[shape], context=16, ranges=ranges)
    assert_tile_agrees(compiled, QuantisedLlama(model, ROOMY[shape], ranges), tokens)


def test_equal_experts_are_chosen_from_the_lowest_on_the_tile(random_model):
    model = random_model(dataclasses.replace(CONFIG, n_experts=4, experts_per_token=2), seed=6)
    model.layers[0].router[:] = model.layers[0].router[0]
    ranges = calibrate(model, [[3, 1, 4, 1, 5]])
    compiled = compile_llama(model, ROOMY["8x16"], context=16, ranges=ranges)
    assert_tile_agrees(compiled, QuantisedLlama(model, ROOMY["8x16"], ranges), [3, 1, 4, 1, 5])


@pytest.mark.parametrize("factor", [0.0, 1.0, -1.0, 2.0**60, 2.0**90], ids=str)
def test_whatever_the_router_says_only_experts_words_are_read_as_such(random_model, factor):
    """An expert's number is the index of a largest lane among as many lanes as there are experts, so it has no other.

    Logits beyond the masks (2**60) may choose one expert twice; then that is what is read.
    """
    sizes = dataclasses.replace(CONFIG, n_layers=2, n_experts=3, experts_per_token=2)
    model = random_model(sizes, seed=8)
    for layer in model.layers:
        layer.router[:] *= np.float32(factor)
    compiled = compile_llama(model, ROOMY["8x16"], context=16, ranges=calibrate(model, [[3, 1, 4, 1, 5]]))
    words = {
        (memory, kind): {
            word
            for stretch in compiled.stretches
            if stretch.memory == memory and re.search(rf"/ expert \d / {kind}\.", stretch.name)
            for word in range(stretch.first, stretch.first + stretch.words)
        }
        for memory in (Memory.WEIGHTS, Memory.SCALES)
        for kind in ("gate", "up", "down")
    }
    read: dict[tuple[Memory, str], set[int]] = {place: set() for place in words}
    state, program, layout = loaded(compiled), compiled.program, BundleFormat(compiled.program.config)

    def observe(pc: int) -> None:
        kind = next((kind for kind in ("gate", "up", "down") if compiled.names[pc].startswith(kind)), None)
        for operation in program.bundles[pc].operations.values() if kind else ():
            for access in layout.use(operation, state.registers).accesses:
                memory = {"wmem": Memory.WEIGHTS, "smem": Memory.SCALES}.get(access.space)
                if memory and not access.write:
                    read[memory, kind].update(access.index.tolist())

    state.inbox.extend(inbox_words(compiled.facts, [3, 1], 12, False, -1))
    simulator = Simulator(program.config, program.bundles, program.timings.tolist(), state, observer=observe)
    simulator.start()
    assert simulator.run() is Status.HALTED
    for place, addresses in read.items():
        assert addresses and addresses <= words[place], place


def test_the_checker_finds_nothing(random_model):
    model = random_model(dataclasses.replace(CONFIG, n_layers=2, experts_per_token=2), seed=7)
    compiled = compile_llama(model, ROOMY["8x16"], context=16, ranges=calibrate(model, [[3, 1, 4, 1, 5]]))
    program, inbox = compiled.program, inbox_words(compiled.facts, [3, 1], 4, False, -1)
    report = check(program.config, program.bundles, program.timings.tolist(), inbox, loaded(compiled))
    assert report.is_clean, [str(violation) for violation in report.violations]


@pytest.mark.parametrize(
    ("n_experts", "n_chosen", "message"),
    [(5, 3, "goes through 3 experts, the compiler takes 2"), (9, 2, "has 9 experts, the .* tile takes 8")],
)
def test_the_compiler_says_how_many_experts_it_takes(random_model, n_experts, n_chosen, message):
    sizes = dataclasses.replace(CONFIG, n_experts=n_experts, experts_per_token=n_chosen)
    with pytest.raises(DoesNotFit, match=message):
        compile_llama(random_model(sizes), ROOMY["8x16"])
