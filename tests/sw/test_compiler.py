"""The compiler: any Llama that fits runs, says the cycles beforehand, and computes what the float model computes."""

import numpy as np
import pytest

from lpu_isa.config import SHAPES, TileConfig
from lpu_sw.check import check
from lpu_sw.compiler.calibrate import calibrate
from lpu_sw.compiler.llama import Compilation, CompiledLlama, compile_llama, inbox_words
from lpu_sw.compiler.memory import DoesNotFit, Memory
from lpu_sw.frontends import load_model
from lpu_sw.model import LlamaConfig, LlamaModel
from lpu_sw.reference.llama import FloatLlama
from lpu_sw.reference.quantised import QuantisedLlama
from lpu_sw.sim.state import TileState
from lpu_sw.sim.tile import Simulator, Status

ROOMY = {name: tile.replace(wmem_words=4096, timings=4096, smem_words=1024, vmem_words=1024, act_blocks=64,
                            accumulators=64, summed=32) for name, tile in SHAPES.items()}  # fmt: skip


def config(**changes) -> LlamaConfig:
    sizes = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "vocab_size": 64,
                 "max_positions": 64}  # fmt: skip
    return LlamaConfig(**{**sizes, **changes})


def loaded(compiled: CompiledLlama, seed: int = 0) -> Simulator:
    """A simulator with the model in it and random words everywhere else."""
    program = compiled.program
    state = TileState(program.config)
    state.randomise(np.random.default_rng(seed))
    for section in program.sections:
        memory = getattr(state, section.space)
        data = section.data if section.space == "wmem" else state.float_format.decode(section.data)
        memory[section.address : section.address + len(data)] = data
    return Simulator(program.config, program.bundles, program.timings.tolist(), state)


def forced_logits(compiled: CompiledLlama, tokens: list[int]) -> np.ndarray:
    """Logits (tokens, n_valid) of the tile when the host gives every token; checks every cycle count on the way."""
    sim, facts = loaded(compiled), compiled.facts
    state = sim.state
    state.inbox.extend(inbox_words(facts, tokens[:1], len(tokens), True, -1))
    sim.start()
    rows = []
    for token in [*tokens[1:], None]:
        status = sim.run()
        assert status is (Status.HALTED if token is None else Status.WAITING), state.fault
        rows.append(state.vmem[facts.logits : facts.logits + facts.logit_words].ravel()[: facts.n_valid].copy())
        if token is not None:
            state.inbox.append(token)
    stamps = np.diff([0, *(sent.stamp for sent in state.outbox)])
    assert stamps.tolist() == facts.cycles.predict(1, len(tokens), True)
    return np.array(rows)


def assert_right(model: LlamaModel, compiled: CompiledLlama, n_tokens: int) -> None:
    """The tile's logits equal the quantised model's bit for bit, and follow the float model's but for int8 noise."""
    tokens = np.random.default_rng(5).integers(0, model.config.vocab_size, n_tokens).tolist()
    want = FloatLlama(model).forward(tokens)[:, : compiled.facts.n_valid]
    got = forced_logits(compiled, tokens)
    quantised = QuantisedLlama(model, compiled.program.config, calibrate(model))
    for position, token in enumerate(tokens):
        assert quantised.step(token).tolist() == got[position].tolist(), f"position {position}"
    error = np.sqrt(np.mean((got - want) ** 2, axis=1) / np.mean(want**2, axis=1))
    # One wrong lane, head or angle gives errors near 1.
    assert error.mean() < 0.08 and error.max() < 0.25, error


@pytest.mark.parametrize("heads", [(8, 8), (8, 4), (8, 2), (8, 1), (6, 3)])
def test_grouped_query_attention(heads, random_model):
    n_heads, n_kv_heads = heads
    model = random_model(config(dim=8 * n_heads, n_heads=n_heads, n_kv_heads=n_kv_heads), 1)
    assert_right(model, compile_llama(model, ROOMY["8x16"]), 41)


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize(
    "changes",
    [
        {"dim": 24, "hidden_dim": 52, "vocab_size": 77, "n_heads": 3, "n_kv_heads": 1},  # nothing divides the tile
        {"n_heads": 2, "n_kv_heads": 1, "head_dim": 16, "rope_pairs": "half"},
        {"n_heads": 2, "n_kv_heads": 2, "head_dim": 4, "tied": False},
        {"dim": 40, "n_heads": 2, "n_kv_heads": 1, "head_dim": 20, "n_layers": 1},
    ],
    ids=["odd", "half", "untied", "head20"],
)
def test_sizes_that_the_tile_does_not_divide(shape, changes, random_model):
    model = random_model(config(**changes), 2)
    assert_right(model, compile_llama(model, ROOMY[shape], context=32), 24)


