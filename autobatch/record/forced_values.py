"""Values forced inside `ab.map`: each runs what is pending, and so splits the recording of all examples."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Forcing:
    """What was forced inside one call of `ab.map`; the recordings that it was split into share it.

    lines: user's line → how often, and how many launches ran then
    """

    lines: dict[str, tuple[int, int]] = field(default_factory=dict)

    def note(self, line: str, times: int, n_launches: int) -> None:
        """Count values forced at a line."""
        before = self.lines.get(line, (0, 0))
        self.lines[line] = before[0] + times, before[1] + n_launches

    def describe(self, launches: int, together: int) -> list[str]:
        """Lines of text: what splitting cost, and where it was done; none where nothing was forced."""
        times = sum(n for n, _ in self.lines.values())
        if not times:
            return []
        found = [f"{times:,} {'value' if times == 1 else 'values'} forced inside ab.map, each of which ran what was "
                 f"pending: {launches:,} launches in all, {together:,} had none been forced"]  # fmt: skip
        for line, (n, ran) in sorted(self.lines.items(), key=lambda item: -item[1][1]):
            found.append(f"  {n:>6,}  at {line}: {ran:,} {'launch' if ran == 1 else 'launches'}")
        return found
