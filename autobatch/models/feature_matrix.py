"""The features of many examples as one matrix, of which only the elements that are not zero are held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

__all__ = ["FeatureMatrix", "inverse_frequencies"]

Array = np.ndarray


def inverse_frequencies(bags: Sequence[Iterable[int]], n_features: int) -> Array:
    """1 + log((1 + number of bags) / (1 + number of those that have the feature)): f32[n_features].

    >>> inverse_frequencies([[0, 0, 1], [0], [0]], n_features=3).round(2)
    array([1.  , 1.69, 2.39], dtype=float32)
    """
    having = np.bincount(np.fromiter(chain.from_iterable(map(set, bags)), dtype=np.intp), minlength=n_features)
    return (1 + np.log((1 + len(bags)) / (1 + having))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class FeatureMatrix:
    """The elements sorted by row, and again sorted by column, so that both products are sums over segments.

    Attributes:
        n_columns: the last of them is 1 in every row; no row is empty.
        columns, values: of the elements sorted by row.
        row_starts: where each row begins among them.
        rows_by_column, values_by_column: of the elements sorted by column.
        used_columns: the columns that have an element.
        column_starts: where each of these begins.
    """

    n_columns: int
    columns: Array
    values: Array
    row_starts: Array
    rows_by_column: Array
    values_by_column: Array
    used_columns: Array
    column_starts: Array

    @staticmethod
    def of_bags(bags: Sequence[Sequence[int]], importance: Array) -> FeatureMatrix:
        """A row for each bag: log(1 + count) × importance of each feature, scaled to length 1, and a 1 for the bias.

        >>> matrix = FeatureMatrix.of_bags([[0, 0, 2], [1]], importance=np.ones(3, np.float32))
        >>> matrix.times(np.eye(4, dtype=np.float32)).round(2)
        array([[0.85, 0.  , 0.53, 1.  ],
               [0.  , 1.  , 0.  , 1.  ]], dtype=float32)
        """
        n_rows, n_columns = len(bags), len(importance) + 1
        sizes = np.fromiter(map(len, bags), dtype=np.intp, count=n_rows)
        features = np.fromiter(chain.from_iterable(bags), dtype=np.intp, count=int(sizes.sum()))
        cells, counts = np.unique(np.repeat(np.arange(n_rows), sizes) * n_columns + features, return_counts=True)
        rows, columns = np.divmod(cells, n_columns)
        values = np.log1p(counts, dtype=np.float32) * importance[columns]
        values /= np.sqrt(np.bincount(rows, values**2, minlength=n_rows)).astype(np.float32)[rows]
        ends = np.searchsorted(rows, np.arange(n_rows), side="right")
        rows = np.insert(rows, ends, np.arange(n_rows))
        columns = np.insert(columns, ends, n_columns - 1)
        values = np.insert(values, ends, 1)
        by_column = np.argsort(columns, kind="stable")
        used_columns, column_starts = np.unique(columns[by_column], return_index=True)
        return FeatureMatrix(
            n_columns=n_columns,
            columns=columns,
            values=values,
            row_starts=np.searchsorted(rows, np.arange(n_rows)),
            rows_by_column=rows[by_column],
            values_by_column=values[by_column],
            used_columns=used_columns,
            column_starts=column_starts,
        )

    def times(self, weight: Array) -> Array:
        """X W: f32[n_rows, k] for `weight: f32[n_columns, k]`."""
        if not len(self.row_starts):
            return np.zeros((0, weight.shape[1]), weight.dtype)
        return np.add.reduceat(weight.take(self.columns, axis=0) * self.values[:, None], self.row_starts)

    def transposed_times(self, rows: Array) -> Array:
        """Xᵀ G: f32[n_columns, k] for `rows: f32[n_rows, k]`."""
        result = np.zeros((self.n_columns, rows.shape[1]), rows.dtype)
        if len(self.row_starts):
            products = rows.take(self.rows_by_column, axis=0) * self.values_by_column[:, None]
            result[self.used_columns] = np.add.reduceat(products, self.column_starts)
        return result
