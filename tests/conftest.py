"""Every test starts from the same state: seed, backend and default dtype; random tests draw the same examples."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import autobatch as ab

settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def initial_state() -> Iterator[None]:
    ab.seed(0)
    ab.set_default_dtype("float32")
    ab.set_backend("numba")
    yield
    ab.seed(0)
    ab.set_default_dtype("float32")
    ab.set_backend("numba")
