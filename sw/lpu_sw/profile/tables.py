"""The profile as tables for a terminal."""

from collections.abc import Iterator

from rich.table import Table

from .figures import Profile

__all__ = ["tables"]


def tables(profile: Profile, by_layer: bool = False, most: int = 20) -> Iterator[Table]:
    """Matmuls by kind, then idle cycles by cause, then the ``most`` longest waits.

    by_layer : a row for each layer's matmuls, instead of one for all layers together.
    """
    yield _matmuls(profile, by_layer)
    causes = _table("What the matrix unit waited for", ["cause"], ["idle cycles", "share"])
    for cause, cycles in profile.analysis.by_cause().most_common():
        causes.add_row(cause.value, f"{cycles:,}", f"{cycles / profile.idle:.1%}")
    yield causes
    waits = _table("The longest waits, all layers together", ["before", "waited for", "of"], ["idle cycles"])
    for wanted, cause, behind, cycles in profile.stalls[:most]:
        waits.add_row(wanted, cause.value, behind, f"{cycles:,}")
    if left := sum(cycles for *_, cycles in profile.stalls[most:]):
        waits.add_row(f"{len(profile.stalls) - most} others", "", "", f"{left:,}")
    yield waits


def _table(title: str, names: list[str], numbers: list[str]) -> Table:
    table = Table(*names, title=title, title_justify="left")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _matmuls(profile: Profile, by_layer: bool) -> Table:
    layer_column = ["layer"] if by_layer else []
    table = _table("Matrix unit, cycles", [*layer_column, "operation"], ["times", "busy", "floor", "idle before"])
    rows = profile.layer_kinds if by_layer else [(None, figures) for figures in profile.kinds]
    for layer, figures in rows:
        first = ["-" if layer is None else str(layer)] if by_layer else []
        times = str(figures.times)
        table.add_row(
            *first, figures.kind, times, f"{figures.busy:,}", f"{figures.floor:,.1f}", f"{figures.idle:,}"
        )  # fmt: skip
    table.add_section()
    first = [""] if by_layer else []
    table.add_row(*first, "together", "", f"{profile.busy:,}", f"{profile.floor:,.1f}", f"{profile.idle:,}")
    return table
