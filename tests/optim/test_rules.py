"""Rules: NumPy, compiled loops and kernels of a device make the same of one declaration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.backends.cuda import HEADER
from autobatch.backends.device import use_device
from autobatch.optim.rules import rule_of
from autobatch.record.parameter import SparseRows
from tests import nvrtc
from tests.requested import host
from tests.stand_in import kernels
from tests.stand_in.device import StandIn

MAKERS: dict[str, Any] = {
    "SGD": lambda p: optim.SGD(p, 0.1),
    "SGD with momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: optim.Adam(p, 0.1, weight_decay=0.1),
    "AMSGrad": lambda p: optim.Adam(p, 0.1, betas=(0.5, 0.6), amsgrad=True, maximize=True),
    "AdamW": lambda p: optim.AdamW(p, 0.1, weight_decay=0.5),
    "NAdam": lambda p: optim.NAdam(p, 0.1),
    "RAdam": lambda p: optim.RAdam(p, 0.1, betas=(0.5, 0.9)),
    "RMSprop": lambda p: optim.RMSprop(p, 0.1, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, 0.1, lr_decay=0.1),
    "Adadelta": lambda p: optim.Adadelta(p),
    "Lion": lambda p: optim.Lion(p, 0.1, weight_decay=0.5),
}
STEPS = 7  # RAdam changes its rule before the last


def trained(name: str, backend: str) -> list[np.ndarray[Any, Any]]:
    """Parameters and state after some steps, a table with row-sparse gradients among them."""
    rng = np.random.default_rng(0)
    with ab.backend(backend):
        params = [ab.Parameter(rng.normal(size=shape)) for shape in ((3, 2), (), (5, 2))]
        optimizer = MAKERS[name](params)
        for step in range(STEPS):
            for p in params[:2]:
                p.grad = rng.normal(size=p.shape).astype(np.float32)
            rows = np.array([[0, 3], [4], [], [1, 2, 3]][step % 4], np.int64)
            values = rng.normal(size=(len(rows), 2)).astype(np.float32)
            params[2].grad = SparseRows(rows, values, (5, 2))
            optimizer.step()
        return [*(p.numpy() for p in params), *optimizer.state_dict().values()]


def programs(kind: str) -> list[str]:
    """The programs of all optimisers on "float" or "double"."""
    sources = []
    for make in MAKERS.values():
        optimizer = make([ab.Parameter([1.0])])
        [group], [state] = optimizer.param_groups, optimizer._state
        texts = {optimizer.rule(group, step) for step in range(1, STEPS + 1)}
        sources += [rule_of(text, "w", "g", *state).kernels[kind] for text in sorted(texts)]
    return sources


@pytest.fixture(scope="module")
def device() -> Iterator[None]:
    """A stand-in that has built all kernels at once."""
    if kernels.MISSING:
        pytest.skip(kernels.MISSING)
    sources = programs("float")
    kernels.build_together(sources)
    before = use_device(StandIn())
    yield
    use_device(before)


@pytest.mark.parametrize("name", MAKERS)
def test_compiled_loops_are_those_of_numpy(name: str) -> None:
    for ours, expected in zip(trained(name, "numba"), trained(name, "numpy"), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_kernels_are_those_of_numpy(name: str, device: None) -> None:
    for ours, expected in zip(trained(name, "cupy"), trained(name, "numpy"), strict=True):
        np.testing.assert_allclose(host(ours), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(bool(nvrtc.MISSING), reason=nvrtc.MISSING)
def test_kernels_become_machine_code() -> None:
    _, texts = kernels.distinct([*programs("float"), *programs("double")])
    code = nvrtc.compiled("\n".join([HEADER, *texts.values()]), nvrtc.FAST)
    assert all(name.encode() in code for name in texts)


def test_a_rule_names_what_it_reads_and_stores() -> None:
    rule = rule_of("\n  step = 2 * lr * sqrt(g * g + sum)\n\n  sum = sum + 1e-3\n  w = w - step", "w", "g", "sum")
    assert (rule.scalars, rule.stored) == (("lr",), ("w", "sum"))
    arrays = {"w": np.zeros(2), "g": np.array([3.0, 0.0]), "sum": np.array([16.0, 0.0])}
    w, total = rule.values(arrays, {"lr": np.float64(0.5)})
    np.testing.assert_allclose(w, [-5.0, 0.0])
    np.testing.assert_allclose(total, [16.001, 0.001])
    assert arrays["sum"][0] == 16.0
    text = rule.kernel_text("float")
    assert "const float* g_all, float* sum_all" in text and "const float c1_ = (float)0.001;" in text
