"""HTML for notebooks: small tables, which take the colours of the page that they stand in."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .types import Array

SHOWN = 8
"""Most rows and columns of an array."""


def table(rows: Iterable[Sequence[object]], heads: Sequence[str] = (), numbers: int | None = None) -> str:
    """Rows of text; those from column `numbers` on are aligned as numbers."""

    def cells(row: Sequence[object], tag: str) -> str:
        side = ["left" if numbers is None or k < numbers else "right" for k in range(len(row))]
        parts = zip(row, side, strict=True)
        return "".join(f'<{tag} style="text-align:{s}">{html.escape(str(x))}</{tag}>' for x, s in parts)

    head = f"<thead><tr>{cells(heads, 'th')}</tr></thead>" if heads else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"


def array_table(array: Array) -> str:
    """The numbers of a vector or matrix, those in the middle left out where they are many; of any other its text."""
    if array.ndim not in (1, 2) or array.size == 0:
        return f"<pre>{html.escape(np.array2string(array, threshold=64, precision=4))}</pre>"
    matrix = array.reshape(-1, array.shape[-1])
    columns = _some(matrix.shape[1])
    rows = [["…" if i is None or j is None else _number(matrix[i, j]) for j in columns] for i in _some(len(matrix))]
    return table(rows, numbers=0)


def card(title: str, lines: Sequence[str], array: Array | None) -> str:
    """A heading, lines of text, and numbers where there are any."""
    text = "<br>".join(html.escape(line) for line in lines if line)
    return f"<div><strong>{html.escape(title)}</strong><br>{text}{'' if array is None else array_table(array)}</div>"


def _some(n: int) -> list[int | None]:
    half = SHOWN // 2
    return [*range(n)] if n <= SHOWN else [*range(half), None, *range(n - half, n)]


def _number(x: Any) -> str:
    return f"{x:.4g}" if isinstance(x, np.floating) else str(x)
