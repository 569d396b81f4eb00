"""Floorplan: which block RAM and which multiplier of the LFE5U-85F each one of the 8x16 tile is.

They fill the chip, and lie in a few lines across it. nextpnr's placers move logic freely, then put these cells on what
sites are left; rows of the matrix unit end up all over the chip, and their wires with them. So their sites are chosen
here: the matrix unit's rows at either side, each with a line of block RAMs and the multipliers beside it, the vector
unit in the strip between, and the sequencer below one side.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["floorplan"]

_PER_GROUP = 4
"""In each line the sites stand in 13 groups of so many."""
_FIRST, _PITCH = 4, 9
"""Columns of the chip: the first group's, and from one group to the next."""
_BEFORE_SPINE, _SPINE = 7, 2
"""After so many groups comes the clock's spine, so many columns wide."""
_MULTIPLIERS = ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5"))
_RAMS = ((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3"))

# Lines of block RAMs are at 22, 46, 70 and 82, of multipliers at 10, 34 and 58.
_LEFT, _STRIP, _RIGHT = range(20), range(20, 32), range(51, 31, -1)
"""Sites of a line: of either side, from the edge on, and between them."""
_ROWS: tuple[tuple[dict[int, range], tuple[tuple[int, int], ...]], ...] = (
    ({22: _LEFT}, ((10, 0), (10, 1), (10, 2), (10, 3))),
    ({46: _LEFT}, ((34, 0), (34, 1), (34, 2), (10, 4))),
    ({70: _LEFT}, ((34, 3), (34, 4), (58, 4), (58, 5))),
    ({82: _LEFT}, ((58, 0), (58, 1), (58, 2), (58, 3))),
    ({22: _RIGHT}, ((10, 12), (10, 11), (10, 10), (10, 9))),
    ({46: _RIGHT}, ((34, 12), (34, 11), (34, 10), (10, 8))),
    ({70: _RIGHT}, ((34, 9), (34, 8), (58, 11), (58, 10))),
    ({82: _STRIP, 70: _STRIP[:8]}, ((58, 6), (58, 7), (58, 8), (58, 9))),
)
"""Of each row of the matrix unit: its block RAMs, and line and group of the multipliers of each four columns. The last
one's RAMs lie in the strip, and leave the right end of their line, with room around it, to the sequencer."""
_LANES = ((10, (0, 1, 5, 4)), (34, (2, 3, 7, 6)))
"""Lanes of the vector unit, by the line of their multipliers, which lie in the strip."""
_STRIP_RAMS = {
    22: (0, "b", 1, "b", "b", "scale", "scale", "b", "b", 5, "b", 4),
    46: (2, "a", 3, "a", "a", "scale", "scale", "a", "a", 7, "a", 6),
    70: (*8 * [None], "scale", "scale"),
}
"""What the lines of block RAMs hold in the strip: tables of functions, by their lanes, scale SRAM, and vector SRAM of
port A and of port B. Both copies of the latter in one line would be more wires in the middle of the chip than there
are."""


def floorplan(made: Path, top: str) -> bool:
    """Give the block RAMs and multipliers in a netlist of the LFE5U-85F their sites; the file is changed.

    made : JSON of Yosys, flattened. top : its top module.

    Returns whether it was done: not if the netlist holds another shape, whose cells are left to the placer.
    """
    netlist = json.loads(made.read_text())
    cells = netlist["modules"][top]["cells"]
    named = {_plain(name): cell for name, cell in cells.items() if cell["type"] in ("DP16KD", "MULT18X18D")}
    sites = dict(_sites())
    is_another_shape = any(name.startswith(("mxm.", "wmem.")) for name in named.keys() - sites.keys())
    if is_another_shape or not sites.keys() <= named.keys():
        return False
    for name, site in sites.items():
        named[name]["attributes"]["BEL"] = site
    made.write_text(json.dumps(netlist))
    return True


def _plain(name: str) -> str:
    """A cell's name from the tile on, without the numbers that Amaranth adds to names that it finds taken."""
    return re.sub(r"\$\d+", "", re.sub(r"^.*?(?=(?:mxm|wmem|vmem|smem|vxm|icu|host)\.)", "", name))


def _site(line: int, at: int, kinds: tuple[tuple[int, str], ...]) -> str:
    group, place = divmod(at, _PER_GROUP)
    x, kind = kinds[place]
    return f"X{_FIRST + _PITCH * group + _SPINE * (group >= _BEFORE_SPINE) + x}/Y{line}/{kind}"


def _sites() -> Iterator[tuple[str, str]]:
    """Names, as `_plain` makes them, and sites."""
    yield from _of_matrix_unit()
    yield from _of_vector_unit()
    yield from _of_sequencer()


def _of_matrix_unit() -> Iterator[tuple[str, str]]:
    for row, (lines, groups) in enumerate(_ROWS):
        rams = [_site(line, at, _RAMS) for line, sites in lines.items() for at in sites]
        for quarter, (line, group) in enumerate(groups):
            columns = range(_PER_GROUP * quarter, _PER_GROUP * (quarter + 1))
            for place, col in enumerate(columns):
                site = _site(line, _PER_GROUP * group + place, _MULTIPLIERS)
                yield f"mxm.row{row}.col{col}.multiplier", site
            # A block RAM for each column's first 2,048 bytes, and between them one for the rest of all four.
            parts = [f"from0_slice{col}" for col in columns]
            parts.insert(2, f"from2048_slice{columns[0]}")
            for part in parts:
                yield f"wmem.bank{row}.ebrs.{part}.ebr", rams.pop(0)


def _of_vector_unit() -> Iterator[tuple[str, str]]:
    for line, lanes in _LANES:
        units = [f"vxm.lane{lane}.{unit}" for lane in lanes for unit in ("multiply", "function", "gain")]
        for at, unit in zip(_STRIP, units, strict=True):
            yield f"{unit}.multiplier.multiplier", _site(line, at, _MULTIPLIERS)
    words = {
        kind: iter([f"{memory}.ebrs.from0_slice{_PER_GROUP * word}" for word in range(6)])
        for kind, memory in (("a", "vmem.copy0"), ("b", "vmem.copy1"), ("scale", "smem.copy0"))
    }
    for line, kinds in _STRIP_RAMS.items():
        for at, kind in zip(_STRIP, kinds, strict=False):
            if kind is not None:
                name = next(words[kind]) if kind in words else f"vxm.lane{kind}.function.table"
                yield f"{name}.ebr", _site(line, at, _RAMS)


def _of_sequencer() -> Iterator[tuple[str, str]]:
    """Timing memory in the middle of the program: both are addressed by what both hold. Outermost the scalar
    functions, which nothing waits for."""
    program = [f"icu.fetch.program.beat{beat}_bank0" for beat in range(14)]
    timings = [f"icu.fetch.timing.beat0_bank{bank}" for bank in range(4)]
    functions = "icu.functions.lookup"
    for at, name in zip(reversed(_RIGHT), (*program[:7], *timings, *program[7:], f"{functions}.table"), strict=False):
        yield f"{name}.ebr", _site(82, at, _RAMS)
    yield f"{functions}.multiplier.multiplier", _site(58, _RIGHT[0], _MULTIPLIERS)
