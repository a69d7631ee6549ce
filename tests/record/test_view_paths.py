"""Fast paths of views give what NumPy gives, and leave all else to the general path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.errors import OpIndexError, OpTypeError
from tests import requested

ROWS = np.arange(24.0).reshape(4, 6)

SAME: list[Callable[[Any], Any]] = [
    lambda x: x[2],
    lambda x: x[-1],
    lambda x: x[True],
    lambda x: x[np.int64(1)],
    lambda x: x[1:3],
    lambda x: x[:],
    lambda x: x[3:1],
    lambda x: x[::-2],
    lambda x: x[-3 : np.int64(4)],
    lambda x: x[[0, -1, 0]],
    lambda x: x[[]],
    lambda x: x[[True, False, True, True]],
    lambda x: x[np.array([3, -4], np.int8)],
    lambda x: x[np.array([[3], [0]])],
    lambda x: x[np.array([3, 0], np.uint64)],
    lambda x: x[np.zeros(0, int)],
    lambda x: x.reshape(4, 2, 3),
    lambda x: x.reshape((4, 3, 2)),
    lambda x: x.reshape([4, 6]),
    lambda x: x.reshape(4, -1, 2),
    lambda x: x.reshape(2, 12),
    lambda x: x.reshape(4, 2, 3)[1:].reshape(3, 6)[1],
]


@pytest.mark.parametrize("backend", requested.backends("numpy"))
def test_as_numpy(backend: str) -> None:
    with ab.backend(backend):
        h = ab.tensor(ROWS) * 1.0
        for number, way in enumerate(SAME):
            if number == 2:
                with pytest.raises(OpTypeError):
                    way(h)
                continue
            found, wanted = way(h), way(ROWS)
            assert found.shape == wanted.shape, number
            np.testing.assert_array_equal(np.asarray(found), wanted)


def test_what_is_wrong_raises_at_its_line() -> None:
    h = ab.tensor(ROWS) * 1.0
    calls: list[tuple[type[Exception], Callable[[], Any]]] = [
        (OpIndexError, lambda: h[4]),
        (OpIndexError, lambda: h[[0, -5]]),
        (OpIndexError, lambda: h[np.array([4])]),
        (OpTypeError, lambda: h[1.0:]),
        (OpTypeError, lambda: h.reshape(4, 5)),
        (OpTypeError, lambda: h.reshape(4, 2.0, 3)),
        (OpTypeError, lambda: ab.reshape(h, (4, -1, -1))),
        (OpIndexError, lambda: ab.tensor(1.0)[0]),
    ]
    for kind, call in calls:
        with pytest.raises(kind, match=r"test_view_paths\.py"):
            call()
    with pytest.raises(ValueError, match="zero"):
        h[::0]


def test_stacks_as_numpy() -> None:
    h = ab.tensor(ROWS) * 1.0
    for parts in ([2, 0, 2], [1]):
        for axis in (0, 1, -1):
            found = ab.stack([h[k] for k in parts], axis)
            np.testing.assert_array_equal(np.asarray(found), np.stack([ROWS[k] for k in parts], axis))
    np.testing.assert_array_equal(np.asarray(ab.stack([h[0], ROWS[1]])), ROWS[:2])
    np.testing.assert_array_equal(np.asarray(ab.stack([h[:2], h[2:]])), ROWS.reshape(2, 2, 6))
    for wrong in ([h[0], h[0].reshape(2, 3)], [h[0], None], []):
        with pytest.raises(OpTypeError, match=r"test_view_paths\.py"):
            ab.stack(wrong)


@pytest.mark.parametrize("backend", requested.backends("numpy", "numba"))
def test_gradients_stop_where_no_grad_begins(backend: str) -> None:
    """A view under no_grad shares rows with what was recorded before, and not their gradients."""
    ab.set_default_dtype("float64")
    w = ab.Parameter(ROWS)

    def one(k: int) -> Any:
        h = w * ab.tensor(float(k))
        with ab.no_grad():
            old = [h[1], h[1:3][0], h[[1, 0]][0], h.reshape(4, 2, 3).reshape(4, 6)[1]]
            fresh = ab.tanh(h)
            new = [fresh[1], fresh[[1, 1]][1], ab.stack([h[1], fresh[1]])[0] * 0.0]
        return ab.sum([*old, *new, h[1], h[[1, 1]].sum(axis=0)]).sum()

    with ab.backend(backend):
        found = []
        for batched in (True, False):
            w.grad = None
            losses = ab.map(one, [1, 2], batched=batched)
            ab.sum(losses).backward(retain=True)
            found.append([*ab.evaluate(losses), requested.host(w.grad)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b)
    np.testing.assert_array_equal(found[0][2], 9.0 * (np.arange(4) == 1)[:, None] * np.ones((4, 6)))


def test_views_of_earlier_values_and_in_cells() -> None:
    ab.set_default_dtype("float64")
    w = ab.Parameter(ROWS)
    cell = ab.cell(lambda h: h[1] + h[[0, -1]][1] + h.reshape(4, 2, 3)[2].reshape(6) + h[1:3][0])

    def one(k: int) -> Any:
        h = ab.tanh(w * ab.tensor(0.1 * k))
        n = int(h.sum() * 0.0)  # what follows is recorded later
        return (h[n] * h[[n, 1]][1] + cell(h) + h[1:].sum(axis=0) + h.reshape(4, 3, 2)[n].reshape(6)).sum()

    found = []
    for batched in (True, False):
        w.grad = None
        losses = ab.map(one, [1, 2, 3], batched=batched)
        ab.sum(losses).backward(retain=True)
        found.append([*ab.evaluate(losses), requested.host(w.grad)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
