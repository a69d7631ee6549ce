"""A table of vectors, looked up by index."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np

import autobatch as ab

from ..base.errors import OpIndexError, op_error, user_error
from ..record.layers import known_row
from ..record.parameter import Parameter
from . import init
from .module import Module

Rows = ab.Tensor | np.ndarray[Any, Any] | SupportsIndex | list[Any]


def integers(name: str, numbers: Any, called: str = "index") -> np.ndarray[Any, Any]:
    """Indices or labels that layer `name` is given: i64[...]. Raises unless they are integers."""
    found = np.asarray(numbers)
    if found.size and found.dtype.kind not in "iu":
        got = f"an array of {found.dtype}"
        raise op_error(name, f"each {called} is an integer", got=got, repair="convert them by int(x)")
    return found.astype(np.int64)


def whole_numbers(name: str, numbers: Any, n: int, called: str = "index") -> np.ndarray[Any, Any]:
    """The same, which also raises unless they are from 0 to n - 1."""
    found = integers(name, numbers, called)
    low, high = int(found.min(initial=0)), int(found.max(initial=-1))
    if low < 0 or high >= n:
        what = f"{name}: {called} {high if high >= n else low} is out of range"
        raise user_error(OpIndexError, what, expected=f"from 0 to {n - 1}", repair="number them from 0")
    return found


class Embedding(Module):
    """One vector for each of `n` indices; `embed[i]` and `embed(i)` are the same.

    The index is data: looking up another word does not make another signature. The gradient of a table that is only
    looked up holds the touched rows alone.

    Arguments:
        n: number of rows.
        dim: width of a row.

    Parameter and key as in `torch.nn.Embedding`: `weight: f[n, dim]`, drawn from N(0, 1).

    >>> embed = nn.Embedding(100, 8)
    >>> embed[42].shape, embed([1, 2, 2]).shape
    ((8,), (3, 8))
    >>> embed
    Embedding(n=100, dim=8)
    """

    def __init__(self, n: int, dim: int) -> None:
        self.n = n
        self.dim = dim
        self.weight = init.normal((n, dim))

    def forward(self, index: Rows) -> ab.Tensor:
        """index: an integer, a traced number, or integers of shape [k] → f[dim] or f[k, dim].

        An index outside the table raises IndexError.
        """
        return self.weight[index]

    @known_row("weight")
    def __getitem__(self, index: Rows) -> ab.Tensor:
        weight = self.weight
        return weight._row_for_layer(index) if weight.__class__ is Parameter else weight[index]

    # A class with __getitem__ alone would pass as a sequence, and looping over it would look rows up without end.
    __iter__ = None

    def extra_repr(self) -> str:
        return f"n={self.n}, dim={self.dim}"
