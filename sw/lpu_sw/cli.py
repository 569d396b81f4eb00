"""The command `lpu`: arguments and what is printed; the work is done elsewhere.

A user's mistake is one line on standard error and exit status 2; a run that went wrong (a fault of the tile, cycles
that were not the predicted ones, timing that the checker refuses) is exit status 1.
"""

import io
import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress

from lpu_isa.serial import BAUD
from lpu_sw.asm import assemble_file, disassemble
from lpu_sw.bench import MEAN_POSITIONS, bench, figures_table
from lpu_sw.board import PortEngine
from lpu_sw.check import check
from lpu_sw.docs import write_pages, write_parts
from lpu_sw.engines import EngineError, load_sections
from lpu_sw.evaluate import LAYER_TOKENS, evaluate, evaluate_layers
from lpu_sw.host.decode import MachineFault
from lpu_sw.image import Image
from lpu_sw.infer import NetworkRun, read_inputs
from lpu_sw.model_file import CNN_TILE, LLAMA_TILE, open_model
from lpu_sw.page_parts import read_part, write_part
from lpu_sw.profile.page import stall_table
from lpu_sw.profile.report import report
from lpu_sw.profile.tables import tables
from lpu_sw.profile.trace import chrome_trace
from lpu_sw.profile.watch import WatchedEngine, seen_events
from lpu_sw.run import Record, find_tile, plan_run
from lpu_sw.sim.state import TileState
from lpu_sw.terminal import telling

__all__ = ["application", "main"]

COMMAND_GROUP = "lpu.command"
DEFAULT_MODEL = Path("models/story-llama")
DEFAULT_BENCH = Path("sim_build/bench.json")
BENCH_PART = "bench"
MIXTURE = Path("models/story-moe")
BENCH_TILES = ["8x16", "8x16,wmem_words=3072", "16x16"]
"""The board's tile, the same with a larger cache, and a larger one."""
MIXTURE_TILES = ["8x16,wmem_words=3072,smem_words=1024", "16x16"]
"""Tiles that hold the mixture of experts."""

ModelOption = Annotated[Path, typer.Option("--model", help="llama2.c .bin, .safetensors file, or Hugging Face folder.")]
TileOption = Annotated[
    str, typer.Option("--tile", help="Tile: 4x4, 8x16 or 16x16, with changes as in 8x16,wmem_words=3072.")
]
AnyModelOption = Annotated[Path, typer.Option("--model", help="The same, or a quantised network, .onnx.")]
AnyTileOption = Annotated[
    str | None, typer.Option("--tile", help=f"Tile, with changes.  [default: {LLAMA_TILE}; of networks {CNN_TILE}]")
]
SourceTileOption = Annotated[
    str | None, typer.Option("--tile", help="Shape of the tile.  [default: the one that the source names]")
]
ConstantOption = Annotated[
    list[str] | None,
    typer.Option("--const", help="NAME=VALUE for a constant of the source; may be given several times."),
]
ContextOption = Annotated[
    int | None, typer.Option("--context", min=1, help="Positions of the caches.  [default: the most that fits]")
]
TokenizerOption = Annotated[
    Path | None, typer.Option("--tokenizer", help="tokenizer.json or tokenizer.bin.  [default: beside the model]")
]
EngineOption = Annotated[
    str, typer.Option(help="sim (golden model), rtl (Verilator), board, or for language models float (float32).")
]
PortOption = Annotated[str | None, typer.Option("--port", help="Serial port of engine board, such as /dev/ttyUSB0.")]
BaudOption = Annotated[int, typer.Option("--baud", min=1, help="Rate of the port.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")]
TraceOption = Annotated[Path | None, typer.Option("--trace", help="File to write a trace to, for ui.perfetto.dev.")]

DimOption = Annotated[
    list[str] | None, typer.Option("--dim", help="NAME=SIZE for an axis that a network leaves open; several times.")
]

