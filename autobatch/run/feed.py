"""feed: the arguments of a launch, assembled by a recipe that is made once for a piece of a signature.

Input: the inputs of a piece (`compile.lower.graph_inputs`) and the signature. Output: `Feed`. Invariant: arguments come
in the order of the inputs. Cost: a fraction of a microsecond for each argument of a launch.

Operands and data of a launch, and what is the same for all launches, are put in one list, from which the
arguments are picked in one call; only cotangents, residuals and what follows from the lengths of lists are new.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.jit import njit
from ..base.types import Array, Type
from ..ops.pairs import COLUMNS


@dataclass(frozen=True, slots=True)
class Form:
    """How rows become a batched value.

    index, factor: its leading length is `sizes[index] * factor`
    rest: its other lengths
    width: of its rows where each is a vector; -1 where it has another rank
    """

    index: int
    factor: int
    rest: tuple[int, ...]
    width: int


@functools.cache
def form_of(type: Type) -> Form:
    """The form of a batched type."""
    lead, *rest = type.shape
    return Form(lead.index, lead.factor, tuple(rest), rest[0] if len(rest) == 1 else -1)


def batched(rows: Array, form: Form, sizes: Sequence[int]) -> Array:
    """Rows as a batched value."""
    if rows.shape[1] == form.width:
        return rows
    return rows.reshape((sizes[form.index] * form.factor, *form.rest))


@dataclass(frozen=True, slots=True)
class Feed:
    """The arguments of a piece.

    same: the operands that are the same for all launches of a run, (kind, number)
    cotangents, residuals: which results and which residuals are read, and their forms
    derived: what follows from the lengths of lists, (kind, number of the list)
    pick: from operands, data, these four in this order, to the arguments in theirs
    """

    same: tuple[tuple[str, int], ...]
    cotangents: tuple[tuple[int, Form], ...]
    residuals: tuple[tuple[int, Form], ...]
    derived: tuple[tuple[str, int], ...]
    pick: Callable[[list[Any]], Sequence[Any]]


SAME = ("shared", "derived")


def feed(
    inputs: Sequence[tuple[str, int]],
    n_slots: int,
    n_data: int,
    cotangents: dict[int, Type],
    residuals: Sequence[Type],
) -> Feed:
    """The recipe for inputs of a signature with so many slots and so much data.

    Args:
        inputs: (kind, number), in the order of the arguments.
        n_slots: of the signature, `n_data` likewise.
        cotangents: types of the cotangents that may be read, by result; residuals: their types.
    """
    same = tuple(one for one in inputs if one[0] in SAME)
    of_results = tuple((k, form_of(cotangents[k])) for kind, k in inputs if kind == "cotangent")
    of_residuals = tuple((k, form_of(residuals[k])) for kind, k in inputs if kind == "residual")
    known = ("rows", "data", "cotangent", "residual", *SAME)
    lengths = tuple(one for one in inputs if one[0] not in known)
    order = [("rows", k) for k in range(n_slots)] + [("data", k) for k in range(n_data)]
    order += [*same, *(("cotangent", k) for k, _ in of_results), *(("residual", k) for k, _ in of_residuals), *lengths]
    at = [order.index(one) for one in inputs]
    return Feed(same, of_results, of_residuals, lengths, _picker(at))


def _picker(at: list[int]) -> Callable[[list[Any]], Sequence[Any]]:
    if not at:
        return lambda _: ()
    if len(at) == 1:
        only = at[0]
        return lambda found: (found[only],)
    return operator.itemgetter(*at)


def from_lengths(kind: str, k: int, offsets: Sequence[Array]) -> Array:
    """What follows from where the elements of each node of its lists begin, [nodes + 1] for each; k is one of them."""
    if kind in ("owners", "starts"):
        return _of_pairs(kind == "owners", k == COLUMNS, *offsets)
    own = offsets[k - 1]
    if kind == "firsts":
        return np.repeat(np.asarray(offsets[0][:-1], np.int64), np.diff(own))
    if kind == "positions":
        starts = own.astype(np.int64)
        return np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))
    lengths = np.diff(own).astype(np.int64)
    return lengths if kind == "lengths" else np.repeat(np.arange(lengths.size), lengths)


def pair_offsets(n: Array, m: Array) -> list[Array]:
    """Where the rows, columns and pairs of each node begin, as offsets of three lists, of so many rows and columns."""
    return [np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]) for lengths in (n, m, n * m)]


@njit
def _of_pairs(owners, of_columns, row_offsets, column_offsets, pair_offsets):  # type: ignore[no-untyped-def]
    """For each pair the number of its row or column, or for each row that of its first pair."""
    found = np.empty(pair_offsets[-1] if owners else row_offsets[-1], np.int64)
    at = pair = 0
    for node in range(row_offsets.size - 1):
        first, m = column_offsets[node], column_offsets[node + 1] - column_offsets[node]
        for row in range(row_offsets[node], row_offsets[node + 1]):
            if not owners:
                found[at] = pair
                pair += m
                at += 1
                continue
            for j in range(m):
                found[at] = first + j if of_columns else row
                at += 1
    return found
