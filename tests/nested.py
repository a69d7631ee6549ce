"""Lists and tuples in one another, as functions take and give them."""

from __future__ import annotations

from typing import Any


def leaves(tree: Any) -> list[Any]:
    """What lists and tuples hold, in order; anything else is a leaf."""
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, list | tuple) else [tree]
