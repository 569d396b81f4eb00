"""What the RTL issues is what the profile foretold, event for event."""

from collections.abc import Callable

from lpu_isa.config import SHAPES
from lpu_sw.compiler.llama import compile_llama
from lpu_sw.engines import Job, find_engine
from lpu_sw.host.decode import Request
from lpu_sw.model import LlamaConfig, LlamaModel
from lpu_sw.profile.timeline import Run, UnitEvent, token_timeline
from lpu_sw.profile.watch import WatchedEngine, seen_events

AWKWARD = LlamaConfig(18, 21, 2, 3, 1, 6, 37, 16)
PROMPT, POSITIONS = (1, 5, 36), 6


def test_the_rtl_issues_what_was_predicted(random_model: Callable[..., LlamaModel]) -> None:
    compiled = compile_llama(random_model(AWKWARD, seed=3), SHAPES["4x4"])
    predicted: list[UnitEvent] = []
    for position in range(POSITIONS):
        timeline = token_timeline(compiled, position, Run(len(PROMPT), POSITIONS))
        predicted += [event._replace(cycle=timeline.start + event.cycle) for event in timeline.events()]
    job = Job(random_model(AWKWARD, seed=3), Request(PROMPT, POSITIONS), AWKWARD.vocab_size, compiled)
    engine = find_engine("rtl")
    assert isinstance(engine, WatchedEngine)
    engine.is_watched = True
    engine.prepare(job, print)
    assert len(list(engine.run(job))) == POSITIONS
    seen = seen_events(compiled, engine.seen)
    assert seen.pop().name == "halt"
    assert seen == predicted
