"""Engine ``board``, on the whole board in a simulator, which a pseudo-terminal makes a serial port of this machine."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from lpu_isa.config import SHAPES
from lpu_rtl.board.top import BoardTop
from lpu_sw.board import BoardEngine
from lpu_sw.compiler.llama import compile_llama
from lpu_sw.engines import EngineError, Job, SimEngine
from lpu_sw.feed_forward.compile import compile_network
from lpu_sw.frontends.onnx import read_onnx
from lpu_sw.host.decode import Request
from lpu_sw.infer import NetworkJob
from lpu_sw.model import LlamaConfig
from lpu_tb.build import build
from lpu_tb.runner import run_build

SMALL = SHAPES["4x4"]
CLOCK_HZ = 25_000_000
DIVISOR = 4
START_SECONDS = 120


@pytest.fixture
def port(tmp_path):
    """A serial port with a board at its end."""
    pytest.importorskip("serial", reason="the port: pip install '.[board]'")
    made = build(BoardTop(SMALL, CLOCK_HZ, CLOCK_HZ, CLOCK_HZ // DIVISOR), "board", fast=True)
    link = tmp_path / "port"
    given = {"port": str(link), "divisor": DIVISOR}
    with ThreadPoolExecutor() as pool:
        running = pool.submit(
            run_build, made, "lpu_tb.benches.board", "port", name=f"board-{os.getpid()}", parameters=given
        )
        until = time.monotonic() + START_SECONDS
        while not link.is_symlink() and not running.done() and time.monotonic() < until:
            time.sleep(0.1)
        try:
            yield str(link)
        finally:
            link.unlink(missing_ok=True)
            running.result()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_model_on_the_board_tells_what_the_simulator_tells(temperature, port, random_model):
    config = LlamaConfig(18, 21, 2, 3, 1, 6, 37, 16)
    model = random_model(config, seed=3)
    job = Job(model, Request((1, 5, 36), 12, -1, temperature, seed=7), config.vocab_size, compile_llama(model, SMALL))
    engine = BoardEngine()
    engine.port = port
    engine.prepare(job, lambda line: None)
    assert list(engine.run(job)) == list(SimEngine().run(job))


def network(weights: np.ndarray, path: Path) -> Path:
    """A convolution of 3 x 3 and a Relu, from 3 channels of 6 x 5 pixels to 6; weights: int8 (6, 3, 3, 3)."""
    onnx.save(
        onnx.parser.parse_model(f"""
            <ir_version: 8, opset_import: ["": 17]>
            small (float[1, 3, 6, 5] x) => (float[1, 6, 3, 3] y)
            <float x_scale = {{0.05}}, int8 x_zero = {{-3}}, float y_scale = {{0.1}}, int8 y_zero = {{7}},
             float w_scale = {{0.01}}, int8 w_zero = {{0}},
             int8[6, 3, 3, 3] w_integers = {{{", ".join(map(str, weights.ravel()))}}}>
            {{
              x_integers = QuantizeLinear(x, x_scale, x_zero)
              x_quantised = DequantizeLinear(x_integers, x_scale, x_zero)
              w = DequantizeLinear(w_integers, w_scale, w_zero)
              sums = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x_quantised, w)
              rectified = Relu(sums)
              y_integers = QuantizeLinear(rectified, y_scale, y_zero)
              y = DequantizeLinear(y_integers, y_scale, y_zero)
            }}
        """),
        path,
    )
    return path


def test_a_network_on_the_board_makes_what_the_simulator_makes(port, tmp_path):
    random = np.random.default_rng(5)
    path = network(random.integers(-127, 128, (6, 3, 3, 3)), tmp_path / "small.onnx")
    compiled = compile_network(read_onnx(path), SMALL)
    job = NetworkJob(compiled, random.normal(size=(3, 3, 6, 5)).astype(np.float32))
    engine = BoardEngine()
    engine.port = port
    engine.prepare(job, lambda line: None)
    made, expected = list(engine.run(job)), list(SimEngine().run(job))
    assert [inference.cycles for inference in made] == [compiled.cycles] * 3
    results = np.array([inference.result for inference in made])
    assert np.array_equal(results, [inference.result for inference in expected])
    assert len(np.unique(results)) > 20


def test_a_board_with_another_tile_is_refused(port, random_model):
    config = LlamaConfig(18, 21, 2, 3, 1, 6, 37, 16)
    model = random_model(config, seed=3)
    compiled = compile_llama(model, SMALL.replace(vmem_words=512))
    engine = BoardEngine()
    engine.port = port
    with pytest.raises(EngineError, match="found a tile of fingerprint .*, expected .* \\(4x4\\)"):
        engine.prepare(Job(model, Request((1,), 1), config.vocab_size, compiled), lambda line: None)


def test_without_a_port_the_engine_says_how_to_give_one():
    with pytest.raises(EngineError, match="engine board needs a serial port, as in --port /dev/ttyUSB0"):
        BoardEngine().open(None, lambda line: None)
