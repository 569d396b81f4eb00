"""Figures of a profile: busy, floor and idle cycles of the matrix unit by kind of operation, and the stall table."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from lpu_isa.config import TileConfig
from lpu_sw.compiler.llama import CompiledLlama
from lpu_sw.compiler.step import kind_of
from lpu_sw.feed_forward.compile import CompiledNetwork
from lpu_sw.model import LlamaConfig

from .stalls import Cause, StallAnalysis
from .timeline import Run, Timeline, network_timeline, token_timeline

__all__ = ["KindFigures", "Profile", "network_profile", "token_macs", "token_profile"]


@dataclass(frozen=True)
class KindFigures:
    """Matmuls of one kind, together.

    busy : cycles of the matrix unit. floor : those that the model's own multiplications would take.
    idle : cycles in which the matrix unit waited for one of them.
    """

    kind: str
    times: int
    busy: int
    floor: float
    idle: int


def token_macs(model: LlamaConfig, n_valid: int, position: int, decodes: bool) -> dict[str, int]:
    """Multiplications of the model itself in one layer's matmuls of each kind, and in the classifier's."""
    attended = model.query_dim * (position + 1)
    return {
        "keys": model.dim * model.kv_dim,
        "queries": model.dim * model.query_dim,
        "values": model.dim * model.kv_dim,
        "head scores": attended,
        "head values": attended,
        "o block": model.query_dim * model.dim,
        "gate": model.dim * model.hidden_dim,
        "up": model.dim * model.hidden_dim,
        "down block": model.hidden_dim * model.dim,
        **({"logits": model.dim * n_valid} if decodes else {}),
    }


@dataclass(frozen=True)
class Profile:
    """One position of a language model on a tile, or one inference of a network.

    macs : multiplications of the model itself in the matmuls of each kind, of one layer where layers repeat.
    """

    tile: TileConfig
    macs: dict[str, int]
    timeline: Timeline

    @cached_property
    def analysis(self) -> StallAnalysis:
        """Which cycles of the matrix unit are idle, and why."""
        return StallAnalysis(self.timeline)

    @property
    def busy(self) -> int:
        """Cycles in which the matrix unit takes a step."""
        return int(self.analysis.is_busy.sum())

    @property
    def idle(self) -> int:
        """All other cycles."""
        return self.timeline.cycles - self.busy

    @property
    def floor(self) -> float:
        """Cycles that the model's own multiplications take on a matrix unit that is never idle."""
        return sum(figures.floor for figures in self.kinds)

    @cached_property
    def kinds(self) -> list[KindFigures]:
        """Kinds of matmuls, summed over the layers, in the order of their first appearance."""
        return [figures for _, figures in self._kinds(by_layer=False)]

    @cached_property
    def layer_kinds(self) -> list[tuple[int | None, KindFigures]]:
        """The same for each layer on its own; None: outside the layers, or all together."""
        return self._kinds(by_layer=True)

    def _kinds(self, by_layer: bool) -> list[tuple[int | None, KindFigures]]:
        times: Counter[tuple[int | None, str]] = Counter()
        busy: Counter[tuple[int | None, str]] = Counter()
        idle: Counter[tuple[int | None, str]] = Counter()
        layers: defaultdict[tuple[int | None, str], set[int | None]] = defaultdict(set)
        waited = Counter[int]()
        for stall in self.analysis.stalls:
            waited[stall.wanted] += stall.cycles
        for i, issue in enumerate(self.timeline.issues):
            key = issue.layer if by_layer else None, kind_of(issue.name)
            if "mxm" in issue.uses:
                times[key] += 1
                busy[key] += issue.busy("mxm")
                layers[key].add(issue.layer)
            if i in waited:
                idle[key] += waited[i]
                times[key] += "mxm" not in issue.uses
        figures = []
        for layer, kind in times:
            macs = len(layers[layer, kind]) * self.macs.get(kind, 0)
            floor = macs / self.tile.multipliers
            figures.append(
                (layer, KindFigures(kind, times[layer, kind], busy[layer, kind], floor, idle[layer, kind]))
            )  # fmt: skip
        return figures

    @cached_property
    def stalls(self) -> list[tuple[str, Cause, str, int]]:
        """Idle cycles by kind of what was wanted, cause, and kind of what the cause is about; the most first."""
        counts: Counter[tuple[str, Cause, str]] = Counter()
        issues = self.timeline.issues
        for stall in self.analysis.stalls:
            behind = "start" if stall.behind is None else kind_of(issues[stall.behind].name)
            counts[kind_of(issues[stall.wanted].name), stall.cause, behind] += stall.cycles
        return [(*key, cycles) for key, cycles in counts.most_common()]

    def lines(self) -> Iterator[str]:
        """The whole in two lines."""
        timeline, cycles = self.timeline, self.timeline.cycles
        yield f"{timeline.subject}, on tile {self.tile.name}: {cycles:,} cycles"
        yield (
            f"matrix unit busy {self.busy:,} ({self.busy / cycles:.3f}), floor {self.floor:,.1f} "
            f"({self.floor / cycles:.3f}), idle {self.idle:,}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "tile": self.tile.name,
            "subject": self.timeline.subject,
            "cycles": self.timeline.cycles,
            "busy": self.busy,
            "floor": self.floor,
            "idle": self.idle,
            "kinds": [asdict(figures) for figures in self.kinds],
            "layer_kinds": [{"layer": layer, **asdict(figures)} for layer, figures in self.layer_kinds],
            "causes": {cause.name.lower(): cycles for cause, cycles in self.analysis.by_cause().items()},
            "stalls": [
                {"wanted": wanted, "cause": cause.name.lower(), "behind": behind, "cycles": cycles}
                for wanted, cause, behind, cycles in self.stalls
            ],
        }


def token_profile(compiled: CompiledLlama, model: LlamaConfig, position: int, run: Run | None = None) -> Profile:
    """Profile a position; by default of a run from a single token. Raises ValueError as `token_timeline` does."""
    decodes = run is None or position + 1 >= run.prompt_tokens
    macs = token_macs(model, compiled.facts.n_valid, position, decodes)
    return Profile(compiled.program.config, macs, token_timeline(compiled, position, run))


def network_profile(compiled: CompiledNetwork) -> Profile:
    """Profile an inference."""
    return Profile(compiled.program.config, compiled.macs, network_timeline(compiled))