@pytest.mark.parametrize("bits", [18, 24])
def test_both_significands(bits, random_model):
    model = random_model(config(), 3)
    assert_right(model, compile_llama(model, ROOMY["4x4"].replace(significand_bits=bits), context=16), 10)


def test_every_position_of_the_shipped_model(story_llama):
    model = load_model(story_llama)
    assert_right(model, compile_llama(model, SHAPES["8x16"]), 192)


def test_every_position_of_stories260k(stories260k):
    model = load_model(stories260k / "stories260K.bin")
    assert_right(model, compile_llama(model, SHAPES["8x16"], context=128), 128)


def test_own_tokens_take_the_predicted_cycles(story_llama):
    compiled = compile_llama(load_model(story_llama), SHAPES["8x16"])
    sim, facts = loaded(compiled), compiled.facts
    sim.state.inbox.extend(inbox_words(facts, [1, 225, 226], 20, False, -1))
    sim.start()
    assert sim.run() is Status.HALTED
    stamps = np.diff([0, *(sent.stamp for sent in sim.state.outbox)])
    assert stamps.tolist() == facts.cycles.predict(3, 20, False)


def test_padded_tokens_are_never_chosen(random_model):
    model = random_model(config(vocab_size=61), 4)
    model.classifier[50:] *= 100  # the padding would win if it took part
    compiled = compile_llama(model, ROOMY["8x16"], n_valid=50)
    sim = loaded(compiled)
    sim.state.inbox.extend(inbox_words(compiled.facts, [1], 30, False, -1))
    sim.start()
    assert sim.run() is Status.HALTED
    assert all(sent.word < 50 for sent in sim.state.outbox)


def test_a_model_that_does_not_fit_says_what_is_short(random_model):
    model = random_model(config(), 5)
    small = TileConfig(8, 16, wmem_words=128)
    with pytest.raises(DoesNotFit, match=r"weight SRAM of the 8x16 tile is short by \d+ words.*no context fits"):
        compile_llama(model, small)
    needed = Compilation(model, SHAPES["8x16"], context=32).layout.end(Memory.WEIGHTS)
    tile = TileConfig(8, 16, wmem_words=needed)
    assert Compilation(model, tile).layout.context == 32
    with pytest.raises(DoesNotFit, match="a context of 64 tokens needs.*the largest context that fits is 32 tokens"):
        compile_llama(model, tile, context=64)


@pytest.mark.parametrize("seed", range(8))
def test_the_timing_of_a_model_of_any_size_is_proved(random_model, seed):
    rng = np.random.default_rng(seed)
    n_heads = int(rng.integers(1, 9))
    n_kv_heads = int(rng.choice([n for n in range(1, n_heads + 1) if n_heads % n == 0]))
    experts = {"n_experts": int(rng.integers(2, 9)), "experts_per_token": int(rng.integers(1, 3))} if seed % 2 else {}
    sizes = config(
        dim=int(rng.integers(2, 40)), hidden_dim=int(rng.integers(1, 60)), n_heads=n_heads, n_kv_heads=n_kv_heads,
        head_dim=2 * int(rng.integers(1, 9)), vocab_size=int(rng.integers(4, 80)), max_positions=24, **experts,
    )  # fmt: skip
    tile = ROOMY[("8x16", "16x16")[seed // 2 % 2]].replace(bundles=2048)
    compiled = compile_llama(random_model(sizes, seed), tile, context=24)
    prompt = rng.integers(0, sizes.vocab_size, int(rng.integers(1, 4))).tolist()
    for host_chooses in (False, True):
        inbox = inbox_words(compiled.facts, prompt, 10, host_chooses, -1) + [1] * 10 * host_chooses
        program, state = compiled.program, loaded(compiled).state
        report = check(tile, program.bundles, program.timings.tolist(), inbox, state)
        assert report.is_clean, [str(violation) for violation in report.violations]
