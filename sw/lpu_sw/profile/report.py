"""The profile as one HTML page that needs nothing else: utilisation over time, the operations, the memory map."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from lpu_sw.compiler.memory import Memory, Stretch

from .figures import Profile
from .stalls import Cause

__all__ = ["report"]

WIDTH = 1100
LEFT = 150
PLOT = WIDTH - LEFT - 10
BINS = 160
CHART, ROW = 120, 22
UNITS = ("mxm", "vxm", "icu")
COLOURS = {
    Cause.MATMUL: "#5b8fd1",
    Cause.PASS: "#5aa86a",
    Cause.SCALAR: "#c9a227",
    Cause.RESOURCE: "#b5629c",
    Cause.ORDER: "#8d6e63",
    Cause.CONTROL: "#d9793d",
    Cause.SHARED: "#9aa5b1",
}
BUSY, INK, FAINT = "#9cc3ec", "#1f2933", "#d5dbe1"
SHADES = ("#9cc3ec", "#a3d5ae", "#f0cf85", "#dfb4dd", "#e4b7a0", "#b9c4ce")
STYLE = f"""
body {{ font: 15px/1.45 Helvetica, Arial, "DejaVu Sans", sans-serif; color: {INK}; max-width: {WIDTH}px;
margin: 2em auto; padding: 0 1em }}
svg {{ width: 100%; min-width: 900px; height: auto; display: block }}
.picture {{ overflow-x: auto }}
table {{ border-collapse: collapse; margin: 0.6em 0 }}
td, th {{ padding: 0.15em 0.9em; border-bottom: 1px solid {FAINT}; text-align: left;
font-variant-numeric: tabular-nums }}
.number {{ text-align: right }}
td.number {{ white-space: nowrap }}
@media (max-width: 600px) {{ td, th {{ padding: 0.15em 0.35em; overflow-wrap: anywhere }} }}
.key {{ display: inline-block; width: 0.9em; height: 0.9em; margin-right: 0.4em; vertical-align: -0.1em }}
"""


def report(profile: Profile, stretches: Sequence[Stretch], title: str) -> str:
    """The page."""
    return "\n".join([
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in profile.lines()),
        "<h2>The matrix unit over time</h2>",
        *_utilisation(profile),
        *_legend(profile),
        "<h2>Matmuls</h2>",
        *_table(
            ["operation", "times", "busy", "floor", "idle before"],
            [(k.kind, f"{k.times}", f"{k.busy:,}", f"{k.floor:,.1f}", f"{k.idle:,}") for k in profile.kinds],
            1,
        ),
        "<h2>What its idle cycles waited for</h2>",
        *_table(
            ["before", "waited for", "of", "idle cycles"],
            [(wanted, cause.value, behind, f"{cycles:,}") for wanted, cause, behind, cycles in profile.stalls],
            3,
        ),
        "<h2>Memory map</h2>",
        *_memory_map(stretches),
        "<details><summary>Every stretch of the memories</summary>",
        *_table(
            ["memory", "holds", "from word", "to word", "words"],
            [(s.memory.value, s.name, f"{s.first:,}", f"{s.first + s.words - 1:,}", f"{s.words:,}") for s in stretches],
            2,
        ),
        "</details>",
        "</body></html>",
    ]) + "\n"  # fmt: skip


def _svg(height: float, title: str, parts: Iterator[str]) -> Iterator[str]:
    size = f'viewBox="0 0 {WIDTH} {height:g}" role="img" font-size="12"'
    yield f'<div class="picture"><svg xmlns="http://www.w3.org/2000/svg" {size}>'
    yield f"<title>{escape(title)}</title>"
    yield from parts
    yield "</svg></div>"


def _rect(x: float, y: float, width: float, height: float, fill: str, tip: str = "") -> str:
    size = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return f'<rect {size} fill="{fill}">{f"<title>{escape(tip)}</title>" if tip else ""}</rect>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" text-anchor="{anchor}">{escape(text)}</text>'


def _utilisation(profile: Profile) -> Iterator[str]:
    """Stacked shares of busy cycles and of each cause in stretches of time, and the units' operations below."""
    return _svg(CHART + ROW * (len(UNITS) + 2), "Utilisation", _utilisation_parts(profile))


