"""Engine ``board``, on the whole board in a simulator, which a pseudo-terminal makes a serial port of this machine."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lpu_isa.config import SHAPES
from lpu_rtl.board.top import BoardTop
from lpu_sw.board import BoardEngine
from lpu_sw.compiler.llama import compile_llama
from lpu_sw.engines import EngineError, Job, SimEngine
from lpu_sw.host.decode import Request
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
    assert list(engine.generate(job)) == list(SimEngine().generate(job))


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
        BoardEngine().prepare(None, lambda line: None)
