"""An exception at any instruction of any recording path, which the user catches: the numbers are right, or it raises.

The exception is raised by a trace function before an instruction of the library, as a signal handler or another thread
would raise it. Then recording goes on with tensors from before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.errors import RecordingError
from autobatch.record.choice import compiled
from autobatch.record.context import checking, frozen, is_frozen, without_cells
from autobatch.record.tape import state
from tests import requested
from tests.instructions import breaking

MOST = requested.fewer(30)
"""Most instructions of a path at which an exception is raised, evenly chosen."""


class Model(nn.Module):
    """Something of every kind that a recording reads."""

    def __init__(self) -> None:
        self.w = ab.Parameter(np.linspace(-0.5, 0.5, 9).reshape(3, 3))
        self.b = ab.Parameter([0.1, -0.2, 0.3])
        self.table = nn.Embedding(5, 3)
        self.table.weight.value = np.linspace(-1.0, 1.0, 15).reshape(5, 3)

    @ab.cell
    def node(self, x: Any, scale: float) -> Any:
        return ab.tanh(x @ self.w) * scale

    @ab.cell
    def pair(self, left: Any, right: Any) -> Any:
        return ab.tanh(left[0] + right[1]), left[1] * right[0]

    @ab.cell
    def children(self, x: Any, hs: list[Any]) -> Any:
        return ab.tanh(x + ab.sum([h @ self.w for h in hs]))

    @ab.cell
    def word(self, index: int) -> Any:
        return ab.tanh(self.table[index])

    @ab.cell
    def noisy(self, x: Any) -> Any:
        return ab.dropout(x, 0.5)


PATHS: dict[str, Callable[[Model, Any], Any]] = {
    "tensor and tensor": lambda m, h: h + h,
    "tensor and parameter": lambda m, h: h * m.b,
    "tensor and number": lambda m, h: h * 2.5,
    "number and tensor": lambda m, h: 1.5 - h,
    "parameter and tensor": lambda m, h: m.b + h,
    "unary": lambda m, h: ab.sigmoid(h),
    "matmul": lambda m, h: h @ m.w,
    "row of a parameter": lambda m, h: m.table.weight[2] + h,
    "row of a layer": lambda m, h: m.table(3) + h,
    "label": lambda m, h: ab.cross_entropy(h, 1),
    "split and concat": lambda m, h: ab.concat(ab.split(h, 3)[::-1]),
    "general op": lambda m, h: ab.maximum(h, 0.1) ** 2,
    "sum of a list": lambda m, h: ab.sum([h, h * 2.0, h]),
    "mean of a list with a parameter": lambda m, h: ab.mean([h, m.b]),
    "views of rows": lambda m, h: ab.stack([h, m.b, h])[1:].sum(axis=0),
    "array": lambda m, h: h + np.array([1.0, 2.0, 3.0]),
    "tensor of an array": lambda m, h: ab.tensor([1.0, 2.0, 3.0]) * h,
    "shared row": lambda m, h: ab.stack([m.b, h])[0],
    "cell with a number": lambda m, h: m.node(h, 0.5),
    "cell with tuples": lambda m, h: m.pair((h, h), (h, h))[0],
    "cell with a list": lambda m, h: m.children(h, [h, h]),
    "cell without tensors": lambda m, h: m.word(4) + h,
    "cell with arrays": lambda m, h: m.children(np.ones(3, np.float32), [h]),
    "dropout": lambda m, h: ab.dropout(h, 0.5),
    "dropout in a cell": lambda m, h: m.noisy(h),
    "no gradient": lambda m, h: _constant(h),
    "derivative": lambda m, h: ab.grad(lambda x: (ab.tanh(x) * m.b).sum())(h),
    "map in a map": lambda m, h: ab.sum(ab.map(lambda k: h * k, [1.0, 2.0])),
}


def _constant(h: Any) -> Any:
    with ab.no_grad():
        return ab.tanh(h) * 2.0


def continued(m: Model, path: Callable[[Model, Any], Any], warm: bool, at: int) -> tuple[Any, int, bool]:
    """Record, break the path off, and go on with tensors from before; what is computed, or None if it raised."""
    ab.seed(1)
    seen, broken = 0, False

    def example(k: float) -> Any:
        nonlocal seen, broken
        h = ab.tanh(ab.tensor([0.1 * k, 0.2, 0.3]) @ m.w) * 1.0
        if warm:
            path(m, h)
        _, seen, broken = breaking(functools.partial(path, m, h), at) if k == 2.0 else (None, seen, broken)
        y = ab.tanh(h @ m.w) * 10.0
        return y, path(m, h), m.node(y, 2.0), ab.sum([y, h]), m.table(1) * h

    try:
        values = ab.evaluate(ab.map(example, [1.0, 2.0, 3.0]))
    except RecordingError:
        return None, seen, broken
    finally:
        assert state.builder is None and state.depth == 0 and state.training is True and state.frozen_tasks == 0
        assert checking.get() is None and not without_cells.get()
        # The first and the last instructions of a `with` statement's methods are beyond what any code can guard.
        assert path is PATHS["no gradient"] or not is_frozen()
        frozen.set(False)
    return values, seen, broken


@pytest.fixture(autouse=True)
def numpy_backend() -> Iterator[None]:
    with ab.backend("numpy"):
        yield


# An exception in a generator that is being closed is lost, as one in a finaliser is; the op has its value then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("warm", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("name", PATHS)
def test_exception_in_the_middle_of_an_op(name: str, warm: bool) -> None:
    path = PATHS[name]
    want, total, _ = continued(Model(), path, warm, -1)
    if compiled is not None and total <= 10:
        pytest.skip("in C, which nothing can interrupt")
    assert total > 10
    positions = np.unique(np.linspace(1, total, min(total, MOST)).astype(int)).tolist()
    # A draw that was broken off may have taken its number: the next one is another.
    draws = "dropout" in name
    n_broken = n_right = 0
    for at in positions:
        model = Model()
        got, _, broken = continued(model, path, warm, at)
        n_broken += broken
        if got is not None:
            n_right += 1
            for a, b in zip(got, want, strict=True):
                for k, (x, y) in enumerate(zip(a, b, strict=True)):
                    if not (draws and k == 1):
                        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6, err_msg=f"{name}, instruction {at}")
        again, _, _ = continued(model, path, warm, -1)  # nothing is left behind
        np.testing.assert_allclose(again[0][0], want[0][0], rtol=1e-5, atol=1e-6)
    assert n_broken > len(positions) // 2 or compiled is not None  # the usual path is in C
    assert n_right > 0
