"""Products between rows and columns of which every pair has a number, as the scores of an attention have.

A node has n rows i, m columns j and n m pairs (i, j), row by row; in a single graph these are its lists `ROWS`,
`COLUMNS` and `PAIRS`. With vectors a_i and b_j and numbers w_ij, the three sums

    w_ij = a_i·b_j        a_i = Σ_j w_ij b_j        b_j = Σ_i w_ij a_i

are the derivatives of one trilinear form, Σ_ij w_ij a_i·b_j, by each of its operands, and so are the derivatives of
each of them: one primitive is all three.

A row or column has f[h, d] and a pair f[h], of h independent products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.types import Type, tensor_type
from .declare import Attrs, Sample, apply, declare

ROWS, COLUMNS, PAIRS = 1, 2, 3
N_LISTS = 3
"""The lists of a node. Their numbers are those of bits, one for the rows and one for the columns."""

OPERANDS = {ROWS: (COLUMNS, PAIRS), COLUMNS: (ROWS, PAIRS), PAIRS: (ROWS, COLUMNS)}
"""What the operands have values for, by what the result has."""


def length_of(number: int, n: int, m: int) -> int:
    """How many elements a list of a node with n rows and m columns has."""
    return (n, m, n * m)[number - 1]


def product_of(wanted: int, x: Any, y: Any) -> Any:
    """The sum that has values for this list, of values for the others in their order, in a single graph."""
    return apply(PAIR_PRODUCT, (x, y), (None, wanted))


def _infer(types: Sequence[Type], attrs: Attrs) -> Type:
    counts, made = attrs
    vectors = types[0].shape[-2:]
    lead = () if counts is None else (counts[made - 1],)
    return tensor_type(types[0].dtype, (*lead, *(vectors[:1] if made == PAIRS else vectors)))


def _vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    counts, made = attrs
    values = dict(zip((*OPERANDS[made], made), (*x[:2], g), strict=True))
    nodes = x[2:]
    found = []
    for wanted in OPERANDS[made]:
        operands = tuple(values[other] for other in OPERANDS[wanted])
        found.append(apply(PAIR_PRODUCT, (*operands, *nodes), (counts, wanted)))
    return *found, *[None] * len(nodes)


def _numpy(x: Any, y: Any, of_rows: Any, of_columns: Any, starts: Any, counts: Any, made: int) -> Any:
    heads = x.shape[1]
    shape = (counts[made - 1], *(x.shape[1:2] if made == PAIRS else x.shape[1:]))
    result = np.zeros(shape, x.dtype)
    ends = np.append(np.flatnonzero(np.diff(of_rows)) + 1, len(of_rows))
    first = 0
    for end in ends.tolist() if len(of_rows) else ():
        j, j_end = np.searchsorted(of_columns, [of_rows[first], of_rows[first] + 1]).tolist()
        rows, columns = slice(first, end), slice(j, j_end)
        n, m = end - first, j_end - j
        pairs = slice(int(starts[first]), int(starts[first]) + n * m)
        first = end
        if made == PAIRS:
            products = np.matmul(x[rows].transpose(1, 0, 2), y[columns].transpose(1, 2, 0))
            result[pairs] = products.transpose(1, 2, 0).reshape(n * m, heads)
            continue
        w = y[pairs].reshape(n, m, heads).transpose(2, *((0, 1) if made == ROWS else (1, 0)))
        own, others = (rows, columns) if made == ROWS else (columns, rows)
        result[own] = np.matmul(w, x[others].transpose(1, 0, 2)).transpose(1, 0, 2)
    return result


def _samples(rng: np.random.Generator) -> list[Sample]:
    """As a batched graph has them: two nodes, with two rows and three columns, and one of each."""
    nodes, counts = (np.array([0, 0, 1]), np.array([0, 0, 0, 1]), np.array([0, 3, 6])), (3, 4, 7)
    of_list = {ROWS: rng.normal(size=(3, 2, 2)), COLUMNS: rng.normal(size=(4, 2, 2)), PAIRS: rng.normal(size=(7, 2))}
    return [Sample((*(of_list[k] for k in OPERANDS[made]), *nodes), (counts, made)) for made in (ROWS, COLUMNS, PAIRS)]


PAIR_PRODUCT = declare(
    "pair_product",
    "products of the vectors of rows and columns, or sums over either of vectors times numbers of pairs",
    _infer,
    _numpy,
    _vjp,
    "pairs",
    dtypes="keep",
    samples=_samples,
)
