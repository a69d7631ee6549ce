"""Tests of the device side: on the stand-in, with one model, so that few kernels are built."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import autobatch as ab
from autobatch.backends.device import use_device
from tests.stand_in import kernels
from tests.stand_in.device import StandIn


@pytest.fixture
def device() -> Iterator[StandIn]:
    """The backend "cupy" on a stand-in of its own."""
    if kernels.MISSING:
        pytest.skip(kernels.MISSING)
    own = StandIn()
    before = use_device(own)
    ab.set_backend("cupy")
    yield own
    ab.set_backend("numba")
    use_device(before)
