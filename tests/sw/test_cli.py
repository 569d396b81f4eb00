"""The command `lpu`: mistakes are told in one line, figures are complete, engines agree with what was published."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from lpu_isa.config import SHAPES, TileConfig
from lpu_sw.cli import main
from lpu_sw.feed_forward.compile import CompiledNetwork, compile_network
from lpu_sw.frontends import load_model
from lpu_sw.graph.graph import Graph
from lpu_sw.image import Image

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits" / "digits.onnx"
KERNEL = Path(__file__).resolve().parents[2] / "examples" / "kernels" / "matvec.lpu"


class Result(NamedTuple):
    status: int
    out: str
    err: str


Lpu = Callable[..., Result]


@pytest.fixture
def lpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lpu:
    """Runs the command in this process."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["lpu", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        shown = capsys.readouterr()
        return Result(int(stop.value.code or 0), shown.out, shown.err)

    return run


def complaint(result: Result) -> str:
    """The one line on standard error of a command that did nothing."""
    assert result.status == 2, result
    (line,) = result.err.splitlines()
    assert line.startswith("lpu: ")
    return line.removeprefix("lpu: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--engine", "abacus"], "unknown engine 'abacus', expected one of board, float, rtl, sim"),
        (["--tile", "3x5"], "unknown tile '3x5', expected one of 4x4, 8x16, 16x16"),
        (["--tile", "8x16,wmem=3072"], "unknown change of a tile 'wmem=3072', expected such as wmem_words=3072"),
        (["--tile", "8x16,vmem_words=300"], "vmem_words must be a power of two, not 300"),
        (["--model", "no/such/model"], "no/such/model: no such file or folder"),
        (["--model", "pyproject.toml"], "pyproject.toml: unknown kind of model"),
        (["--tokenizer", "no/tokenizer.json"], "no/tokenizer.json"),
        (["--prompt", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"], "the tokenizer cannot spell"),
        (["--prompt", "bytes \udcff"], "character 6 of the text is not valid UTF-8"),
        (["--prompt", "a dog " * 200, "--engine", "float"], "tokens, the context holds 256"),
        (["--prompt", "a dog " * 200], "tokens, the context holds"),
        (["--temperature", "-1"], "the temperature must be 0 or a positive number, not -1.0"),
        (["--temperature", "nan"], "the temperature must be 0 or a positive number, not nan"),
        (["--temperature", "1", "--seed", "-1"], "the seed must be 0 or a positive number, not -1"),
        (["--tile", "4x4"], "is short by"),
        (["--context", "100000"], "the largest context that fits is"),
        (["--port", "/dev/ttyUSB0"], "engine sim has no serial port: use --engine board"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_run_tells_a_mistake_in_one_line(arguments: list[str], says: str, lpu: Lpu, story_llama: Path) -> None:
    model = [] if "--model" in arguments else ["--model", story_llama]
    result = lpu("run", *model, *arguments)
    assert says in complaint(result)
    assert not result.out


@pytest.mark.parametrize("context", [[], ["--context", "20"]], ids=["largest", "given"])
def test_a_prompt_that_is_too_long_is_refused_before_the_model_is_scheduled(
    context: list[str], lpu: Lpu, story_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def schedule(*_: object) -> None:
        raise AssertionError("scheduled")

    monkeypatch.setattr("lpu_sw.compiler.llama.schedule", schedule)
    result = lpu("run", "--model", story_llama, "--prompt", "a dog " * (10 if context else 200), *context)
    assert "tokens, the context holds " in complaint(result)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["eval", "--text", "no/text"], "no/text: not a readable text file"),
        (["eval", "--text", KERNEL, "--engine", "rtl"], "unknown engine 'rtl', expected one of sim, float"),
        (["asm", "no/such.lpu"], "no/such.lpu: No such file or directory"),
        (["check", "no/such.lpuimg"], "no/such.lpuimg: No such file or directory"),
        (["disasm", KERNEL], "expected an LPU image"),
        (["asm", KERNEL, "--const", "N"], "found --const 'N', expected NAME=VALUE with a number"),
        (["asm", KERNEL, "--const", "NN=3"], "found constant 'NN', expected one that"),
        (["asm", KERNEL, "--tile", "5x5"], "unknown tile '5x5', expected one of 4x4, 8x16, 16x16"),
        (["bench", "--model", DIGITS.with_name("none.bin"), "--tokens", 0], "none.bin: no such file or folder"),
        (["bench", "--tile", "8x16", "--tile", "5x5"], "unknown tile '5x5'"),
        (["bench", "--write", KERNEL], "found no part between <!-- begin bench -->"),
        (["profile", "--write", KERNEL], "found no part between <!-- begin stalls of story-llama -->"),
        (["compile", "-o", "no/folder/x.lpuimg", "--tile", "x"], "unknown tile 'x'"),
        (["compile"], "nothing to do, expected --output FILE, --dump PASS or both"),
        (
            ["compile", "--dump", "x"],
            "unknown pass 'x', expected one of graph, fold, quantise, layout, tile, schedule, ",
        ),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_other_commands_tell_a_mistake_in_one_line(arguments: list[object], says: str, lpu: Lpu) -> None:
    assert says in complaint(lpu(*arguments))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--engine", "float"], "engine float runs language models only: networks need one with a tile"),
        (["--engine", "abacus"], "unknown engine 'abacus', expected one of board, float, rtl, sim"),
        (["--port", "/dev/ttyUSB0"], "engine sim has no serial port: use --engine board"),
        (["--tile", "4x4"], "is short by"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_infer_tells_a_mistake_in_one_line(arguments: list[str], says: str, lpu: Lpu) -> None:
    result = lpu("infer", DIGITS, DIGITS.with_name("heldout.npz"), *arguments)
    assert says in complaint(result)
    assert not result.out


def test_infer_fails_where_an_input_takes_other_cycles_than_predicted(
    lpu: Lpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def compile_wrong(graph: Graph, tile: TileConfig) -> CompiledNetwork:
        compiled = compile_network(graph, tile)
        return replace(compiled, cycles=compiled.cycles + 1)

    arguments = "infer", DIGITS, DIGITS.with_name("heldout.npz"), "--limit", 3, "--json", tmp_path / "figures.json"
    right = lpu(*arguments)
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    cycles = figures["predicted_cycles"]
    assert (right.status, figures["cycles"], figures["right"]) == (0, [cycles] * 3, 3)
    assert f"3 inputs: 100.00% as labelled; {3 * cycles:,} cycles, as predicted: yes; " in right.out
    monkeypatch.setattr("lpu_sw.infer.compile_network", compile_wrong)
    wrong = lpu(*arguments)
    assert (wrong.status, wrong.err) == (1, f"lpu: input 0 took {cycles} cycles, {cycles + 1} were predicted\n")
    assert "as predicted: NO" in wrong.out


@pytest.mark.parametrize(
    "arguments",
    [["run", "--tokens", "few"], ["run", "--tokens", "0"], ["run", "--tokens", "-5"], ["run", "--tell"], ["walk"]],
    ids=" ".join,
)
def test_a_wrong_argument_is_told_without_a_traceback(arguments: list[str], lpu: Lpu) -> None:
    result = lpu(*arguments)
    assert result.status == 2
    assert "Traceback" not in result.err
    assert "--tokens" in result.err or "--tell" in result.err or "walk" in result.err


def test_malformed_assembly_is_told_with_its_place(lpu: Lpu, tmp_path: Path) -> None:
    source = tmp_path / "wrong.lpu"
    source.write_text("li r1, 2 @1\nlli r2, 3 @1\n")
    result = lpu("asm", source)
    assert result.status == 2
    assert f"{source}:2:1: " in result.err
    assert "Traceback" not in result.err


def test_a_truncated_image_is_refused(lpu: Lpu, tmp_path: Path) -> None:
    image, short = tmp_path / "kernel.lpuimg", tmp_path / "short.lpuimg"
    assert lpu("asm", KERNEL, "-o", image).status == 0
    short.write_bytes(image.read_bytes()[:-1])
    assert "the file is truncated" in complaint(lpu("disasm", short))
    assert "the file is truncated" in complaint(lpu("check", short))


def test_a_kernel_goes_through_image_and_back(lpu: Lpu, tmp_path: Path) -> None:
    image, again = tmp_path / "kernel.lpuimg", tmp_path / "again.lpu"
    lpu("asm", KERNEL, "-o", image)
    text = lpu("disasm", image, "--data").out
    again.write_text(text)
    lpu("asm", again, "-o", tmp_path / "again.lpuimg")
    assert lpu("disasm", tmp_path / "again.lpuimg", "--data").out == text


def test_a_kernel_serves_other_tiles_and_sizes(lpu: Lpu, tmp_path: Path) -> None:
    image = tmp_path / "kernel.lpuimg"
    result = lpu("asm", KERNEL, "-o", image, "--tile", "4x4", "--const", "N=7")
    assert "4 bundles for tile 4x4" in result.out
    assert "vxm.pass count=2 lanes=3 " in lpu("disasm", image).out


def test_check_refuses_a_read_that_comes_too_early(lpu: Lpu, tmp_path: Path) -> None:
    source = tmp_path / "early.lpu"
    source.write_text(".tile 4x4\nli r1, 1 @1\naddi r2, r1, 1 @2\nhalt @1\n")
    result = lpu("check", source)
    assert result.status == 1
    assert "reads register 1 in cycle 1" in result.err
    assert result.out.endswith("1 violations\n")


def test_the_folder_of_a_result_is_made_and_nothing_is_left_where_none_comes(lpu: Lpu, tmp_path: Path) -> None:
    image, wrong = tmp_path / "new" / "kernel.lpuimg", tmp_path / "wrong.lpu"
    assert lpu("asm", KERNEL, "-o", image).status == 0
    wrong.write_text("lj\n")
    assert lpu("asm", wrong, "-o", tmp_path / "wrong.lpuimg").status == 2
    assert not (tmp_path / "wrong.lpuimg").exists()
    assert "Is a directory" in complaint(lpu("compile", "--model", DIGITS, "-o", tmp_path))


def test_a_folder_that_cannot_be_made_is_told_before_the_run(lpu: Lpu, story_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "x.json", tmp_path):
        result = lpu("run", "--model", story_llama, "--engine", "float", "--json", place)
        assert str(tmp_path) in complaint(result)
        assert not result.out


def test_a_story_ends_with_its_context(lpu: Lpu, story_llama: Path) -> None:
    result = lpu("run", "--model", story_llama, "--engine", "float", "--tokens", 50, "--context", 20, "--prompt", "")
    assert "50 tokens were asked for, the context leaves 20" in result.out
    assert "20 tokens in " in result.out


def test_float_tells_the_published_story(lpu: Lpu, stories260k: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["--tokens", 200, "--prompt", "", "--engine", "float", "--json", figures]
    result = lpu("run", "--model", stories260k / "stories260K.bin", *arguments)
    expected = json.loads((stories260k / "expected.json").read_text())
    told = json.loads(figures.read_text())
    assert told["text"] == expected["text"]
    assert told["tokens"] == expected["ids"]
    assert expected["text"] in result.out
    assert (told["cycles"], told["predicted_cycles"], told["floor_cycles"]) == ([], [], [])


def test_float_makes_the_choices_of_hugging_face(lpu: Lpu, story_llama: Path, tmp_path: Path) -> None:
    for case in json.loads((story_llama / "reference.json").read_text())["greedy"]:
        figures = tmp_path / "figures.json"
        arguments = ["--tokens", 100, "--prompt", case["prompt"], "--engine", "float", "--json", figures]
        assert lpu("run", "--model", story_llama, *arguments).status == 0
        told = json.loads(figures.read_text())
        assert told["prompt_tokens"] == case["prompt_ids"]
        assert told["tokens"] == case["greedy_ids"]


def test_no_color_and_no_terminal_mean_plain_text(lpu: Lpu, story_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = lpu("run", "--model", story_llama, "--engine", "float", "--tokens", 8)
    assert "\x1b" not in result.out
    assert "\r" not in result.out


def test_eval_of_float_is_the_reference_loss(lpu: Lpu, story_llama: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    text = story_llama / "heldout.txt"
    result = lpu("eval", "--model", story_llama, "--text", text, "--engine", "float", "--json", figures)
    assert result.status == 0
    told = json.loads(figures.read_text())
    expected = json.loads((story_llama / "reference.json").read_text())["heldout"]
    assert told["tokens"] == expected["predicted_tokens"]
    assert told["stories"] == expected["stories"]
    assert told["loss"] == pytest.approx(expected["mean_loss"], abs=2e-5)
    assert (told["difference"], told["standard_error"], told["top1_agreement"]) == (0, 0, 1)


def test_a_model_with_nans_is_refused(lpu: Lpu, story_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(story_llama, folder)
    weights = folder / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-4:] = np.float32(np.nan).tobytes()
    weights.write_bytes(raw)
    assert "expected finite numbers" in complaint(lpu("run", "--model", folder))
    assert load_model(story_llama)


def test_profile_writes_figures_trace_and_page(lpu: Lpu, tmp_path: Path) -> None:
    figures, trace, page = tmp_path / "new" / "p.json", tmp_path / "t.json", tmp_path / "p.html"
    result = lpu("profile", "--position", 3, "--layers", "--json", figures, "--trace", trace, "--html", page)
    assert result.status == 0 and "What the matrix unit waited for" in result.out
    shown = json.loads(figures.read_text())
    assert shown["cycles"] == shown["busy"] + sum(shown["causes"].values())
    assert json.loads(trace.read_text())["traceEvents"]
    assert 256 * trace.stat().st_size < 100_000_000, "what Perfetto opens with ease, for a run of 256 tokens"
    assert page.read_text().startswith("<!doctype html>")


def test_a_network_is_profiled_and_compiled_like_a_language_model(lpu: Lpu, tmp_path: Path) -> None:
    figures, trace, page, image = (tmp_path / name for name in ("p.json", "t.json", "p.html", "n.lpuimg"))
    result = lpu("profile", "--model", DIGITS, "--json", figures, "--trace", trace, "--html", page)
    assert result.status == 0 and "conv2.integers: row" in result.out
    shown = json.loads(figures.read_text())
    assert shown["cycles"] == shown["busy"] + sum(shown["causes"].values())
    assert json.loads(trace.read_text())["traceEvents"]
    assert page.read_text().startswith("<!doctype html>")
    result = lpu("compile", "--model", DIGITS, "--dump", "unfold", "-o", image)
    assert "conv1.integers.columns: int8[1, 3, 8, 8] = unfold(" in result.out
    assert Image.load(image).config == SHAPES["16x16-cnn"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["profile", "--position", 3], "a network has no positions: --position and --prefill are for language models"),
        (["profile", "--context", 32], "a network has no text: --context and --tokenizer are for language models"),
        (["profile", "--tile", "4x4"], "is short by"),
        (["profile", "--dim", "height"], "found --dim 'height', expected NAME=SIZE with a positive number"),
        (["compile", "--dump", "fold"], "expected one of graph, integers, unfold, layout, tile, schedule, bundles, or"),
    ],
    ids=str,
)
def test_what_a_network_does_not_have_is_told_in_one_line(arguments: list[object], says: str, lpu: Lpu) -> None:
    assert says in complaint(lpu(*arguments, "--model", DIGITS))


def write_array(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def write_inputs(path: Path, labels: np.ndarray | None = None, element: float = 0) -> Path:
    """Two digits, of which one has another element, and labels if they are given."""
    x = np.zeros((2, 1, 8, 8), np.float32)
    x[1, 0, 3, 3] = element
    np.savez(path, x=x, **({} if labels is None else {"y": labels}))
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b""), "found no whole NumPy file, expected .npy or .npz"),
        (lambda path: path.write_bytes(write_inputs(path).read_bytes()[:300]), "found no whole NumPy file"),
        (lambda path: path.write_bytes(write_inputs(path).read_bytes().replace(b"descr", b"DESCR")), "found no whole"),
        (lambda path: write_array(path, np.zeros((0, 1, 8, 8), np.float32)), "found no inputs"),
        (lambda path: write_array(path, np.array(3, np.float32)), "found no inputs"),
        (lambda path: write_array(path, np.zeros((2, 64))), "found an input float64[64], expected float32[1, "),
        (lambda path: np.savez(path, images=np.zeros(3)), "found the arrays images, expected x"),
        (lambda path: write_inputs(path, np.zeros(3, int)), "found the labels int64[3], expected a whole number for"),
        (lambda path: write_inputs(path, np.zeros(2)), "found the labels float64[2], expected a whole number for"),
        (lambda path: write_inputs(path, element=np.nan), "found nan in an input, expected finite numbers"),
        (lambda path: write_inputs(path, element=-np.inf), "found -inf in an input, expected finite numbers"),
    ],
    ids=range(11),
)
def test_infer_refuses_wrong_inputs_before_it_runs(make, says: str, lpu: Lpu, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npz"
    make(inputs)
    result = lpu("infer", DIGITS, inputs)
    assert says in complaint(result) and not result.out


def test_infer_runs_inputs_with_and_without_labels(lpu: Lpu, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npz"
    assert "2 inputs: " in lpu("infer", DIGITS, write_inputs(inputs)).out
    assert "% as labelled" in lpu("infer", DIGITS, write_inputs(inputs, np.zeros(2, np.uint8))).out


def test_too_large_a_tile_is_told_in_one_line(lpu: Lpu, tmp_path: Path) -> None:
    source = tmp_path / "large.lpu"
    source.write_text(".tile 8x16 wmem_words=100000000000000\nhalt\n")
    assert complaint(lpu("asm", source)).startswith("not enough memory: ")


def test_a_trace_of_an_engine_that_shows_nothing_is_refused(lpu: Lpu, tmp_path: Path) -> None:
    trace = tmp_path / "t.json"
    text = complaint(lpu("run", "--engine", "float", "--trace", trace))
    assert text == "engine float cannot be traced: use rtl, or lpu profile for what it would show"
    assert not trace.exists()


def test_eval_shows_the_errors_layer_by_layer(lpu: Lpu, story_llama: Path, tmp_path: Path) -> None:
    json_file = tmp_path / "layers.json"
    text = str(story_llama / "heldout.txt")
    model = ["--model", str(story_llama)]
    result = lpu("eval", *model, "--text", text, "--layers", "--limit", "20", "--json", str(json_file))
    figures = json.loads(json_file.read_text())
    assert figures["tokens"] == 20
    assert f"layer 4 feed-forward   {figures['layers']['layer 4 feed-forward']:.4f}" in result.out
