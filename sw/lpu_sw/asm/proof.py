"""A program's timing, proved on the data that it brings."""

from lpu_sw.check import Kind, Violation, check
from lpu_sw.sim.state import TileState

from .program import Program

__all__ = ["prove"]

CYCLES = 50_000
"""A program that has not ended by then is taken to be proved as far as it got."""


def prove(program: Program) -> list[Violation]:
    """Everything that is wrong with a program whatever the host does, as far as a run shows it.

    The run has the program's own sections and inbox, zeros in the other memory words, and ends when the program halts
    or waits for a further word. Paths that it does not take are not proved: see `lpu_sw.check`.
    """
    state = TileState(program.config)
    for section in program.sections:
        state.load(section.window, section.words, section.address)
    report = check(
        program.config, program.bundles, program.timings.tolist(), program.inbox, state, program.sources, CYCLES
    )
    wrong = {violation.pc for violation in report.violations if violation.kind is not Kind.FAULT}
    return [
        violation
        for violation in report.violations
        # A fault at a bundle that is known to be wrong only says so again.
        if violation.kind is not Kind.UNFINISHED and not (violation.kind is Kind.FAULT and violation.pc in wrong)
    ]
