"""llama2.c beside the tile: how it is built, run and read, with a stand-in for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpu_sw.engines import EngineError
from lpu_sw.frontends import load_model
from lpu_sw.processor import GROUPS, RUNS, llama2c_speeds
from lpu_sw.run import n_parameters


def ignore(line: str) -> None:
    """What is said does not matter."""


def stand_in(folder: Path, body: str) -> str:
    program = folder / "run"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return str(program)


def test_the_best_group_of_runs_counts(monkeypatch, tmp_path, stories260k):
    """Runs of a group are averaged by their times: one of 100 and one of 300 tokens/s make 150."""
    counter = tmp_path / "runs"
    body = f"""echo "$@" >> {counter}; runs=$(wc -l < {counter})
    echo achieved tok/s: $(((runs + {RUNS - 1}) / {RUNS} * (runs % 2 ? 100 : 300))).0 >&2"""
    monkeypatch.setenv("LLAMA2C", stand_in(tmp_path, body))
    model = stories260k / "stories260K.bin"
    (speed,) = llama2c_speeds([model, Path("models/story-llama")], 77, ignore)
    asked = counter.read_text().splitlines()
    assert len(asked) == GROUPS * RUNS and all("-t 0 -n 77 -z" in line for line in asked)
    assert speed["tokens_per_second"] == pytest.approx(GROUPS * 150)
    assert speed["weights_per_second"] == speed["tokens_per_second"] * n_parameters(load_model(model))
    assert (speed["model"], speed["flags"]) == ("stories260K", "") and speed["processor"]
    if speed["clock_mhz"]:
        assert speed["mean_cycles"] * speed["tokens_per_second"] == pytest.approx(speed["clock_mhz"] * 1e6)


def test_source_is_built(monkeypatch, tmp_path, stories260k):
    source = tmp_path / "run.c"
    source.write_text('#include <stdio.h>\nint main() { fputs("achieved tok/s: 7.5\\n", stderr); return 0; }\n')
    monkeypatch.setenv("LLAMA2C", str(source))
    (speed,) = llama2c_speeds([stories260k / "stories260K.bin"], 128, ignore)
    assert (speed["tokens_per_second"], speed["flags"]) == (7.5, "gcc -Ofast -march=native")


def test_source_that_cannot_be_built_is_told(monkeypatch, tmp_path):
    (tmp_path / "run.c").write_text("not C")
    monkeypatch.setenv("LLAMA2C", str(tmp_path / "run.c"))
    with pytest.raises(EngineError, match="run.c cannot be built"):
        llama2c_speeds([], 128, ignore)


def test_a_program_that_prints_no_speed_is_told(monkeypatch, tmp_path, stories260k):
    monkeypatch.setenv("LLAMA2C", stand_in(tmp_path, "echo hello"))
    with pytest.raises(EngineError, match="printed no speed for .*, expected 'achieved tok/s'"):
        llama2c_speeds([stories260k / "stories260K.bin"], 128, ignore)
    monkeypatch.setenv("LLAMA2C", str(tmp_path / "missing"))
    with pytest.raises(EngineError, match="missing: No such file or directory"):
        llama2c_speeds([stories260k / "stories260K.bin"], 128, ignore)
