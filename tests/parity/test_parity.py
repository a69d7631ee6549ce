"""This library beside PyTorch: against kept results always, and against PyTorch itself where it is installed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import autobatch as ab
from tests import requested

from .cases import Array, Arrays
from .library import LIBRARY
from .make import ALL, KEPT, REPAIR, Compared, by_torch, flat, taken
from .networks import NETWORKS

VALUES, GRADIENTS, SINGLE = 1e-10, 1e-8, 1e-5
"""Largest difference, relative to the largest number of an array where that is more than 1: of values, of what was
differentiated or stepped, and in float32."""
INTERPRETED = (*LIBRARY, *NETWORKS)
"""Cases that run on NumPy alone: what they are made of is compiled in the others."""
SEVERAL = [case for case in ALL if case not in INTERPRETED][:: len(ALL) // 7]


@pytest.fixture(scope="module")
def kept() -> dict[str, Array]:
    found: dict[str, Array] = {}
    for path in KEPT:
        with np.load(path) as file:
            found |= file
    return found


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    ab.set_default_dtype("float64")
    yield
    ab.set_default_dtype("float32")


def compare(case: Compared, ours: Arrays, theirs: Array) -> None:
    """All results of a case equal those of PyTorch, which lie one behind the other."""
    assert flat(ours).size == theirs.size, f"{case} has {flat(ours).size} results, PyTorch {theirs.size}; {REPAIR}"
    at = 0
    for name, x in ours.items():
        expected = theirs[at : at + x.size].reshape(x.shape)
        at += x.size
        bound = SINGLE if x.dtype == np.float32 else VALUES if name.startswith("value") else GRADIENTS
        assert np.isfinite(expected).all(), f"{case}: {name}"
        difference = np.abs(x - expected).max(initial=0.0)
        assert difference <= bound * max(1.0, np.abs(expected).max(initial=0.0)), f"{case}: {name}\n{x}\n{expected}"


@pytest.mark.parametrize(
    ("case", "backend"),
    [
        (case, backend)
        for case in ALL
        for backend in requested.backends("numpy", *(() if case in INTERPRETED else ("numba",)))
    ],
    ids=str,
)
def test_equals_what_pytorch_gave(case: Compared, backend: str, kept: dict[str, Array]) -> None:
    with ab.backend(backend):
        ours = case.by_us(taken(case, kept[f"{case} in"]))
    compare(case, ours, kept[f"{case} out"])


@pytest.mark.parametrize("case", ALL, ids=str)
def test_pytorch_still_gives_it(case: Compared, kept: dict[str, Array]) -> None:
    torch = pytest.importorskip("torch")
    compare(case, by_torch(torch, case, kept[f"{case} in"]), kept[f"{case} out"])


def test_what_is_kept_is_of_these_cases(kept: dict[str, Array]) -> None:
    assert len({str(case) for case in ALL}) == len(ALL)
    assert set(kept) == {"made_by"} | {f"{case} {way}" for case in ALL for way in ("in", "out")}, REPAIR


@pytest.mark.parametrize("case", SEVERAL, ids=str)
def test_one_wrong_number_is_seen(case: Compared, kept: dict[str, Array]) -> None:
    ours = case.by_us(taken(case, kept[f"{case} in"]))
    right = kept[f"{case} out"]
    compare(case, ours, right)
    for at in (0, right.size // 2, right.size - 1):
        wrong = right.copy()
        wrong[at] += 1e-4 * max(1.0, abs(wrong[at]))
        with pytest.raises(AssertionError, match=str(case)):
            compare(case, ours, wrong)
