"""A plugin of pytest for the check: `-p benchmarks.gpu.outcomes` keeps the outcome of each test as soon as it is there.

The file is named by the environment variable below. Tests that it has already are left out: a session that hung or
crashed is started again and goes on behind the test that broke it. A process ends in which a kernel faulted, or a test
takes too long.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.results import Results, is_ruined, leave, watched

VARIABLE = "AUTOBATCH_GPU_OUTCOMES"
MOST_SECONDS, MOST_SECONDS_OF_PROGRAMS = 60.0, 140.0  # of one test; random programs have many kernels each


class Outcomes:
    """What is written by the process that reports, and when a process that runs tests has to end."""

    def __init__(self, results: Results, reports: bool, runs: bool) -> None:
        self.results, self.reports, self.runs = results, reports, runs
        self.ruined = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what was begun before."""
        begun = self.results.begun_before
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in begun])
        items[:] = [item for item in items if item.nodeid not in begun]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        if self.reports:
            self.results.add(nodeid, begun=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """A test runs."""
        with watched(MOST_SECONDS_OF_PROGRAMS if "tests/programs/" in item.nodeid else MOST_SECONDS):
            return (yield)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Setup, call and teardown each report; those that passed setup or teardown say nothing."""
        text = "" if report.passed else str(report.longreprtext or report.longrepr)
        self.ruined = self.ruined or (report.failed and is_ruined(text))
        if self.reports and (report.when == "call" or not report.passed):
            self.results.add(report.nodeid, outcome=report.outcome, seconds=report.duration, traceback=text)

    def pytest_runtest_logfinish(self) -> None:
        """A test has ended, and been reported."""
        if self.ruined and self.runs:
            leave()

    def pytest_collectreport(self, report: Any) -> None:
        """A file that cannot be collected is a failure of its own."""
        if self.reports and report.failed:
            self.results.add(f"{report.nodeid} (collection)", outcome="failed", traceback=str(report.longreprtext))


def pytest_configure(config: pytest.Config) -> None:
    """With xdist workers run and the session that started them reports."""
    is_worker = hasattr(config, "workerinput")
    has_workers = not is_worker and bool(getattr(config.option, "numprocesses", None))
    results = Results(Path(os.environ[VARIABLE]))
    config.pluginmanager.register(Outcomes(results, reports=not is_worker, runs=not has_workers), "gpu-outcomes")
