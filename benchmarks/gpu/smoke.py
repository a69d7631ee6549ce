"""Small programs on the device beside NumPy on the host: each sample of each op, every model of the benchmarks, and the
first block of the README. What is held equal is values and gradients, or losses and what training made of parameters.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from benchmarks.workload import CELLS, CELLS_REUSED, WORKLOADS, load

ROOT = Path(__file__).parent.parent.parent
EXAMPLES, DIM, STEPS = 6, 16, 4
TOLERANCE = 2e-4
TREES = "(3 (2 a) (3 (3 good) (2 film)))\n(1 (1 (1 dull) (2 (2 and) (1 long))) (2 film))\n(2 long)\n"

Check = Callable[[], dict[str, Any] | None]


def checks() -> Iterator[tuple[str, Check]]:
    """All of them, by name; those that say most come first."""
    yield "README", readme
    for name in WORKLOADS:
        yield f"gradients of {name}", lambda name=name: gradients(name)
    for name in WORKLOADS:
        yield f"steps of {name}, reused", lambda name=name: steps(name)
    yield from op_samples()


def op_samples() -> Iterator[tuple[str, Check]]:
    """Each sample of each op that can be recorded: by itself in every example, and with all arrays shared."""
    from tests.ops.checks import GOOD, check_batched, masks

    for case in GOOD:
        if case.op.batch != "batched" and case.op.name != "spread":
            first, *_, last = [*masks(case.sample), ()]
            for shared in dict.fromkeys((first, last or masks(case.sample)[-1])):

                def check(case: Any = case, shared: Any = shared) -> None:
                    check_batched(case.op, case.sample, EXAMPLES, shared, "float32", "cupy")

                yield f"op {case}, {sum(shared)} shared", check


def gradients(name: str) -> dict[str, Any]:
    """Loss and gradients of one minibatch."""
    workload = load(name)

    def found(backend: str) -> tuple[float, dict[str, np.ndarray]]:
        with ab.backend(backend):
            trainer = workload.trainers[CELLS](workload.parameters(DIM), DIM)
            return trainer.loss_and_gradients(workload.examples()[:EXAMPLES])

    (loss, here), (expected, there) = found("cupy"), found("numpy")
    near(loss, expected, "loss")
    for key, gradient in there.items():
        near(here[key], gradient, f"gradient of {key}")
    return {"loss": loss}


def steps(name: str) -> dict[str, Any]:
    """Losses of training steps on minibatches that come again."""
    workload = load(name)

    def found(backend: str) -> list[float]:
        with ab.backend(backend):
            trainer = workload.trainers[CELLS_REUSED](workload.parameters(DIM), DIM)
            few = workload.examples()[:EXAMPLES]
            return [trainer.step(few) for _ in range(STEPS)]

    losses = found("cupy")
    near(losses, found("numpy"), "losses")
    return {"losses": losses}


def readme() -> dict[str, Any]:
    """The first block of the README, as it stands there."""
    block = re.search(r"^```python\n(.*?)^```\n", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    code = compile(block[1], "README.md", "exec")

    def found(backend: str) -> tuple[float, dict[str, Any]]:
        scope: dict[str, Any] = {"__name__": "readme"}
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), ab.backend(backend):
            Path("train.txt").write_text(TREES, "utf-8")
            ab.seed(0)
            exec(code, scope)
            return float(scope["loss"]), scope["model"].state_dict()

    (loss, here), (expected, there) = found("cupy"), found("numpy")
    near(loss, expected, "loss")
    for key, value in there.items():
        near(here[key], value, key)
    return {"loss": loss}


def near(found: Any, expected: Any, what: str) -> None:
    """Raise where the two differ by more than rounding explains, measured by the largest number that is expected."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    if not np.isfinite(a).all():
        raise AssertionError(f"{what}: {int((~np.isfinite(a)).sum())} of {a.size} numbers are not finite")
    worst, scale = float(np.abs(a - b).max(initial=0.0)), float(np.abs(b).max(initial=0.0))
    assert worst <= TOLERANCE * scale, f"{what}: differs by {worst:.3g}, the largest number is {scale:.3g}"
