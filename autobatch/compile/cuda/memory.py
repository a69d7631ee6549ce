"""memory: the offsets of the temporary arrays of a program in its scratch memory.

Input: the lines of a driver, and the temporary arrays with their sizes. Output: lines that compute addresses, and the
number of bytes. Invariants: two arrays share a place only where the last line that names one is before the first that
names the other, and their sizes are equal for every launch. Cost: O(lines + arrays).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...base.types import Dim
from ..text import extent_name

ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Layout:
    """heads: assignments to the names of the arrays; total: bytes in all, an expression."""

    heads: list[str]
    total: str


def lay_out(lines: Sequence[str], n_bytes: Mapping[str, Any]) -> Layout:
    """Places for arrays of these sizes, in bytes.

    >>> sizes = {name: Dim(0, 8) for name in ("v1", "v2", "v3")}
    >>> print("\\n".join(lay_out(["f(v1)", "g(v1, v2)", "h(v2, v3)"], sizes).heads))
    v1 = v3 = scratch
    v2 = v1 + (8 * m + 255 & -256)
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, line in enumerate(lines):
        for name in re.findall(r"\b[a-z]+\d+\b", line):
            if name in n_bytes:
                first.setdefault(name, number)
                last[name] = number
    places: list[list[str]] = []
    sizes: list[Any] = []
    for name in sorted(first, key=lambda name: first[name]):
        for place, size in zip(places, sizes, strict=True):
            if size == n_bytes[name] and last[place[-1]] < first[name]:
                place.append(name)
                break
        else:
            places.append([name])
            sizes.append(n_bytes[name])
    heads, total, before = [], "0", "scratch"
    for place, size in zip(places, sizes, strict=True):
        heads.append(f"{' = '.join(place)} = {before}")
        room = (
            f"({extent_name(size)} + {ALIGNMENT - 1} & -{ALIGNMENT})"
            if isinstance(size, Dim)
            else repr(-(-size // ALIGNMENT) * ALIGNMENT)
        )
        before = f"{place[0]} + {room}"
        total += f" + {room}"
    return Layout(heads, total.removeprefix("0 + "))
