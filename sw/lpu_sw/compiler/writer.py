"""The writer of programs: scheduled pieces and single bundles, one after another, each with a name."""

from lpu_isa.bundle import Bundle, BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.fields import Operation
from lpu_isa.icu import IcuOp

from .memory import check_bundles
from .schedule import Piece

__all__ = ["Writer"]


class Writer:
    """Puts bundles one after another; targets of jumps are filled in when all labels are known.

    bundles, names : a name for each bundle. labels : bundle numbers.
    """

    def __init__(self, tile: TileConfig) -> None:
        self.bundles: list[Bundle] = []
        self.names: list[str] = []
        self.labels: dict[str, int] = {}
        self._tile = tile
        self._longest = BundleFormat(tile).header.by_name["wait"].high
        self._targets: list[tuple[int, str]] = []

    def label(self, name: str) -> None:
        """Call what comes next by a name."""
        self.labels[name] = len(self.bundles)

    def icu(self, name: str, op: IcuOp, wait: int, target: str = "", **fields: int) -> None:
        """An operation of the sequencer, ``wait`` cycles before the next bundle; ``target``: the label it jumps to."""
        if target:
            self._targets.append((len(self.bundles), target))
        self.put(name, Bundle(wait, operations={"icu": Operation("icu", {"op": op, **fields})}))

    def put(self, name: str, bundle: Bundle) -> None:
        """A bundle, and empty ones behind it for what its distance is longer than a bundle can hold."""
        waits = [self._longest] * ((bundle.wait - 1) // self._longest)
        rest = bundle.wait - sum(waits)
        first, *others = [*waits, rest]
        self.bundles += [Bundle(first, bundle.timed, bundle.operations), *map(Bundle, others)]
        self.names += [name, *["wait"] * len(others)]

    def piece(self, piece: Piece, length: int) -> None:
        """A whole piece; the next bundle issues ``length`` cycles after its first."""
        ends = [*piece.issue[1:], length]
        for step, at, end in zip(piece.steps, piece.issue, ends, strict=True):
            self.put(step.name, Bundle(end - at, operations=step.operations))

    def finish(self) -> None:
        """Fill in the targets. Raises `DoesNotFit` for more bundles than the tile has."""
        check_bundles(self._tile, len(self.bundles))
        for at, target in self._targets:
            self.bundles[at].operations["icu"].values["imm"] = self.labels[target]
