"""Words of a memory: what lies where, and what may be taken again once it has been given back."""

from collections.abc import Iterator

from .memory import Memory, Stretch

__all__ = ["Space"]


class Space:
    """Words of a memory, taken by name from the first one up, and kept from ``depth`` down.

    What has been given back is taken again, first fit. What is kept lies where nothing else ever does, since it is
    there before the program runs. A space may outgrow its depth: `need` tells how many words it would take.

    places : the words of each name that was ever taken. end : words below the highest that was ever taken; ``highest``
    is its name. kept : names and words of what is kept, from the last word down.
    """

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.places: dict[str, range] = {}
        self.kept: list[tuple[str, range]] = []
        self.end, self.highest = 0, ""
        self._free: list[range] = []

    def take(self, name: str, words: int) -> int:
        """The first of so many words side by side."""
        end = self.end
        first = self._first(words)
        self.places[name] = range(first, first + words)
        if self.end > end:
            self.highest = name
        return first

    def take_copies(self, inner: "Space", count: int) -> None:
        """Take what ``inner`` has taken, so many times side by side; the first has its names."""
        first = self._first(count * inner.end)
        for name, place in inner.places.items():
            self.places[name] = range(first + place.start, first + place.stop)

    def _first(self, words: int) -> int:
        for index, hole in enumerate(self._free):
            if len(hole) >= words:
                self._free[index : index + 1] = [hole[words:]] if len(hole) > words else []
                return hole.start
        first = self._free.pop().start if self._free and self._free[-1].stop == self.end else self.end
        self.end = first + words
        return first

    def give_back(self, name: str) -> None:
        """Let others take what `take` gave."""
        holes: list[range] = []
        for hole in sorted([*self._free, self.places[name]], key=lambda hole: hole.start):
            if holes and holes[-1].stop == hole.start:
                hole = range(holes.pop().start, hole.stop)
            holes.append(hole)
        self._free = holes

    def keep(self, name: str, words: int) -> int:
        """The first of so many words side by side, for what is there from the start."""
        end = self.kept_from
        self.kept.append((name, range(end - words, end)))
        return end - words

    @property
    def kept_from(self) -> int:
        """The first word of what is kept."""
        return self.kept[-1][1].start if self.kept else self.depth

    @property
    def need(self) -> int:
        """Words that the memory must have."""
        return self.end + self.depth - self.kept_from

    def stretches(self, memory: Memory, taken: str) -> Iterator[Stretch]:
        """All words in rising order: the taken ones together, those left over, ``free``, and the kept ones by name."""
        places = [(taken, range(self.end)), ("free", range(self.end, self.kept_from))]
        for name, place in reversed(self.kept):
            if places[-1][0] == name:
                place = range(places.pop()[1].start, place.stop)
            places.append((name, place))
        yield from (Stretch(memory, name, place.start, len(place)) for name, place in places if place)
