"""`pytest --backend NAME`: the backend that tests run on which do not insist on one; a missing one fails the session.

    numba, numpy   as users name them
    cupy           on a GPU
    stand-in       "cupy", its kernels compiled as C++ and run on the processor

Without the option a test runs on the backend that it names itself, else on "numpy" in the folders of `INTERPRETED`
and on "numba" in the others. `pytest --deep` runs them all on "numba", and ten times as many random programs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autobatch.backends.transfer import is_on_device, to_host

HERE = Path(__file__).parent
NAMES = ("numba", "numpy", "cupy", "stand-in")

INTERPRETED = (
    "benchmarks",
    "data",
    "engine",
    "expand",
    "ir",
    "map",
    "nn",
    "ops",
    "optim",
    "record",
    "schedule",
    "structured",
    "train",
)
"""Folders of tests that are not about compiled code, or name the backends themselves: on NumPy nothing is compiled,
which takes most of the time of a small test. Their tests marked `compiled` run on Numba."""

_chosen: list[str] = []
_deep: list[bool] = []


def request(name: str) -> None:
    """Choose a backend for the whole session. Raises where it is missing."""
    if name == "cupy":
        from autobatch.backends.cuda.cupy_missing import require_cupy

        require_cupy()
    elif name == "stand-in":
        from autobatch.backends.device import use_device
        from autobatch.errors import BackendError
        from tests.stand_in import kernels
        from tests.stand_in.session import stand_in

        if kernels.MISSING:
            raise BackendError(kernels.MISSING)
        use_device(stand_in())
    _chosen[:] = [name]


def go_deep() -> None:
    """Run more random programs, and compile whatever can be, in the whole session."""
    _deep[:] = [True]


def is_deep() -> bool:
    """Whether the session takes its time."""
    return bool(_deep)


def usual(test: pytest.Item) -> str:
    """The backend that a test starts with where none is requested."""
    is_interpreted = not _deep and any(test.path.is_relative_to(HERE / folder) for folder in INTERPRETED)
    return "numpy" if is_interpreted and test.get_closest_marker("compiled") is None else "numba"


def backend(usual: str = "numba") -> str:
    """The name for `ab.set_backend`: of the requested backend, or else the usual one."""
    name = _chosen[0] if _chosen else usual
    return "cupy" if name == "stand-in" else name


def backends(*usual: str) -> list[str]:
    """The backends of a test that runs on each of several: those, or the requested one alone."""
    return [backend()] if _chosen else list(usual)


def on_device() -> bool:
    """Whether tests run on a device, or on the stand-in for one."""
    return backend() == "cupy"


def fewer(n: int) -> int:
    """So many random programs; ten times as many with `--deep`, a twentieth on a device, where each is compiled."""
    return max(5, n // 20) if on_device() else 10 * n if _deep else n


def of_the_host(reason: str) -> pytest.MarkDecorator:
    """Marks a test that is about arrays of the host: left out on a device, with the reason."""
    return pytest.mark.skipif(on_device(), reason=f"of the host alone: {reason}")


def host(array: Any) -> Any:
    """An array as NumPy's, wherever it lives; anything else as it is."""
    if hasattr(array, "to_dense"):
        array = array.to_dense()
    return to_host(array) if is_on_device(array) else array