def _utilisation_parts(profile: Profile) -> Iterator[str]:
    timeline, analysis = profile.timeline, profile.analysis
    cycles = timeline.cycles
    kinds = [BUSY, *COLOURS.values()]
    number = {cause: k for k, cause in enumerate(COLOURS, 1)}
    what = np.zeros(cycles, int)
    for stall in analysis.stalls:
        what[stall.first : stall.first + stall.cycles] = number[stall.cause]
    bins = min(BINS, cycles)
    bounds = np.linspace(0, cycles, bins + 1).astype(int)
    yield '<g shape-rendering="crispEdges">'  # no seams between bars
    for k in range(bins):
        part = what[bounds[k] : bounds[k + 1]]
        x, width = LEFT + PLOT * bounds[k] / cycles, PLOT * len(part) / cycles
        y = float(CHART)
        for kind, count in enumerate(np.bincount(part, minlength=len(kinds))):
            if count:
                height = (CHART - 10) * count / len(part)
                y -= height
                yield _rect(x, y, width, height, kinds[kind])
    yield "</g>"
    for share in (0, 0.5, 1):
        yield _text(LEFT - 8, CHART - (CHART - 10) * share + 4, f"{share:.0%}", "end")
    for row, unit in enumerate(UNITS):
        y = CHART + ROW * row + 10
        yield _text(LEFT - 8, y + 12, unit, "end")
        yield _rect(LEFT, y, PLOT, ROW - 6, "#f3f5f7")
        for event in timeline.events():
            if event.slot == unit:
                tip = f"{event.name}: cycle {event.cycle}, {event.busy} cycles"
                shade = SHADES[UNITS.index(unit)]
                yield _rect(LEFT + PLOT * event.cycle / cycles, y, PLOT * event.busy / cycles, ROW - 6, shade, tip)
    y = CHART + ROW * len(UNITS) + 24
    for tick in range(5):
        anchor = "start" if tick == 0 else "end" if tick == 4 else "middle"
        yield _text(LEFT + PLOT * tick / 4, y, f"cycle {cycles * tick // 4:,}", anchor)


def _legend(profile: Profile) -> Iterator[str]:
    counts = profile.analysis.by_cause()
    entries = [(BUSY, "busy", profile.busy), *((COLOURS[cause], cause.value, counts[cause]) for cause in COLOURS)]
    yield "<table>"
    for colour, name, cycles in entries:
        share = f"{cycles / profile.timeline.cycles:.1%}"
        yield f'<tr><td><span class="key" style="background:{colour}"></span>{escape(name)}</td>'
        yield f'<td class="number">{cycles:,} cycles</td><td class="number">{share}</td></tr>'
    yield "</table>"


def _table(names: list[str], rows: list[tuple[str, ...]], numbers_from: int) -> Iterator[str]:
    """``numbers_from``: the first column that holds numbers."""

    def cells(tag: str, texts: list[str] | tuple[str, ...]) -> str:
        columns = [""] * numbers_from + [' class="number"'] * (len(names) - numbers_from)
        return "".join(f"<{tag}{kind}>{escape(text)}</{tag}>" for kind, text in zip(columns, texts, strict=True))

    yield f"<table><tr>{cells('th', names)}</tr>"
    yield from (f"<tr>{cells('td', row)}</tr>" for row in rows)
    yield "</table>"


def _memory_map(found: Sequence[Stretch]) -> Iterator[str]:
    """A bar a memory, to its own scale; names where there is room, and everywhere when pointed at."""
    memories = list(dict.fromkeys(region.memory for region in found))
    return _svg(2 * ROW * len(memories), "Memory map", _memory_parts(found, memories))


def _memory_parts(found: Sequence[Stretch], memories: list[Memory]) -> Iterator[str]:
    for row, memory in enumerate(memories):
        y = 2 * ROW * row + 4
        own = [region for region in found if region.memory == memory]
        depth = own[-1].first + own[-1].words
        yield _text(0, y + 16, memory.value)
        yield _text(0, y + 31, f"{depth:,} words")
        for k, region in enumerate(own):
            x, width = LEFT + PLOT * region.first / depth, PLOT * region.words / depth
            tip = f"{region.name}: words {region.first:,} to {region.first + region.words - 1:,}"
            yield _rect(x, y, width, ROW + 10, "#f3f5f7" if region.name == "free" else SHADES[k % len(SHADES)], tip)
            if width > 7 * len(region.name):
                yield _text(x + width / 2, y + 20, region.name, "middle")
