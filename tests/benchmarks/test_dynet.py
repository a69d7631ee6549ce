"""DyNet as a peer: its process answers, fails and ends as it should, and it computes the same as autobatch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.dynet_peer import DynetMissing, DynetTrainer, dynet_trainer, environment
from benchmarks.workload import CELLS, WORKLOADS, load

FAKE = Path(__file__).with_name("fake_dynet_server.py")
FAIL, END, TAKE_LONG = 100, 101, 102  # orders that the fake process takes
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
W = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


def sentence(*words: int) -> SimpleNamespace:
    return SimpleNamespace(words=list(words), tags=[0] * len(words))


EXAMPLES = [sentence(1), sentence(2, 3), sentence(FAIL), sentence(END), sentence(TAKE_LONG)]


@pytest.fixture
def fake() -> Iterator[DynetTrainer]:
    trainer = DynetTrainer([sys.executable, str(FAKE)], "bilstm", {"w": W}, 2, EXAMPLES, 1)
    yield trainer
    trainer.close()


def ended(pid: int) -> bool:
    """Whether the process has ended, or does so soon."""
    for _ in range(200):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_steps_and_gradients(fake: DynetTrainer) -> None:
    assert fake.step(EXAMPLES[:2]) == W.sum() * 6
    assert fake.step([EXAMPLES[1], EXAMPLES[1]]) == (W + 1).sum() * 10
    loss, gradients = fake.loss_and_gradients(EXAMPLES[:1])
    assert loss == (W + 2).sum()
    np.testing.assert_array_equal(gradients["w"], np.ones((2, 2), np.float32))


def test_an_error_in_the_process_is_told_and_survived(fake: DynetTrainer) -> None:
    with pytest.raises(RuntimeError, match=r"step failed in its process[^$]*ArithmeticError: asked to fail"):
        fake.step([EXAMPLES[2]])
    assert fake.step(EXAMPLES[:1]) == W.sum()


def test_the_end_of_the_process_is_told(fake: DynetTrainer) -> None:
    with pytest.raises(RuntimeError, match=r"ended with status 7\nlast words"):
        fake.step([EXAMPLES[3]])
    with pytest.raises(RuntimeError, match="was closed"):
        fake.step(EXAMPLES[:1])


def test_foreign_examples_are_refused(fake: DynetTrainer) -> None:
    with pytest.raises(ValueError, match="not made with"):
        fake.step([sentence(1)])


@needs_proc
def test_the_process_ends_with_its_trainer() -> None:
    trainer = DynetTrainer([sys.executable, str(FAKE)], "bilstm", {"w": W}, 2, EXAMPLES, 1)
    pid = trainer.process.pid
    del trainer
    assert ended(pid)


@needs_proc
def test_the_process_ends_on_an_interrupt(fake: DynetTrainer) -> None:
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        fake.step([EXAMPLES[4]])
    assert ended(fake.process.pid)


@needs_proc
def test_the_process_ends_when_its_parent_is_killed() -> None:
    program = (
        "import sys, time, numpy\n"
        "from benchmarks.dynet_peer import DynetTrainer\n"
        f"trainer = DynetTrainer([sys.executable, {str(FAKE)!r}], 'bilstm', {{'w': numpy.ones(1)}}, 1, [], 1)\n"
        "print(trainer.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = str(FAKE.parents[2])
    environ = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root, env=environ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ended(pid)


def test_missing_is_an_import_error_with_a_repair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    monkeypatch.setattr(environment, "DIRECTORY", tmp_path)
    with pytest.raises(ImportError, match=r"repair: python -m benchmarks\.dynet_peer install"):
        environment.interpreter()


def test_an_interpreter_that_is_asked_for_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "python"))
    with pytest.raises(FileNotFoundError, match=environment.VARIABLE):
        environment.interpreter()


def test_installing_says_which_python_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "VERSIONS", ("3.0",))
    with pytest.raises(DynetMissing, match=r"no fitting Python\n  expected one of the versions 3\.0"):
        environment.install(tmp_path)


@pytest.mark.parametrize("name", [name for name in WORKLOADS if load(name).dynet])
def test_agrees_with_autobatch(name: str) -> None:
    try:
        environment.interpreter()
    except DynetMissing as missing:
        pytest.skip(str(missing))
    workload = load(name)
    assert workload.dynet is not None
    examples, dim = workload.examples()[:24], workload.dims[0]
    parameters = workload.parameters(dim)
    dynet = dynet_trainer(workload.dynet, parameters, dim, examples)
    ours = workload.trainers[CELLS](parameters, dim)
    loss, gradients = dynet.loss_and_gradients(examples[:8])
    expected_loss, expected = ours.loss_and_gradients(examples[:8])
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert gradients.keys() == expected.keys() == parameters.keys()
    for key, gradient in expected.items():
        assert np.abs(gradients[key] - gradient).max() <= 1e-4 * np.abs(gradient).max(), key
    batches = [examples[k : k + 8] for k in (0, 8, 16)]
    np.testing.assert_allclose([dynet.step(b) for b in batches], [ours.step(b) for b in batches], rtol=1e-4)
    dynet.close()
