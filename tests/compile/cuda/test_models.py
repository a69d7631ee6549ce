"""The golden programs and the models of the benchmarks on the stand-in for a device: values and gradients are those of
the "numpy" backend, and what it ran is compiled by NVRTC for a GPU.

All kernels are built at once, which takes a fraction of the time: each program runs on NumPy first, which shows what it
will need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.backends.cuda import HEADER
from benchmarks.workload import CELLS, NO_CELLS, WORKLOADS, load
from tests import nvrtc
from tests.explain.test_explain import PROGRAMS
from tests.requested import host
from tests.stand_in import kernels
from tests.stand_in.session import captured, on_stand_in

DIM, BATCH = 6, 3
TOLERANCE = 1e-4
Numbers = dict[str, Any]

needs_compiler = pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)


def golden(program: Callable[[], Any]) -> Callable[[], Numbers]:
    """Values of a golden program, and gradients of the sum of their squares."""

    def run() -> Numbers:
        made: list[ab.Parameter] = []
        original = ab.Parameter.__init__

        def noted(self: Any, *arguments: Any, **named: Any) -> None:
            original(self, *arguments, **named)
            made.append(self)

        ab.seed(0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ab.Parameter, "__init__", noted)
            result = program()
        values = result if isinstance(result, list) else [result]
        numbers = {f"value {k}": v for k, v in enumerate(ab.evaluate(values))}
        if made:
            ab.sum([(v * v).sum() for v in values]).backward()
        return numbers | {f"gradient {k}": host(p.grad) for k, p in enumerate(made)}

    return run


def model(workload: str, name: str) -> Callable[[], Numbers]:
    """Loss and gradients of a model, and the losses of two steps."""

    def run() -> Numbers:
        chosen = load(workload)
        examples = chosen.examples()[:BATCH]
        trainer = chosen.trainers[name](chosen.parameters(DIM), DIM)
        loss, gradients = trainer.loss_and_gradients(examples)
        return {"loss": loss, **gradients, "steps": [trainer.step(examples) for _ in range(2)]}

    return run


RUNS: dict[str, Callable[[], Numbers]] = {
    **{program.__name__: golden(program) for program in PROGRAMS},
    **{f"{workload}, {name}": model(workload, name) for workload in WORKLOADS for name in (CELLS, NO_CELLS)},
}


@dataclass(frozen=True)
class Outcome:
    """Numbers of every run on NumPy and on the stand-in, or what it raised there; sources of all that ran there."""

    wanted: dict[str, Numbers]
    found: dict[str, Numbers | Exception]
    sources: list[str]


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    wanted: dict[str, Numbers] = {}
    found: dict[str, Numbers | Exception] = {}
    with captured() as programs, ab.backend("numpy"):
        for name, run in RUNS.items():
            wanted[name] = run()
    kernels.build_together([program.source for program in programs])
    with on_stand_in() as device:
        for name, run in RUNS.items():
            found[name] = tried(run)
    return Outcome(wanted, found, list(device.sources))


def tried(run: Callable[[], Numbers]) -> Numbers | Exception:
    """What it computes or raises."""
    try:
        return run()
    except Exception as error:
        return error


@needs_compiler
@pytest.mark.parametrize("name", RUNS)
def test_a_device_computes_what_numpy_computes(name: str, outcome: Outcome) -> None:
    agree(outcome.found[name], outcome.wanted[name])


def agree(found: Numbers | Exception, wanted: Numbers) -> None:
    """Raise unless the same numbers were found, within rounding."""
    if isinstance(found, Exception):
        raise found
    assert found.keys() == wanted.keys()
    for key, expected in wanted.items():
        actual, expected = np.asarray(found[key]), np.asarray(expected)
        assert actual.shape == expected.shape and actual.dtype == expected.dtype, key
        assert np.abs(actual - expected).max(initial=0.0) <= TOLERANCE * (1 + np.abs(expected).max(initial=0.0)), key


@needs_compiler
@pytest.mark.skipif(bool(nvrtc.MISSING), reason=nvrtc.MISSING)
def test_what_ran_there_compiles_for_a_gpu(outcome: Outcome) -> None:
    _, texts = kernels.distinct(outcome.sources)
    code = nvrtc.compiled("\n".join([HEADER, *texts.values()]), nvrtc.FAST)
    assert len(texts) > 200
    assert all(f".text.{name}\0".encode() in code for name in texts)
