"""What cannot be differentiated: `backward` says why."""

from __future__ import annotations

from typing import Any

import pytest

import autobatch as ab
from autobatch.errors import OpTypeError, RecordingError


def frozen(w: ab.Parameter) -> Any:
    with ab.no_grad():
        return (w * ab.tensor([1.0, 2.0])).sum()


CONSTANT = {
    "an array": (lambda w: ab.tensor(1.0), "host input"),
    "computed from arrays": (lambda w: ab.tensor(1.0) * 2.0, "arrays or detached values alone"),
    "detached": (lambda w: (w * ab.tensor(1.0)).sum().detach(), "it is detached"),
    "computed from detached": (lambda w: (w.detach() * ab.tensor(1.0)).sum(), "arrays or detached values alone"),
    "under no_grad": (frozen, "under no_grad"),
    "a constant": (lambda w: ab.ones(()), "computed from constants"),
    "of constants": (lambda w: ab.ones(2).sum() * 2.0, "computed from constants"),
    "a detached parameter": (lambda w: w.detach().sum(), "computed from constants"),
    "mapped": (lambda w: ab.sum(ab.map(lambda x: ab.tensor(x) * 2.0, [1.0, 2.0])), "arrays or detached values alone"),
}


@pytest.mark.parametrize(("value", "why"), CONSTANT.values(), ids=CONSTANT)
def test_no_parameter_leads_to_it(value: Any, why: Any) -> None:
    w = ab.Parameter([1.0, 2.0])
    with pytest.raises(RecordingError, match=f"no parameter leads to the value: .*{why}(.|\n)*test_backward.py"):
        value(w).backward()
    assert w.grad is None


def test_a_value_carried_over_from_an_earlier_recording() -> None:
    w = ab.Parameter([1.0, 2.0])
    constant, leads = ab.tensor(2.0) * 3.0, (w * ab.tensor([1.0, 1.0])).sum()
    float(constant)
    with pytest.raises(RecordingError, match="no parameter leads"):
        (constant * ab.tensor(1.0)).backward()
    (leads * ab.tensor(1.0)).backward()
    assert w.grad.tolist() == [1.0, 1.0]


def test_a_whole_number() -> None:
    with pytest.raises(OpTypeError, match="floating"):
        (ab.Parameter([1.0]) > 0.5).sum().backward()


def test_a_gradient_that_is_zero_everywhere_is_none_of_these() -> None:
    w = ab.Parameter([1.0, 2.0])
    (w * ab.tensor([0.0, 0.0])).sum().backward()
    assert w.grad.tolist() == [0.0, 0.0]
    table = ab.Parameter([[1.0, 2.0]])
    ab.sum(ab.map(lambda i: table[i].sum() * 0.0, [0])).backward()
    assert table.grad.to_dense().tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("batched", [True, False])
def test_what_only_a_detached_value_leads_to_has_no_gradient(batched: Any) -> None:
    """Also where something else leads to it, in the same launches, that is not reversed now."""
    a, b = ab.Parameter([1.0, 2.0]), ab.Parameter([3.0, 4.0])
    h = ab.map(lambda k: a * k, [2.0], batched=batched)[0]
    first, second = (h.detach() * b).sum(), (h * b).sum()
    first.backward(retain=True)
    assert a.grad is None
    assert b.grad.tolist() == [2.0, 4.0]
    second.backward()
    assert a.grad.tolist() == [6.0, 8.0]  # type: ignore[attr-defined]
