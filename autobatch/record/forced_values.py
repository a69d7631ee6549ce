"""Values forced inside `ab.map`: what is pending runs as a phase when no example can go on without a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import NamedTuple

from ..base.errors import line_of

Place = tuple[CodeType | None, int]


class Waiting(NamedTuple):
    """The lines at which examples wait for a phase, and how many examples are under way."""

    places: Sequence[Place]
    n_under_way: int


@dataclass(eq=False, slots=True)
class Forcing:
    """What was forced inside one call of `ab.map`; the recordings that it was split into share it.

    phases: how often what was pending ran
    waiting, under_way: examples that waited for a value, and examples that had begun and not ended, over all phases
    lines: user's line → how often a value was forced there, and in how many phases
    """

    phases: int = 0
    waiting: int = 0
    under_way: int = 0
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)
    _known: dict[Place, str] = field(default_factory=dict)

    def note(self, waiting: Waiting) -> None:
        """Count a phase."""
        self.phases += 1
        self.waiting += len(waiting.places)
        self.under_way += max(waiting.n_under_way, len(waiting.places))
        times: Counter[str] = Counter()
        for place, n in Counter(waiting.places).items():
            if place not in self._known:
                self._known[place] = line_of(*place)
            times[self._known[place]] += n
        self._count({line: (n, 1) for line, n in times.items()})

    def add(self, other: Forcing) -> None:
        """Count what was forced inside another call, too."""
        self.phases += other.phases
        self.waiting += other.waiting
        self.under_way += other.under_way
        self._count(other.lines)

    def _count(self, lines: Mapping[str, tuple[int, int]]) -> None:
        for line, (times, phases) in lines.items():
            before = self.lines.get(line, (0, 0))
            self.lines[line] = before[0] + times, before[1] + phases

    def describe(self, launches: int, together: int) -> list[str]:
        """Lines of text: how many phases there were, how full, and what was forced where; none without any."""
        if not self.phases:
            return []
        found = [
            f"{_counted(self.phases, 'phase')} of ab.map for {_counted(self.waiting, 'forced value')}, "
            f"{self.waiting / self.phases:,.1f} at a time: {self.waiting / self.under_way:.0%} of the examples under "
            f"way; launches that lead here: {launches:,}, had none been forced: {together:,}"
        ]
        for line, (times, phases) in sorted(self.lines.items(), key=lambda item: -item[1][0]):
            found.append(f"  {times:>6,}  at {line}, in {_counted(phases, 'phase')}")
        return found


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
