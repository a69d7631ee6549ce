"""Whether a length, or a number, varies: the second one seen of an op on operands alike otherwise says so.

The first length gives code for that length. Once a second one comes, results are laid out as rows, and one signature
serves all lengths from then on; recordings made before stay as they are. What was seen is kept in the cache that has
the signatures, of a shared operand or of all, and goes with it.
"""

from __future__ import annotations

from typing import Any

VARIES = -1

switched = [0]
"""How often a family was seen to vary. Recordings that are kept for later are in the forms of one such number."""


def varies(cache: dict[Any, Any], family: Any, length: Any, entry: Any = None) -> bool:
    """Whether other lengths were seen of a family. The entry of the cache that is made for the first one is removed
    when the second one comes."""
    key = "lengths", family
    first, made = cache.get(key, (None, None))
    if first == VARIES:
        return True
    if first is None:
        cache[key] = length, entry
    if first in (None, length):
        return False
    cache[key] = VARIES, None
    switched[0] += 1
    cache.pop(made, None)
    return True
