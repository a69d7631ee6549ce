"""memory: the offsets of the temporary arrays of a program in its scratch memory.

Input: the lines of a driver, and the temporary arrays with their sizes. Output: lines that compute addresses, and the
number of bytes. Invariants: two arrays share a place only where the last line that names one is before the first that
names the other, and their sizes are equal for every launch. Cost: O(lines + arrays).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..text import extent_name

ALIGNMENT = 256


def lay_out(lines: Sequence[str], n_bytes: Mapping[str, Any]) -> tuple[list[str], str]:
    """Places for arrays of these sizes, in bytes: assignments to their names, and the bytes in all, an expression.

    >>> from autobatch.base.types import Dim
    >>> sizes = {name: Dim(0, 8) for name in ("v1", "v2", "v3")}
    >>> print("\\n".join(lay_out(["f(v1)", "g(v1, v2)", "h(v2, v3)"], sizes)[0]))
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
    for name in sorted(first, key=lambda name: first[name]):
        for place in places:
            if n_bytes[place[0]] == n_bytes[name] and last[place[-1]] < first[name]:
                place.append(name)
                break
        else:
            places.append([name])
    heads, total, before = [], "0", "scratch"
    for place in places:
        size = n_bytes[place[0]]
        heads.append(f"{' = '.join(place)} = {before}")
        room = repr(-(-size // ALIGNMENT) * ALIGNMENT) if isinstance(size, int) else ""
        room = room or f"({extent_name(size)} + {ALIGNMENT - 1} & -{ALIGNMENT})"
        before = f"{place[0]} + {room}"
        total += f" + {room}"
    return heads, total.removeprefix("0 + ")
