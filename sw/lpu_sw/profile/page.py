"""The stall table as Markdown, for ``docs/performance.md``."""

from collections.abc import Sequence

from .figures import Profile
from .stalls import Cause

__all__ = ["stall_table"]

MOST_WAITS = 8
"""Longest waits that are named."""


def stall_table(profiles: Sequence[Profile]) -> str:
    """Cycles of the matrix unit by cause, a column a profile, then the longest waits of the last one."""
    columns = [profile.timeline.subject for profile in profiles]
    lines = [f"| cycles of the matrix unit | {' | '.join(columns)} |", "| --- " * (len(profiles) + 1) + "|"]

    def row(name: str, cycles: Sequence[float]) -> None:
        lines.append(f"| {name} | {' | '.join(f'{count:,.0f}' for count in cycles)} |")

    row("all", [profile.timeline.cycles for profile in profiles])
    row("busy", [profile.busy for profile in profiles])
    row("floor, part of the busy ones", [profile.floor for profile in profiles])
    for cause in Cause:
        row(f"idle: {cause.value}", [profile.analysis.by_cause()[cause] for profile in profiles])
    last = profiles[-1]
    waits = [f"| {wanted} | {cause.value} | {behind} | {cycles:,} |"
             for wanted, cause, behind, cycles in last.stalls[:MOST_WAITS]]  # fmt: skip
    return "\n".join([
        *lines,
        "",
        f"| longest waits, {last.timeline.subject}: before | waited for | of | cycles |",
        "| --- " * 4 + "|",
        *waits,
    ])  # fmt: skip
