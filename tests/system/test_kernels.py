"""Every kernel in examples/kernels, run from random memory contents and held against NumPy.

A kernel's function below yields a `Run` for each start: what the host puts into memory and inbox before it, and the
check after it. Memories are kept from one run to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest

from lpu_isa.config import SHAPES, TileConfig
from lpu_isa.formats import FloatFormat
from lpu_sw.asm import Program, Section, assemble_file
from lpu_sw.asm.matrix import weight_words
from lpu_sw.check import check
from lpu_sw.image import Image
from lpu_sw.sim.tile import Simulator, Status
from lpu_tb.build import build_tile
from lpu_tb.runner import run_build

KERNELS = Path(__file__).resolve().parents[2] / "examples" / "kernels"
TILES = {**SHAPES, "4x4-24": SHAPES["4x4"].replace(significand_bits=24)}
LIMIT = 100_000
"""Cycles after which a kernel is taken to hang."""


class Outcome(NamedTuple):
    """What the host finds after a run: vector SRAM as floats (words, rows), and the words sent."""

    vmem: np.ndarray
    sent: list[int]


@dataclass
class Run:
    """Values to load by region (floats; int8 matrices for weights), words to send, and the check."""

    check: Callable[[Outcome], None]
    values: dict[str, np.ndarray] = field(default_factory=dict)
    inbox: list[int] = field(default_factory=list)


class Tile:
    """A simulated tile whose memories hold random words at the start.

    proved : whether the timing of every run is checked as well, which takes three times as long.
    """

    def __init__(self, program: Program, rng: np.random.Generator, proved: bool = True) -> None:
        self.program = program
        self.proved = proved
        self.simulator = Simulator(program.config, program.bundles, program.timings.tolist())
        self.simulator.state.randomise(rng)

    def load(self, section: Section) -> None:
        self.simulator.state.load(section.window, section.words, section.address)

    def run(self, inbox: list[int]) -> Outcome:
        program, state = self.program, self.simulator.state
        if self.proved:
            timings = program.timings.tolist()
            report = check(program.config, program.bundles, timings, inbox, state, program.sources, LIMIT)
            assert report.is_clean, "\n".join(map(str, report.violations))
            status = report.status
        else:
            state.inbox.extend(inbox)
            self.simulator.start()
            status = self.simulator.run(LIMIT)
        assert status is Status.HALTED, state.fault.text
        return Outcome(state.vmem.copy(), [sent.word for sent in state.outbox])


def section(program: Program, name: str, values: np.ndarray) -> Section:
    """The contents of a region from floats lane after lane, or from an int8 matrix."""
    region, config = program.regions[name], program.config
    if region.space == "wmem":
        data = weight_words(config, values)
    else:
        floats = FloatFormat(config.significand_bits)
        data = np.zeros((region.words, config.rows), np.uint32)
        data.ravel()[: values.size] = floats.encode(floats.round(values.ravel()))
    assert len(data) == region.words, f"{name} has {region.words} words, not {len(data)}"
    return Section(region.space, region.address, data)


def floats(program: Program, outcome: Outcome, name: str) -> np.ndarray:
    """A region of vector SRAM lane after lane."""
    region = program.regions[name]
    return outcome.vmem[region.address : region.address + region.words].ravel()


def quantised(x: np.ndarray, cols: int) -> np.ndarray:
    """What the activation buffer holds of ``x``: int8 with a power of two a block, after the MX specification."""
    blocks = np.zeros((-(-x.size // cols), cols))
    blocks.ravel()[: x.size] = x
    unit = np.exp2(np.frexp(np.abs(blocks).max(axis=1, keepdims=True))[1] - 7.0)
    return (np.clip(np.rint(blocks / unit), -127, 127) * unit).ravel()[: x.size]


def rounded(config: TileConfig, x: np.ndarray) -> np.ndarray:
    return FloatFormat(config.significand_bits).round(x)


def random_int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-127, 128, shape).astype(np.int8)


Forced = Mapping[str, float]
"""Values that take the place of drawn ones, in every element of a region of scales."""


def drawn_or_forced(force: Forced, name: str, drawn: np.ndarray) -> np.ndarray:
    return np.full_like(drawn, force[name]) if name in force else drawn


# The kernels


def matvec(program: Program, rng: np.random.Generator, force: Forced = MappingProxyType({})) -> Iterator[Run]:
    m, n = program.constants["M"], program.constants["N"]
    weights, scale = random_int8(rng, m, n), rng.uniform(0.5, 2, m) * 2.0 ** rng.integers(-20, 3, m)
    scale = drawn_or_forced(force, "scale", scale)
    for spread in (0, 6):
        x = rounded(program.config, rng.normal(size=n) * 2.0 ** rng.integers(-spread, spread + 1, n))
        expected = weights @ quantised(x, program.config.cols) * scale
        largest = np.abs(weights) @ np.abs(x) * scale

        def check(outcome: Outcome, expected: np.ndarray = expected, largest: np.ndarray = largest) -> None:
            assert np.all(np.abs(floats(program, outcome, "y")[:m] - expected) <= 2.0**-16 * largest)

        yield Run(check, {"W": weights, "scale": scale, "x": x})


def embedding(program: Program, rng: np.random.Generator, force: Forced = MappingProxyType({})) -> Iterator[Run]:
    vocabulary, dim = program.constants["VOCAB"], program.constants["DIM"]
    table, scale = random_int8(rng, vocabulary, dim), rng.uniform(0.5, 2, vocabulary)
    scale = drawn_or_forced(force, "scale", scale)
    tokens = rng.integers(0, vocabulary, program.constants["MOST"])
    tokens[:2] = 0, vocabulary - 1

    def check(outcome: Outcome) -> None:
        y = floats(program, outcome, "y").reshape(len(tokens), -1)
        expected = table[tokens] * rounded(program.config, scale)[tokens, None]
        assert np.array_equal(y[:, :dim], rounded(program.config, expected))
        assert not y[:, dim:].any()

    yield Run(check, {"table": table, "scale": scale}, [len(tokens), *tokens.tolist()])


def rmsnorm(program: Program, rng: np.random.Generator, force: Forced = MappingProxyType({})) -> Iterator[Run]:
    n, epsilon = program.constants["N"], program.constants["EPSILON"]
    for magnitude in (1, 1e-3, 1e10):
        x, gain = rng.normal(size=n) * magnitude, drawn_or_forced(force, "gain", rng.normal(size=n))
        expected = gain * x / np.sqrt(np.mean(x * x) + epsilon)

        def check(outcome: Outcome, expected: np.ndarray = expected) -> None:
            assert np.allclose(floats(program, outcome, "y")[:n], expected, rtol=4e-5, atol=0)

        yield Run(check, {"x": x, "gain": gain})


def layernorm(program: Program, rng: np.random.Generator, force: Forced = MappingProxyType({})) -> Iterator[Run]:
    n, epsilon = program.constants["N"], program.constants["EPSILON"]
    for magnitude, centre in ((1, 0), (1, 3), (1e-3, 0), (1e10, 1e10)):
        x = rounded(program.config, (rng.normal(size=n) * magnitude) + centre)
        gain, bias = drawn_or_forced(force, "gain", rng.normal(size=n)), rng.normal(size=n)
        expected = gain * (x - x.mean()) / np.sqrt(x.var() + epsilon) + bias

        def check(outcome: Outcome, expected: np.ndarray = expected) -> None:
            assert np.allclose(floats(program, outcome, "y")[:n], expected, rtol=4e-5, atol=2e-4)

        yield Run(check, {"x": x, "gain": gain, "bias": bias})


def gelu(program: Program, rng: np.random.Generator) -> Iterator[Run]:
    n = program.constants["N"]
    for spread in (0.1, 1, 10, 1e5):
        x = rounded(program.config, rng.normal(size=n) * spread)
        expected = x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2

        def check(outcome: Outcome, x: np.ndarray = x, expected: np.ndarray = expected) -> None:
            assert np.all(np.abs(floats(program, outcome, "y")[:n] - expected) <= 1e-4 * np.abs(x))

        yield Run(check, {"x": x})


def conv3x3(program: Program, rng: np.random.Generator, force: Forced = MappingProxyType({})) -> Iterator[Run]:
    height, width, filters = (int(program.constants[name]) for name in ("HEIGHT", "WIDTH", "FILTERS"))
    channels, cols = program.config.rows, program.config.cols
    weights = random_int8(rng, filters, 3, 3, channels)
    flat = weights.reshape(filters, -1)
    scale = drawn_or_forced(force, "scale", rng.uniform(0.5, 2, filters))
    for spread in (0, 6):
        x = rng.normal(size=(height, width, channels)) * 2.0 ** rng.integers(-spread, spread + 1, (height, width, 1))
        x = rounded(program.config, x)
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))
        patches = windows.transpose(0, 1, 3, 4, 2).reshape(height - 2, width - 2, -1)
        expected = np.stack([[flat @ quantised(patch, cols) for patch in row] for row in patches]) * scale
        largest = np.abs(patches) @ np.abs(flat).T * scale

        def check(outcome: Outcome, expected: np.ndarray = expected, largest: np.ndarray = largest) -> None:
            y = floats(program, outcome, "y").reshape(height - 2, width - 2, -1)[..., :filters]
            assert np.all(np.abs(y - expected) <= 2.0**-16 * largest)

        yield Run(check, {"W": flat, "scale": scale, "x": x})


def rotary_pairs(program: Program, rng: np.random.Generator) -> Iterator[Run]:
    n, positions = int(program.constants["N"]), int(program.constants["POSITIONS"])
    x = rng.normal(size=n)
    angle = np.arange(positions)[:, None] * rng.uniform(0.01, 1, n // 2)
    point = (x[0::2] + 1j * x[1::2]) * np.exp(1j * angle)
    expected = np.stack([point.real, point.imag], axis=-1).reshape(positions, n)

    def check(outcome: Outcome) -> None:
        y = floats(program, outcome, "y").reshape(positions, -1)[:, :n]
        assert np.all(np.abs(y - expected) <= 2.0**-16 * np.repeat(np.abs(point), 2, axis=-1))

    def lines(values: np.ndarray) -> np.ndarray:
        """One whole number of vectors a position."""
        padded = np.zeros((positions, program.regions["x"].words * program.config.rows))
        padded[:, :n] = values
        return padded

    sin = np.stack([-np.sin(angle), np.sin(angle)], axis=-1).reshape(positions, n)
    cos = np.repeat(np.cos(angle), 2, axis=1)
    yield Run(check, {"x": x, "sin": lines(sin), "cos": lines(cos)})


def rotary_halves(program: Program, rng: np.random.Generator) -> Iterator[Run]:
    rows, heads = program.config.rows, program.constants["HEADS"]
    values, expected = {}, {}
    for name, dim, tables in (("narrow", rows, heads), ("wide", 2 * rows, 1)):
        half = dim // 2
        angle = rng.uniform(-3, 3, half)
        x = rng.normal(size=(heads, dim))
        first, second = x[:, :half], x[:, half:]
        turned = np.concatenate([-second, first], axis=1)
        cos, sin = np.tile(np.cos(angle), 2), np.tile(np.sin(angle), 2)
        expected[name] = x * cos + turned * sin
        signed = np.concatenate([-np.sin(angle), np.sin(angle)])
        values |= {name: x, f"{name}_sin": np.tile(signed, tables), f"{name}_cos": np.tile(cos, tables)}

    def check(outcome: Outcome) -> None:
        for name, y in expected.items():
            assert np.allclose(floats(program, outcome, f"{name}_y"), y.ravel(), rtol=0, atol=2e-5)

    yield Run(check, values)


def softmax(program: Program, rng: np.random.Generator) -> Iterator[Run]:
    n = program.constants["N"]
    for spread in (0.1, 1, 10, 100):
        x = rounded(program.config, rng.normal(size=n) * spread)
        expected = np.exp(x - x.max())
        expected /= expected.sum()

        def check(outcome: Outcome, x: np.ndarray = x, expected: np.ndarray = expected) -> None:
            y = floats(program, outcome, "y")[:n]
            # An error of the exponent becomes a relative error of the result.
            exponent_error = np.abs(x - x.max()).max() * 2.0 ** -(program.config.significand_bits - 3)
            assert np.allclose(y, expected, rtol=4e-5 + exponent_error, atol=1e-30)
            assert y[x.argmax()] == y.max()

        yield Run(check, {"x": x})


def swiglu(program: Program, rng: np.random.Generator, force: Forced = MappingProxyType({})) -> Iterator[Run]:
    dim, hidden, cols = program.constants["DIM"], program.constants["HIDDEN"], program.config.cols
    gate, up, down = random_int8(rng, hidden, dim), random_int8(rng, hidden, dim), random_int8(rng, dim, hidden)
    gate_scale, up_scale, down_scale = (
        drawn_or_forced(force, name, rng.uniform(0.005, 0.03, size))
        for name, size in (("gate_scale", hidden), ("up_scale", hidden), ("down_scale", dim))
    )
    x = rounded(program.config, rng.normal(size=dim))
    g, u = (w @ quantised(x, cols) * scale for w, scale in ((gate, gate_scale), (up, up_scale)))
    product = g * (1 + np.tanh(g / 2)) / 2 * u
    expected = down @ quantised(product, cols) * down_scale
    # A value of the product that lies beside the middle of two int8 may be rounded the other way.
    one_unit = np.abs(down).max(axis=1) * down_scale * np.abs(product).max() / 64

    def check(outcome: Outcome) -> None:
        assert np.all(np.abs(floats(program, outcome, "y")[:dim] - expected) <= 1.001 * one_unit)

    values = {"gate": gate, "up": up, "down": down, "x": x}
    yield Run(check, values | {"gate_scale": gate_scale, "up_scale": up_scale, "down_scale": down_scale})


def argmax(program: Program, rng: np.random.Generator, force: Forced = MappingProxyType({})) -> Iterator[Run]:
    vocabulary, dim, config = program.constants["VOCAB"], program.constants["DIM"], program.config
    x = np.abs(rounded(config, rng.normal(size=dim)))
    alike = drawn_or_forced(force, "scale", np.full(vocabulary, 0.75))
    various = drawn_or_forced(force, "scale", rounded(config, rng.uniform(0.5, 2, vocabulary)))

    def expecting(weights: np.ndarray, scale: np.ndarray = alike) -> Run:
        scores = rounded(config, rounded(config, weights @ quantised(x, config.cols)) * scale)
        token = int(np.argmax(scores))

        def check(outcome: Outcome) -> None:
            sent, value = outcome.sent
            assert sent == token
            assert FloatFormat(config.significand_bits).decode(np.array(value)) == scores[token]

        return Run(check, {"W": weights, "scale": scale, "x": x})

    weights = random_int8(rng, vocabulary, dim)
    yield expecting(weights, various)
    # All scores are negative: the rows that pad the last vector must not win with their zeros.
    yield expecting(-np.abs(weights) - (weights == 0), various)
    # Every score twice, then one everywhere: the lowest index.
    half = vocabulary // 2
    yield expecting(np.concatenate([weights[: vocabulary - half], weights[:half]]))
    yield expecting(np.full((vocabulary, dim), -3, np.int8))
    last = np.full((vocabulary, dim), -3, np.int8)
    last[-1] = -2
    yield expecting(last)


def binades(program: Program, rng: np.random.Generator) -> Iterator[Run]:
    n, dim, cols = program.constants["N"], program.constants["DIM"], program.config.cols
    values = random_int8(rng, dim, n)
    for low, high in ((-40, 0), (0, 40), (-20, 20), (90, 120), (-90, -50)):
        score = rounded(program.config, np.linspace(low, high, n)[rng.permutation(n)])
        weight = np.exp2(score)
        expected = values @ quantised(weight, cols) / weight.sum()
        assert np.abs(expected - values @ weight / weight.sum()).max() < 1  # of 127: what int8 numerators cost

        def check(outcome: Outcome, expected: np.ndarray = expected) -> None:
            # No numerator of these seeds lies so close to the middle of two int8 that it could be rounded either way.
            assert np.abs(floats(program, outcome, "y")[:dim] - expected).max() <= 2e-3

        yield Run(check, {"values": values, "score": score})


def attention(program: Program, rng: np.random.Generator) -> Iterator[Run]:
    constants, config = program.constants, program.config
    heads, kv_heads, dim, tokens = (int(constants[name]) for name in ("HEADS", "KV_HEADS", "HEAD_DIM", "TOKENS"))
    query_factor, key_factor, value_factor = (constants[f"{name}_FACTOR"] for name in ("QUERY", "KEY", "VALUE"))
    q = rounded(config, rng.normal(size=(tokens, heads, dim)))
    k = rounded(config, np.clip(rng.normal(size=(tokens, kv_heads, dim)), -2.5, 2.5))
    v = rounded(config, np.clip(rng.normal(size=(tokens, kv_heads, dim)) + np.arange(kv_heads)[:, None], -4, 4))
    keys, values = (np.rint(rounded(config, x * rounded(config, f))) for x, f in ((k, key_factor), (v, value_factor)))
    queries = rounded(config, q * rounded(config, query_factor))

    def vectors(values: np.ndarray) -> np.ndarray:
        """Each head padded to whole vectors."""
        lanes = config.rows * (program.regions["k"].words // kv_heads)
        padded = np.zeros((len(values), lanes))
        padded[:, :dim] = values
        return padded

    for token in range(tokens):
        exact, expected, one_unit = np.empty((heads, dim)), np.empty((heads, dim)), np.empty((heads, 1))
        past = slice(token + 1)
        for head in range(heads):
            kv = head * kv_heads // heads
            weight = np.exp2(k[past, kv] @ q[token, head] * query_factor * key_factor)
            exact[head] = weight @ v[past, kv] / weight.sum()
            weight = np.exp2(keys[past, kv] @ quantised(queries[token, head], config.cols))
            expected[head] = quantised(weight, config.cols) @ values[past, kv] / weight.sum() / value_factor
            # A numerator beside the middle of two int8 may be rounded the other way.
            one_unit[head] = 2.0**-6 * weight.max() / weight.sum() * np.abs(v).max()

        def check(
            outcome: Outcome,
            exact: np.ndarray = exact,
            expected: np.ndarray = expected,
            one_unit: np.ndarray = one_unit,
        ) -> None:
            y = floats(program, outcome, "y").reshape(heads, -1)[:, :dim]
            assert np.abs(y - exact).max() <= 0.1
            assert np.all(np.abs(y - expected) <= 2 * one_unit + 1e-3)

        loaded = {name: vectors(array[token]) for name, array in (("q", q), ("k", k), ("v", v))}
        yield Run(check, loaded, [token])


CASES = {
    f.__name__: f
    for f in (
        matvec,
        embedding,
        rmsnorm,
        layernorm,
        gelu,
        conv3x3,
        rotary_pairs,
        rotary_halves,
        softmax,
        swiglu,
        argmax,
        binades,
        attention,
    )
}


def run(name: str, tile: str, seed: int = 0, proved: bool = True, **constants: int | float) -> None:
    """Assemble a kernel and go through its runs on one tile, whose memories begin with random words."""
    rng = np.random.default_rng(seed)
    program = assemble_file(KERNELS / f"{name}.lpu", TILES[tile], constants=constants)
    machine = Tile(program, rng, proved)
    for step in CASES[name](program, rng):
        for region, values in step.values.items():
            machine.load(section(program, region, values))
        step.check(machine.run(step.inbox))


def images(name: str, tile: str, folder: Path, n_runs: int | None) -> list[Path]:
    """The first runs of a kernel, or all, as image files, each with its contents of memory and its inbox."""
    rng = np.random.default_rng(0)
    program = assemble_file(KERNELS / f"{name}.lpu", TILES[tile])
    paths = []
    for step in islice(CASES[name](program, rng), n_runs):
        loaded = [section(program, region, values) for region, values in step.values.items()]
        complete = replace(program, sections=program.sections + loaded, inbox=step.inbox)
        paths.append(folder / f"{name}-{len(paths)}.lpuimg")
        Image.from_program(complete).save(paths[-1])
    return paths


def test_every_kernel_has_a_case():
    assert {path.stem for path in KERNELS.glob("*.lpu")} == set(CASES)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", CASES)
def test_kernel(name, tile):
    run(name, tile)


@pytest.mark.parametrize("tile", SHAPES)
@pytest.mark.parametrize("name", ["rmsnorm", "layernorm", "gelu", "softmax"])
def test_sizes_around_a_vector(name, tile):
    rows, cols = SHAPES[tile].rows, SHAPES[tile].cols
    for n in (1, 2, rows - 1, rows, rows + 1, cols, cols + 1):
        run(name, tile, seed=n, N=n)


@pytest.mark.parametrize("tile", SHAPES)
@pytest.mark.parametrize("name", ["matvec", "argmax"])
def test_sizes_around_rows_and_columns(name, tile):
    rows, cols = SHAPES[tile].rows, SHAPES[tile].cols
    outputs, inputs = {"matvec": ("M", "N"), "argmax": ("VOCAB", "DIM")}[name]
    for out in (2, rows - 1, rows, rows + 1):
        for columns in (1, cols - 1, cols, cols + 1):
            run(name, tile, seed=out * columns, **{outputs: out, inputs: columns})


@pytest.mark.parametrize("tile", SHAPES)
@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 8), (8, 4), (8, 2), (8, 1), (6, 3)])
def test_attention_with_shared_kv_heads_over_41_tokens(tile, heads, kv_heads):
    run("attention", tile, proved=heads == 6, HEADS=heads, KV_HEADS=kv_heads, TOKENS=41)


def test_softmax_keeps_the_largest_score_the_most_probable():
    # Public reports of table softmaxes: normalised, and yet another winner than the scores' (hls4ml 1512, 204).
    rng = np.random.default_rng(5)
    for n in (2, 3, 8, 17, 64, 100, 300, 512):
        program = assemble_file(KERNELS / "softmax.lpu", TILES["8x16"], constants={"N": n})
        simulator = Simulator(program.config, program.bundles)
        state, at = simulator.state, program.regions["x"].address
        for _ in range(1250):
            x = rounded(program.config, rng.normal(size=n) * 10 ** rng.uniform(-1, 2))
            state.vmem[at : at + program.regions["x"].words].ravel()[:n] = x
            simulator.start()
            assert simulator.run() is Status.HALTED
            y = floats(program, Outcome(state.vmem, []), "y")[:n]
            assert y[x.argmax()] == y.max()
            assert abs(y.sum() - 1) <= 1e-3


@pytest.mark.parametrize("dim", [3, 4, 8, 17])
def test_attention_with_other_head_sizes(dim):
    run("attention", "8x16", HEAD_DIM=dim, QUERY_FACTOR=0.005)


@pytest.mark.parametrize(
    ("name", "constant", "value"),
    [
        ("gelu", "CUBIC", 0.0),
        ("softmax", "LOG2_E", 1.0),
        ("attention", "KEY_FACTOR", 20.0),
        ("attention", "VALUE_FACTOR", 1.0),
    ],
)
def test_no_kernel_passes_with_a_wrong_factor(name, constant, value):
    program = assemble_file(KERNELS / f"{name}.lpu", TILES["8x16"])
    wrong = assemble_file(KERNELS / f"{name}.lpu", TILES["8x16"], constants={constant: value})
    rng = np.random.default_rng(0)
    machine = Tile(wrong, rng)
    with pytest.raises(AssertionError):
        for step in CASES[name](program, rng):
            for region, values in step.values.items():
                machine.load(section(program, region, values))
            step.check(machine.run(step.inbox))


SCALES = [
    ("matvec", "scale"), ("embedding", "scale"), ("rmsnorm", "gain"), ("layernorm", "gain"), ("conv3x3", "scale"),
    ("swiglu", "gate_scale"), ("swiglu", "up_scale"), ("swiglu", "down_scale"), ("argmax", "scale"),
]  # fmt: skip
"""Regions whose values are multiplied into a result on its way; there are public reports of one that was not."""


def test_every_region_of_scales_is_listed():
    found = set()
    for name in CASES:
        regions = assemble_file(KERNELS / f"{name}.lpu", TILES["8x16"]).regions
        found |= {(name, region) for region in regions if region.endswith(("scale", "gain"))}
    assert found == set(SCALES)


@pytest.mark.parametrize("value", [4.0, 2.0**-20], ids=["4", "2**-20"])
@pytest.mark.parametrize(("name", "region"), SCALES)
def test_a_scale_may_have_any_value(name, region, value):
    rng = np.random.default_rng(0)
    program = assemble_file(KERNELS / f"{name}.lpu", TILES["8x16"])
    machine = Tile(program, rng)
    for step in CASES[name](program, rng, force={region: value}):
        for loaded, values in step.values.items():
            machine.load(section(program, loaded, values))
        step.check(machine.run(step.inbox))


@pytest.mark.parametrize(("name", "region"), SCALES)
def test_no_kernel_passes_with_a_scale_of_1(name, region):
    rng = np.random.default_rng(0)
    program = assemble_file(KERNELS / f"{name}.lpu", TILES["8x16"])
    machine = Tile(program, rng)
    step = next(CASES[name](program, rng))
    for loaded, values in step.values.items():
        machine.load(section(program, loaded, np.ones_like(values) if loaded == region else values))
    with pytest.raises(AssertionError):
        step.check(machine.run(step.inbox))


@pytest.mark.parametrize("tile", TILES)
def test_kernels_on_the_rtl(tile, tmp_path):
    """The whole state of the tile equals the simulator's after every run, that is, what is held against NumPy above."""
    # Reading all memories of a large tile takes ten seconds and more, so that it runs fewer kernels, and each once.
    is_small = tile.startswith("4x4")
    names = CASES if is_small else ("embedding", "argmax", "swiglu", "attention")
    paths = [str(path) for name in names for path in images(name, tile, tmp_path, None if is_small else 1)]
    run_build(
        build_tile(TILES[tile]),
        "lpu_tb.benches.tile",
        "programs",
        name=f"kernels-{tile}",
        parameters={"images": paths, "seed": 1},
    )