_commands = typer.Typer(
    name="lpu",
    help="A Language Processing Unit tile: compile, run, check.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _write_json(path: Path | None, contents: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


def _make_room_for(*paths: Path | None) -> None:
    """Find out before a long run, not after it, that its results have no place; make their folders."""
    for path in paths:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            path.open("ab").close()
            if is_new:
                path.unlink()


def _set_port(engine: object, name: str, port: str | None, baud: int) -> None:
    if isinstance(engine, PortEngine):
        engine.port, engine.baud = port, baud
    elif port is not None:
        raise EngineError(f"engine {name} has no serial port: use --engine board")


@_commands.command()
def run(
    model: ModelOption = DEFAULT_MODEL,
    prompt: Annotated[str, typer.Option(help="Text to go on from; empty for BOS alone.")] = "Once upon a time",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate, at most.")] = 200,
    engine: EngineOption = "sim",
    temperature: Annotated[float, typer.Option(help="0: the likeliest token, chosen by the tile itself.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the host's choices at a temperature above 0.")] = 0,
    tile: TileOption = "8x16",
    context: ContextOption = None,
    tokenizer: TokenizerOption = None,
    json_file: JsonOption = None,
    trace: TraceOption = None,
    port: PortOption = None,
    baud: BaudOption = BAUD,
) -> None:
    """Tell a story, token by token, in a number of cycles that is printed before it starts."""
    plan = plan_run(model, prompt, tokens, engine, tile, context, temperature, seed, tokenizer)
    watched = plan.engine
    if trace is not None:
        if not isinstance(watched, WatchedEngine):
            raise EngineError(f"engine {engine} cannot be traced: use rtl, or lpu profile for what it would show")
        watched.is_watched = True
    _set_port(plan.engine, engine, port, baud)
    _make_room_for(json_file, trace)
    for line in plan.lines():
        typer.echo(line)
    possible = plan.positions - len(plan.job.request.prompt) + 1
    if possible < tokens:
        typer.echo(f"note     {tokens} tokens were asked for, the context leaves {possible}")
    plan.engine.prepare(plan.job, typer.echo)
    typer.echo()
    record, stream = Record(plan), plan.tokenizer.stream()
    with telling(plan.positions) as story:
        for token in plan.job.request.prompt:
            story.add(stream.push(token))
        for post in record.run():
            if post.token is not None:
                story.add(stream.push(post.token))
            story.advance(f"{record.cycles_per_second:,.0f} cycles/s" if post.cycles else "")
        story.add(stream.finish())
    typer.echo(f"\n{record.summary()}")
    _write_json(json_file, record.to_json())
    if isinstance(watched, WatchedEngine) and watched.seen:
        events = seen_events(plan.job.compiled, watched.seen)
        _write_json(trace, chrome_trace(events, f"{model.stem} on {tile}, {len(record.posts)} positions, {engine}"))
    position = record.first_difference()
    if position is not None:
        ran, predicted = record.cycles[position], plan.predicted_cycles[position]
        typer.echo(f"lpu: position {position} took {ran} cycles, {predicted} were predicted", err=True)
        raise typer.Exit(1)


@_commands.command()
def infer(
    network: Annotated[Path, typer.Argument(help="Quantised network, .onnx.")],
    inputs: Annotated[Path, typer.Argument(help=".npy of inputs, or .npz with inputs x and perhaps labels y.")],
    tile: Annotated[str, typer.Option("--tile", help="Tile, with changes as in 16x16-cnn,wmem_words=1024.")] = CNN_TILE,
    limit: Annotated[int | None, typer.Option(min=1, help="Inputs, at most.")] = None,
    dim: DimOption = None,
    engine: EngineOption = "sim",
    json_file: JsonOption = None,
    port: PortOption = None,
    baud: BaudOption = BAUD,
) -> None:
    """Run a feed-forward network over a file of inputs, in a number of cycles that is printed before it starts."""
    _make_room_for(json_file)
    plan = NetworkRun(network, read_inputs(inputs, limit), find_tile(tile), _sizes(dim), engine)
    _set_port(plan.engine, engine, port, baud)
    for line in plan.lines():
        typer.echo(line)
    plan.engine.prepare(plan.job, typer.echo)
    typer.echo()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(str(inputs), total=len(plan.job.inputs))
        for _ in plan.run():
            progress.advance(bar)
    typer.echo(plan.summary())
    _write_json(json_file, plan.to_json())
    index = plan.first_difference()
    if index is not None:
        ran, predicted = plan.results[index].cycles, plan.job.compiled.cycles
        typer.echo(f"lpu: input {index} took {ran} cycles, {predicted} were predicted", err=True)
        raise typer.Exit(1)


@_commands.command(name="eval")
def evaluation(
    text: Annotated[Path, typer.Option(help="Stories, one after another with a blank line between.")],
    model: ModelOption = DEFAULT_MODEL,
    engine: Annotated[str, typer.Option(help="sim or float.")] = "sim",
    limit: Annotated[int | None, typer.Option(min=1, help="Predicted tokens, at most.")] = None,
    tile: TileOption = "8x16",
    layers: Annotated[
        bool, typer.Option("--layers", help=f"Instead: errors layer by layer, of {LAYER_TOKENS} tokens or the limit.")
    ] = False,
    tokenizer: TokenizerOption = None,
    json_file: JsonOption = None,
) -> None:
    """Next-token loss on held-out text, against float32, and how often the two choose alike."""
    shape = find_tile(tile)
    _make_room_for(json_file)
    if layers:
        figures = evaluate_layers(model, text, shape, limit, tokenizer)
        typer.echo(f"relative error against float32, mean of {figures['tokens']} tokens, after")
        for stage, error in figures["layers"].items():
            typer.echo(f"  {stage:22} {error:.4f}")
        _write_json(json_file, figures)
        return
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(str(text), total=limit)

        def advance(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        figures = evaluate(model, text, engine, shape, limit, tokenizer, advance=advance)
    typer.echo(
        f"{figures['tokens']:,} tokens: loss {figures['loss']:.4f}, float32 {figures['float_loss']:.4f}, difference "
        f"{figures['difference']:+.4f} +- {figures['standard_error']:.4f}; same choice as float32 "
        f"{figures['top1_agreement']:.2%}; {figures['clamped']} lanes clamped"
    )
    _write_json(json_file, figures)


@_commands.command(name="compile")
def compile_(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Image to write, .lpuimg.")] = None,
    model: AnyModelOption = DEFAULT_MODEL,
    tile: AnyTileOption = None,
    context: ContextOption = None,
    tokenizer: TokenizerOption = None,
    dim: DimOption = None,
    dumped: Annotated[
        str | None, typer.Option("--dump", metavar="PASS", help="Pass to print, or all; see docs/compiler.md.")
    ] = None,
) -> None:
    """Compile a model to an image, or show what a pass makes.

    The image of a language model generates from BOS to the end of the context.
    """
    if output is None and dumped is None:
        raise ValueError("nothing to do, expected --output FILE, --dump PASS or both")
    opened = open_model(model, tile, context, tokenizer, _sizes(dim))
    _make_room_for(output)
    if dumped is not None:
        typer.echo(opened.dump(dumped))
    if output is not None:
        image = opened.image()
        image.save(output)
        typer.echo(f"{output}: {len(image.program)} bundles for tile {image.config.name}", err=dumped is not None)


def _sizes(assignments: list[str] | None) -> dict[str, int]:
    """Sizes by name from ``NAME=SIZE``. Raises ValueError for anything else."""
    sizes = {}
    for assignment in assignments or []:
        name, _, size = assignment.partition("=")
        if not size.isdecimal() or not int(size):
            raise ValueError(f"found --dim '{assignment}', expected NAME=SIZE with a positive number")
        sizes[name] = int(size)
    return sizes


def _constants(assignments: list[str]) -> dict[str, int | float]:
    """Values by name from ``NAME=VALUE``. Raises ValueError for anything else."""
    constants: dict[str, int | float] = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        try:
            constants[name] = float(value) if "." in value else int(value, 0)
        except ValueError:
            raise ValueError(f"found --const '{assignment}', expected NAME=VALUE with a number") from None
    return constants


@_commands.command()
def asm(
    source: Annotated[Path, typer.Argument(help="Assembly, .lpu.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Image to write, .lpuimg.")] = None,
    tile: SourceTileOption = None,
    const: ConstantOption = None,
) -> None:
    """Assemble a program and prove its timing."""
    program = assemble_file(source, find_tile(tile) if tile else None, constants=_constants(const or []))
    _make_room_for(output)
    if output is not None:
        Image.from_program(program).save(output)
    typer.echo(f"{source}: {len(program.bundles)} bundles for tile {program.config.name}")


@_commands.command()
def disasm(
    image: Annotated[Path, typer.Argument(help="Image, .lpuimg.")],
    data: Annotated[bool, typer.Option(help="With the contents of the memories.")] = False,
) -> None:
    """Print an image as assembly."""
    typer.echo(disassemble(Image.load(image).to_program(), data), nl=False)


@_commands.command(name="check")
def checking(
    file: Annotated[Path, typer.Argument(help="Assembly, .lpu, or image, .lpuimg.")],
    max_cycles: Annotated[int, typer.Option(min=1, help="Cycles after which a run is given up.")] = 10_000_000,
) -> None:
    """Run a program with its own inbox and prove that its timing does what it says."""
    program = assemble_file(file, prove=False) if file.suffix == ".lpu" else Image.load(file).to_program()
    state = TileState(program.config)
    load_sections(state, program.sections)
    report = check(
        program.config, program.bundles, program.timings.tolist(), program.inbox, state, program.sources, max_cycles
    )
    for violation in report.violations:
        typer.echo(str(violation), err=True)
    typer.echo(
        f"{file}: {report.bundles:,} bundles in {report.cycles:,} cycles, {report.status.value}; "
        f"{len(report.violations)} violations"
    )
    if not report.is_clean:
        raise typer.Exit(1)


@_commands.command(name="bench")
def benchmark(
    models: Annotated[list[Path] | None, typer.Option("--model", help="Model; may be given several times.")] = None,
    tiles: Annotated[list[str] | None, typer.Option("--tile", help="Tile; may be given several times.")] = None,
    tokens: Annotated[int, typer.Option(min=0, help="Tokens of the simulator's run, 0 for none.")] = MEAN_POSITIONS,
    rtl_tokens: Annotated[int, typer.Option(min=0, help="Tokens of the RTL's run, 0 for none.")] = 60,
    json_file: Annotated[Path, typer.Option("--json", help="File to write the figures to.")] = DEFAULT_BENCH,
    write: Annotated[Path | None, typer.Option(help="Page whose tables are written anew.")] = None,
) -> None:
    """Measure utilisation, and the speed of simulator, RTL and compiler on this machine.

    LPU_MODELS names a folder in which stories260K is looked for; LLAMA2C names llama2.c's run.c, or
    a program built from it, to compare with.
    """
    stories260k = Path(os.environ.get("LPU_MODELS", ".")) / "stories260K" / "stories260K.bin"
    chosen = models or [DEFAULT_MODEL, *([stories260k] if stories260k.is_file() else [])]
    pairs = [(model, tile) for model in chosen for tile in tiles or BENCH_TILES]
    if not models and not tiles:
        pairs += [(MIXTURE, tile) for tile in MIXTURE_TILES]
    _make_room_for(json_file)
    if write is not None:
        read_part(write, BENCH_PART)
    figures = bench(pairs, tokens, rtl_tokens, typer.echo)
    _write_json(json_file, figures)
    table = figures_table(figures)
    typer.echo(table)
    if write is not None:
        write_part(write, BENCH_PART, table)


@_commands.command(name="profile")
def profiling(
    position: Annotated[
        int | None, typer.Option(min=0, help="Position of a language model to show.  [default: 0]")
    ] = None,
    model: AnyModelOption = DEFAULT_MODEL,
    tile: AnyTileOption = None,
    context: ContextOption = None,
    tokenizer: TokenizerOption = None,
    dim: DimOption = None,
    prefill: Annotated[bool, typer.Option("--prefill", help="As inside a prompt, without the classifier.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Each repeated layer on its own.")] = False,
    json_file: JsonOption = None,
    trace: TraceOption = None,
    html: Annotated[Path | None, typer.Option("--html", help="File to write a page with pictures to.")] = None,
    write: Annotated[Path | None, typer.Option(help="Page whose stall table of this model is written anew.")] = None,
) -> None:
    """Show where the cycles of one token, or of one input of a network, go, without running anything."""
    _make_room_for(json_file, trace, html)
    part = f"stalls of {model.stem}"
    if write is not None:
        read_part(write, part)
    opened = open_model(model, tile, context, tokenizer, _sizes(dim))
    shown = opened.profile(position, prefill)
    for line in shown.lines():
        typer.echo(line)
    for table in tables(shown, layers):
        Console().print(table)
    _write_json(json_file, shown.to_json())
    title = f"{model.stem} on {opened.tile_name}, {shown.timeline.subject}"
    _write_json(trace, chrome_trace(shown.timeline.events(), title))
    if html is not None:
        html.write_text(report(shown, opened.stretches, title), encoding="utf-8")
    if write is not None:
        write_part(write, part, stall_table(list(opened.profiles())))


@_commands.command()
def docs(
    root: Annotated[Path, typer.Option(help="Folder of the repository.")] = Path("."),
) -> None:
    """Write the pages and the picture that are made from the code."""
    for path in [*write_pages(root), *write_parts(root)]:
        typer.echo(path)


def application() -> typer.Typer:
    """The command with those that other packages add through the entry points of ``lpu.command``."""
    for entry in entry_points(group=COMMAND_GROUP):
        try:
            function = entry.load()
        except (ImportError, AttributeError) as error:
            function = _missing(entry.name, error)
        _commands.command(name=entry.name)(function)
    return _commands


def _missing(name: str, error: Exception) -> Callable[[], None]:
    """A command that says why it is not there."""

    def missing() -> None:
        raise EngineError(f"the command {name} cannot be loaded: {error}")

    missing.__doc__ = f"Cannot be loaded: {error}."
    return missing


def main() -> None:
    """Entry point of the command ``lpu``."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a character that the terminal cannot show is no reason to stop
        sys.stdout.reconfigure(errors="replace")
    try:
        application()()
    except (ValueError, EngineError) as error:
        _stop(str(error), 2)
    except OSError as error:
        _stop(f"{error.filename}: {error.strerror}" if error.filename else str(error), 2)
    except MemoryError as error:
        _stop(f"not enough memory: {error}", 2)
    except MachineFault as error:
        _stop(str(error), 1)


def _stop(text: str, status: int) -> NoReturn:
    print(f"lpu: {text}", file=sys.stderr)
    sys.exit(status)
