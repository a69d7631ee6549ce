"""Every test starts from the same state: seed, backend and default dtype; random tests draw the same examples."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import autobatch as ab
from autobatch.base import jit
from autobatch.compile.host import workers
from autobatch.errors import AutobatchError
from autobatch.record.context import checking, flags, frozen, without_cells
from autobatch.record.tape import state
from autobatch.schedule.structures import Tape
from tests import requested
from tests.checked import check_stages
from tests.tapes import draw_tape, random_tapes

settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden texts")
    parser.addoption("--backend", choices=requested.NAMES, help="run on it what does not insist on another")
    parser.addoption("--deep", action="store_true", help="ten times as many random programs, and all tests compiled")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is to run in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("deep"):
        requested.go_deep()
    for function, _ in jit.BEGUN_EARLY:  # tests are of compiled functions, whatever is on disk
        function.patience = 0.0
    if "PYTEST_XDIST_WORKER" in os.environ:  # the other cores are taken
        pytest.MonkeyPatch().setattr(workers, "n_cores", lambda: 1)
    name = config.getoption("backend")
    if name is not None:
        try:
            requested.request(name)
        except AutobatchError as error:
            raise pytest.UsageError(f"--backend {name}: {error}") from error


@pytest.fixture
def update_golden(pytestconfig: pytest.Config) -> bool:
    """Whether golden texts are written instead of compared."""
    return bool(pytestconfig.getoption("update_golden"))


@pytest.fixture(autouse=True)
def checked_stages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The invariants of all stages hold after each of them, whatever a test runs."""
    if request.node.get_closest_marker("unchecked") is None:
        check_stages(monkeypatch)


@pytest.fixture(autouse=True)
def initial_state(request: pytest.FixtureRequest) -> Iterator[None]:
    # Hypothesis leaves a callback of the collector, in which Python swallows what a signal handler raises.
    gc.callbacks.clear()
    # What a failed test, or one that breaks off a block, left behind.
    state.tape, state.builder, state.frozen_tasks = None, None, 0
    np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
    flags.kept = flags.traced = False
    for mode, usual in ((frozen, False), (checking, None), (without_cells, False)):
        mode.set(usual)
    ab.seed(0)
    ab.set_default_dtype("float32")
    ab.set_backend(requested.backend(requested.usual(request.node)))
    yield
    ab.seed(0)
    ab.set_default_dtype("float32")
    ab.set_backend(requested.backend())


@pytest.fixture
def numpy_in_float64(initial_state: None) -> None:
    """Numbers of float64 by default, on NumPy unless a backend was requested; `initial_state` takes it back."""
    ab.set_backend(requested.backend("numpy"))
    ab.set_default_dtype("float64")


@pytest.fixture
def on_the_host(request: pytest.FixtureRequest) -> None:
    """For what looks at memory and launches of the host, whichever backend was requested."""
    ab.set_backend(requested.usual(request.node))


@pytest.fixture(scope="session")
def draw() -> Callable[[str, str], Tape]:
    """`draw(lines, roots)`: a tape from the lines that `tests/tapes.py` explains."""
    return draw_tape


@pytest.fixture(scope="session")
def tapes() -> st.SearchStrategy[Tape]:
    """Small tapes with views, lists, data, several results, empty values and dead nodes."""
    return random_tapes()
