"""A few fixed programs on every backend; most random ones run on NumPy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from tests import requested
from tests.programs.drawing import Example, Model, Program, Routine, Step, run
from tests.stand_in import kernels
from tests.stand_in.session import captured, on_stand_in

EXAMPLES = tuple(
    Example(words, label, (0.3, -0.8, 1.2, 0.1, -0.4), factor, 0)
    for words, label, factor in [((0, 1, 2), 0, 0.5), ((3,), 2, 1.5), ((4, 4), 1, -1.0), ((1, 0, 3, 2), 0, 2.0)]
)

DTYPES = {"numpy": ["float64"], "numba": ["float32"], "stand-in": ["float32"]}
"""One for each, so that few kernels are compiled: random programs are compiled in float64."""

ROUTINES: dict[str, Routine] = {
    "cells over children": Routine(
        (
            Step("lookup", (), (0,)),
            Step("cell children", (0,), (0,)),
            Step("cell gate", (1, 0), (0,)),
            Step("cell word", (), (1,)),
            Step("cell gate", (2, 3), (1,)),
            Step("cross_entropy", (4,)),
        ),
        (2, 5),
        (1, 4),
    ),
    "rows of varying length": Routine(
        (
            Step("words", (), ("stack",)),
            Step("parameter", (), ("matrix",)),
            Step("matmul", (0, 1)),
            Step("tanh", (2,)),
            Step("sum", (3,), (0,)),
            Step("mean", (3,), (0,)),
            Step("max", (2,), (0,)),
            Step("cell rows", (), (2,)),
            Step("softmax", (3,), (-1,)),
            Step("sum", (8,), (0,)),
        ),
        (4, 5, 6, 7, 9),
        (3,),
    ),
    "ranks 0 to 3": Routine(
        (
            Step("own", (), ((2, 3, 3),)),
            Step("parameter", (), ("cube",)),
            Step("mul", (0, 1)),
            Step("matmul", (2, 1)),
            Step("transpose", (3,), ((0, 2, 1),)),
            Step("softplus", (4,)),
            Step("mean", (5,), ((0, 1),)),
            Step("logsumexp", (6,), (-1,)),
            Step("factor", (5,)),
            Step("slice", (8,), (slice(None, None, -1),)),
        ),
        (6, 7, 9),
        (5,),
    ),
    "views and lists": Routine(
        (
            Step("lookup", (), (0,)),
            Step("parameter", (), ("vector",)),
            Step("own", (), ((3,),)),
            Step("stack", (0, 1, 2), (0,)),
            Step("stack", (2, 0, 0), (1,)),
            Step("pick", (3,), (True,)),
            Step("list", (3, 4, 3), ("mean",)),
            Step("concat", (5, 0), (0,)),
            Step("flat", (7,), (1,)),
            Step("split", (8,)),
            Step("data slice", (9,)),
            Step("dropout", (6,)),
            Step("list", (5, 9), ("max",)),
        ),
        (8, 10, 11, 12),
        (6,),
    ),
    "derivatives inside": Routine(
        (
            Step("cell word", (), (0,)),
            Step("inner grad", (0,)),
            Step("inner grad of list", (0, 1)),
            Step("inner grad of parameter", (2,)),
            Step("inner grad of cell", (2,)),
        ),
        (1, 3, 4),
        (2,),
    ),
    "a decision": Routine(
        (
            Step("lookup", (), (0,)),
            Step("tanh", (0,)),
            Step("force", (1,)),
            Step("squared_error", (2,)),
            Step("no_grad", (2,)),
        ),
        (3, 4),
        (2,),
    ),
}


@pytest.mark.parametrize(
    ("dtype", "backend"),
    [
        (dtype, backend)
        for backend in requested.backends("numpy", "numba", "stand-in")
        for dtype in DTYPES.get(backend, ["float32", "float64"])
    ],
)
@pytest.mark.parametrize("name", ROUTINES)
def test_batched_equals_loop(name: str, dtype: str, backend: str) -> None:
    ab.set_default_dtype(dtype)
    program = Program((ROUTINES[name],), EXAMPLES)
    tolerances = (1e-10, 1e-8) if dtype == "float64" else (1e-5, 1e-4)
    with _on(backend, program):
        model = Model()
        (values, gradients), (expected, wanted) = (_outcome(program, model, batched) for batched in (True, False))
    for a, b in zip(values, expected, strict=True):
        assert np.abs(a - b).max(initial=0.0) <= tolerances[0] * (1 + np.abs(b).max(initial=0.0))
    for a, b in zip(gradients, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert np.abs(a - b).max() <= tolerances[1] * (1 + np.abs(b).max())


@contextlib.contextmanager
def _on(backend: str, program: Program) -> Iterator[None]:
    """Run on a backend; on the stand-in with all kernels built at once."""
    if backend != "stand-in":
        with ab.backend(backend):
            yield
        return
    if kernels.MISSING:
        pytest.skip(kernels.MISSING)
    with captured() as programs, ab.backend("numpy"):
        _outcome(program, Model(), True)
    kernels.build_together([made.source for made in programs])
    with on_stand_in():
        yield


def _outcome(program: Program, model: Model, batched: bool) -> tuple[list[Any], list[Any]]:
    ab.seed(3)
    for p in model.parameters():
        p.grad = None
    results = ab.map(lambda e: run(program.routines[0], model, e), program.examples, batched=batched)
    ab.mean([loss for loss, _ in results]).backward()
    values = [np.asarray(v) for loss, returned in ab.evaluate(results) for v in (loss, *returned)]
    gradients = [requested.host(p.grad) for p in model.parameters()]
    return values, gradients
