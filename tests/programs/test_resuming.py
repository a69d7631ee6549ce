"""A run that is stopped, saved and resumed in another process equals one that was never stopped, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.data import minibatches
from autobatch.errors import RecordingError

EXAMPLES = [[float(k), float(k % 3), 1.0] for k in range(11)]


class Noisy(nn.Module):
    """Draws of every kind: masks, values, NumPy generators, and in its initial parameters."""

    def __init__(self) -> None:
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

    @ab.cell
    def hidden(self, x: Any) -> Any:
        return ab.dropout(ab.tanh(self.first(x)), 0.5)

    def loss(self, x: list[float]) -> Any:
        h = self.hidden(ab.tensor(x) + 0.1 * ab.normal(3))
        return ((ab.dropout(self.second(h), 0.2) - float(ab.rng().normal())) ** 2).sum()


class Run:
    """A model in training, and where it is."""

    def __init__(self) -> None:
        self.model = Noisy()
        self.optimizer = optim.Adam(self.model.parameters(), 0.05)
        self.batches = minibatches(EXAMPLES, 2, shuffle=True, seed=5)
        self.steps = 0

    def go(self, until: int, path: Path | None = None) -> None:
        """Train up to so many steps; then save in the middle of the epoch, if a path is given."""
        while True:
            for batch in self.batches:
                self.optimizer.zero_grad()
                (ab.mean(ab.map(self.model.loss, batch)) + 0.01 * ab.uniform()).backward()
                self.optimizer.step()
                self.steps += 1
                if self.steps == until:
                    if path is not None:
                        self.save(path)
                    return

    def parts(self) -> dict[str, dict[str, Any]]:
        parts = {"model": self.model, "optimizer": self.optimizer, "batches": self.batches}
        return {name: part.state_dict() for name, part in parts.items()} | {"random": ab.random_state()}  # type: ignore[attr-defined]

    def save(self, path: Path) -> None:
        ab.save(path, {f"{part}/{name}": x for part, state in self.parts().items() for name, x in state.items()})

    def load(self, path: Path, steps: int) -> None:
        parts: dict[str, dict[str, Any]] = {name: {} for name in ("model", "optimizer", "batches", "random")}
        for name, array in ab.load(path).items():
            part, _, inner = name.partition("/")
            parts[part][inner] = array
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.batches.load_state_dict(parts["batches"])
        ab.set_random_state(parts["random"])
        self.steps = steps

    def content(self) -> list[str]:
        after = [ab.normal(2).numpy(), nn.Linear(2, 2).weight.numpy(), np.array(ab.rng().integers(1 << 40))]
        return [np.asarray(x).tobytes().hex() for state in self.parts().values() for x in state.values()] + [
            x.tobytes().hex() for x in after
        ]


STOPS = (1, 4, 6, 9)  # an epoch has six minibatches


@pytest.mark.parametrize("stop", STOPS)
def test_a_resumed_run_equals_one_that_never_stopped(stop: int, tmp_path: Path) -> None:
    ab.seed(3)
    whole = Run()
    whole.go(14)
    want = whole.content()

    ab.seed(3)
    Run().go(stop, tmp_path / "half.safetensors")
    ab.seed(4)
    again = Run()
    again.load(tmp_path / "half.safetensors", stop)
    again.go(14)
    assert again.content() == want


def test_in_another_process(tmp_path: Path) -> None:
    ab.seed(3)
    Run().go(4, tmp_path / "half.safetensors")
    ab.seed(3)
    whole = Run()
    whole.go(9)
    code = """
import json, sys
from pathlib import Path
import tests.programs.test_resuming as here
run = here.Run()
run.load(Path(sys.argv[1]), 4)
run.go(9)
print(json.dumps(run.content()))
"""
    root = Path(__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "half.safetensors")], cwd=root, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr[-500:]
    assert json.loads(out.stdout) == whole.content()


def test_the_state_is_plain_numbers() -> None:
    ab.seed(1 << 63)
    ab.normal(2)
    saved = json.loads(json.dumps({name: x.tolist() for name, x in ab.random_state().items()}))
    want = [ab.normal(3).numpy().tolist(), nn.Linear(2, 1).weight.numpy().tolist()]
    ab.set_random_state(saved)
    assert [ab.normal(3).numpy().tolist(), nn.Linear(2, 1).weight.numpy().tolist()] == want
    ab.set_random_state(saved)
    ab.seed(1 << 63)
    ab.normal(2)
    assert ab.normal(3).numpy().tolist() == want[0]


def test_each_thread_restores_its_own_streams() -> None:
    found: list[Any] = []

    def other() -> None:
        saved = ab.random_state()
        first = ab.normal(2).numpy()
        ab.set_random_state(saved)
        found.append(np.array_equal(ab.normal(2).numpy(), first))
        found.append(first)

    ab.seed(0)
    mine = ab.normal(2).numpy()
    thread = threading.Thread(target=other, name="other")
    thread.start()
    thread.join()
    assert found[0] is True and not np.array_equal(found[1], mine)


@pytest.mark.parametrize("fault", [{}, {"seed": "x"}, {"generator": [1, 2]}, {"draws": None}])
def test_what_is_no_state_changes_nothing(fault: dict[str, Any]) -> None:
    before = ab.random_state()
    with pytest.raises(ValueError, match="no state of the random streams"):
        ab.set_random_state({**before, **fault} if fault else {})
    assert all(np.array_equal(x, before[name]) for name, x in ab.random_state().items())


def test_not_inside_a_map() -> None:
    for action in (ab.random_state, lambda: ab.set_random_state({})):
        with pytest.raises(RecordingError, match=r"inside ab\.map"):
            ab.map(lambda x, action=action: action(), [1])


def test_minibatches_that_were_left_go_on_with_the_next_epoch() -> None:
    batches = minibatches("abcde", 2)
    for _ in batches:
        break
    state = batches.state_dict()
    assert (int(state["epoch"]), int(state["given"])) == (1, 0)
    with pytest.raises(ValueError, match="expected batch_size=2, got batch_size=3"):
        minibatches("abcde", 3).load_state_dict(state)
    with pytest.raises(ValueError, match="does not fit"):
        batches.load_state_dict({"epoch": 0, "given": 9})
    with pytest.raises(ValueError, match="no state"):
        batches.load_state_dict({"epoch": 0})
