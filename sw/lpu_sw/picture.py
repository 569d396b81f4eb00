"""The picture of a tile, ``docs/tile.svg``: units, memories and what flows between them, taken from lpu_isa.

Only the places on the paper are chosen here. Which flows there are is asked of `BundleFormat.use` (`flows`); a flow
without a line, or a line without a flow, is a failing test.
"""

from collections.abc import Iterator
from html import escape
from itertools import product

from lpu_isa import formats, icu, link, mxm, sxm, vxm
from lpu_isa.bundle import BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.fields import REGISTERS, Operation
from lpu_isa.tables import Function

__all__ = ["LINES", "flows", "picture"]

WIDTH, HEIGHT = 1000, 760
INK, FAINT, PAPER = "#1f2933", "#7b8794", "#ffffff"
MEMORY = "#e6ecf2"
COLOURS = {
    "header": "#cbd2d9",
    "icu": "#f0cf85",
    "mxm": "#9cc3ec",
    "vxm": "#a3d5ae",
    "sxm": "#dfb4dd",
    "link": "#e4dfd5",
}

BOXES = {
    "icu": (240, 100, 680, 80),
    "host": (30, 100, 170, 80),
    "wmem": (30, 240, 190, 110),
    "mxm": (330, 240, 220, 110),
    "acc": (660, 240, 190, 110),
    "act": (330, 400, 220, 70),
    "vxm": (240, 520, 660, 90),
    "sxm": (240, 660, 120, 70),
    "vmem": (420, 660, 220, 70),
    "smem": (690, 660, 210, 70),
    "link": (30, 660, 150, 70),
}
"""Left, top, width and height of each box."""

LINES: dict[tuple[str, str], tuple[tuple[int, int], ...]] = {
    ("wmem", "mxm"): ((220, 295), (330, 295)),
    ("mxm", "acc"): ((550, 275), (660, 275)),
    ("acc", "mxm"): ((660, 315), (550, 315)),
    ("acc", "vxm"): ((755, 350), (755, 520)),
    ("act", "mxm"): ((440, 400), (440, 350)),
    ("vxm", "act"): ((440, 520), (440, 470)),
    ("vxm", "wmem"): ((240, 590), (80, 590), (80, 350)),
    ("wmem", "vxm"): ((160, 350), (160, 550), (240, 550)),
    ("vmem", "sxm"): ((420, 695), (360, 695)),
    ("sxm", "vxm"): ((300, 660), (300, 610)),
    ("vmem", "vxm"): ((480, 660), (480, 610)),
    ("vxm", "vmem"): ((580, 610), (580, 660)),
    ("smem", "vxm"): ((750, 660), (750, 610)),
    ("vxm", "smem"): ((840, 610), (840, 660)),
    ("vxm", "icu"): ((870, 520), (870, 180)),
    ("vmem", "icu"): ((640, 715), (665, 715), (665, 750), (955, 750), (955, 120), (920, 120)),
    ("smem", "icu"): ((900, 695), (940, 695), (940, 150), (920, 150)),
}
"""The way of each flow, corner by corner."""


def flows(config: TileConfig) -> set[tuple[str, str]]:
    """Pairs (from, to) of unit and memory that some operation makes. Registers belong to the sequencer."""
    layout, found = BundleFormat(config), set()

    def note(operation: Operation) -> None:
        for access in layout.use(operation, [0] * REGISTERS).accesses:
            if access.space == "register" and access.write and operation.slot != "icu":
                found.add((operation.slot, "icu"))
            elif access.space in BOXES:
                found.add((operation.slot, access.space) if access.write else (access.space, operation.slot))

    for code in icu.IcuOp:
        note(Operation("icu", {"op": code}))
    for clear in mxm.Clear:
        note(Operation("mxm", {"op": mxm.MxmOp.MATMUL, "clear": clear}))
    choices = product(vxm.Source, vxm.Multiply, vxm.Add, vxm.Reduce, vxm.Write, vxm.Quantise)
    names = ("source", "multiply", "add", "reduce", "write", "quantise")
    for values in choices:
        note(Operation("vxm", {"op": vxm.VxmOp.PASS, **dict(zip(names, values, strict=True))}))
    # What the switch unit moves is an access of the pass that it feeds.
    return found | {("vmem", "sxm"), ("sxm", "vxm")}


def picture(config: TileConfig) -> str:
    """The picture as SVG text."""
    layout = BundleFormat(config)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
        f"<title>Units and memories of the {config.name} tile</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
        *_bundle(layout),
        *(line for flow in sorted(LINES) for line in _arrow(LINES[flow])),
        *_host_line(),
        *(line for name in BOXES for line in _box(name, config, layout)),
        *_chain(),
        *_labels(),
        "</svg>",
    ]) + "\n"  # fmt: skip


def _text(
    x: float, y: float, text: str, size: int = 13, colour: str = INK, anchor: str = "middle", bold: bool = False
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    style = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, fill: str, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    size = f'width="{width:g}" height="{height:g}"'
    return f'<rect x="{x:g}" y="{y:g}" {size} rx="4" fill="{fill}" stroke="{INK}"{dash}/>'


def _arrow(corners: tuple[tuple[int, int], ...]) -> Iterator[str]:
    path = " L".join(f"{x} {y}" for x, y in corners)
    yield f'<path d="M{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#head)"/>'


def _host_line() -> Iterator[str]:
    x, y, width, height = BOXES["host"]
    icu_x = BOXES["icu"][0]
    middle = y + height / 2
    yield (
        f'<path d="M{x + width} {middle:g} L{icu_x} {middle:g}" stroke="{INK}" stroke-width="1.6" '
        'marker-end="url(#head)" marker-start="url(#head)"/>'
    )
    yield (
        f'<path d="M{x + width / 2:g} {y + height} L{x + width / 2:g} {BOXES["wmem"][1]}" stroke="{FAINT}" '
        'stroke-width="1.6" stroke-dasharray="5 4"/>'
    )


def _bundle(layout: BundleFormat) -> Iterator[str]:
    """The bundle, drawn to scale: a part for each slot, in the colour of its unit."""
    x, y, _, _ = BOXES["host"]
    whole = BOXES["icu"][0] + BOXES["icu"][2] - x
    yield _text(x, 26, f"one bundle: {layout.bits} bits, a slot for each unit", anchor="start", bold=True)
    at = float(x)
    for name, bits in [("header", layout.header.bits), *((name, slot.bits) for name, slot in layout.slots.items())]:
        width = whole * bits / layout.bits
        yield _rect(at, 38, width, 34, COLOURS[name])
        if width > 50:
            yield _text(at + width / 2, 60, f"{name} {bits}")
        elif name == "sxm":  # the narrowest, left of another narrow one
            yield _text(at + width, 86, f"{name} {bits}", 11, anchor="end")
        else:
            yield _text(at + 4, 86, f"{name} {bits}", 11, anchor="start")
        at += width


def _box(name: str, config: TileConfig, layout: BundleFormat) -> Iterator[str]:
    x, y, width, height = BOXES[name]
    is_slot = name in layout.slots
    yield _rect(x, y, width, height, COLOURS[name] if is_slot else MEMORY if name != "host" else PAPER, name == "link")
    title, *lines = _contents(config, layout)[name]
    top = y + 20 if name == "vxm" else y + (height - 18 * len(lines)) / 2 + 5
    yield _text(x + width / 2, top, title, 14, bold=True)
    for row, line in enumerate(lines):
        yield _text(x + width / 2, top + 18 * (row + 1), line, 12)


def _contents(config: TileConfig, layout: BundleFormat) -> dict[str, tuple[str, ...]]:
    """Title and lines of each box."""
    lanes = f"{config.rows} floats of {config.float_bits} bits"
    functions = ", ".join(function.name.lower() for function in Function if function)
    return {
        "icu": (
            "icu: sequencer",
            f"program {config.bundles:,} bundles, timing memory {config.timings:,} distances",
            f"{REGISTERS} scalar registers, {icu.LOOP_DEPTH} nested loops, branches",
        ),
        "host": ("host", "AXI4-Lite, mailboxes", "windows on all memories"),
        "wmem": (
            "wmem: weight SRAM",
            f"{config.wmem_words:,} words of",
            f"{config.rows} x {config.cols} int8",
            f"({config.wmem_words * config.multipliers // 1024} KiB)",
        ),
        "mxm": (
            "mxm: matrix unit",
            f"{config.multipliers} multipliers int8 x int8",
            f"{config.rows} adder trees of {config.cols} products",
            "shift by the block's exponent",
        ),
        "acc": (
            "acc: accumulator bank",
            f"{config.accumulators} entries of",
            f"{config.rows} sums of {formats.ACCUMULATOR_BITS} bits",
        ),
        "act": (
            "act: activation buffer",
            f"{config.act_blocks} blocks of {config.cols} int8",
            "and one exponent",
        ),
        "vxm": (f"vxm: vector unit, {config.rows} lanes; functions {functions}",),
        "sxm": ("sxm: switch", ", ".join(op.name.lower() for op in list(sxm.SxmOp)[1:3]), sxm.SxmOp(3).name.lower()),
        "vmem": ("vmem: vector SRAM", f"{config.vmem_words:,} words of", lanes),
        "smem": ("smem: scale SRAM", f"{config.smem_words:,} words of", lanes),
        "link": ("link", "to a neighbour tile", "reserved" if len(link.LinkOp) == 1 else ""),
    }


def _chain() -> Iterator[str]:
    """The vector unit's chain, each unit with its cycles."""
    x, y, width, _ = BOXES["vxm"]
    units = [
        ("convert", vxm.CONVERT),
        ("multiply", vxm.MULTIPLY),
        ("add", vxm.ADD),
        ("function", vxm.FUNCTION),
        ("gain", vxm.MULTIPLY),
        ("reduce", vxm.REDUCE),
        ("quantise", vxm.QUANTISE),
    ]
    step = (width - 20) / len(units)
    for place, (name, cycles) in enumerate(units):
        left = x + 10 + place * step
        yield _rect(left + 3, y + 32, step - 6, 44, PAPER)
        yield _text(left + step / 2, y + 50, name, 12)
        yield _text(left + step / 2, y + 66, f"{cycles} cycles", 11, FAINT)


def _labels() -> Iterator[str]:
    for x, y, text, anchor in (
        (275, 285, "a word a cycle", "middle"),
        (605, 266, "sums", "middle"),
        (605, 332, "add", "middle"),
        (763, 440, "sums", "start"),
        (448, 500, "blocks", "start"),
        (448, 380, "blocks", "start"),
        (72, 480, "K rows,", "end"),
        (72, 496, "V columns", "end"),
        (168, 480, "rows", "start"),
        (862, 440, "scalars", "end"),
        (308, 640, "moved", "start"),
        (488, 640, "a, b", "start"),
        (588, 640, "results", "start"),
        (758, 640, "scales", "start"),
        (934, 360, "lanes", "end"),
    ):
        yield _text(x, y, text, 11, FAINT, anchor)
