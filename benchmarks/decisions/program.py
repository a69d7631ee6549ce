"""What a program of this folder is: one whose examples go on by values that they have computed.

`NAME.py` has the program as a user of autobatch writes it, for one example: a class `Model`, and `examples(n, seed)`,
which draws some. `NAME_torch.py` has the same in PyTorch, as a plain loop over examples: a class `Twin`, made from the
model's `state_dict()`. Both run one example and give its loss and its decisions:

    Model(**options).run(example) -> (loss, decisions)
    Twin(state, **options).run(example, rng) -> (loss, decisions)

The loss is a scalar, or None where nothing is trained. Decisions are lists and tuples of what the example chose and
computed beside the loss: numbers, arrays and tensors. `rng` draws the numbers that the model's first `ab.rng()` draws.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch.backends.transfer import to_host

SEED = 1
Outcome = tuple[Any, Any]
"""Loss of an example, or None, and its decisions."""
Gradients = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Program:
    """One program and its twin.

    file: of this folder, without ending; title: for tables
    n_examples: of a minibatch that is timed
    options: of the classes; method: what is called of model and twin
    teacher: method of the model that takes as much work without decisions of its own, where there is one
    trains: whether the loss leads to parameters
    """

    file: str
    title: str
    n_examples: int
    options: tuple[tuple[str, Any], ...] = ()
    method: str = "run"
    teacher: str | None = None
    trains: bool = True

    def examples(self, n: int, seed: int = 0) -> list[Any]:
        """n examples, drawn from this seed."""
        drawn: list[Any] = _module(self.file).examples(n, seed)
        return drawn

    def model(self) -> Any:
        """The model, always of the same initial parameters, in the default dtype."""
        ab.seed(SEED)
        return _module(self.file).Model(**dict(self.options))

    def twin(self, model: Any) -> Any:
        """The twin of a model, with its parameters. Raises ImportError where PyTorch is missing."""
        return _module(f"{self.file}_torch").Twin(model.state_dict(), **dict(self.options))

    def outcomes(self, model: Any, examples: Sequence[Any], batched: bool, method: str | None = None) -> list[Outcome]:
        """What the model makes of each example, with `loss` differentiated where the program trains."""
        ab.seed(SEED)
        for parameter in model.parameters():
            parameter.grad = None
        found = ab.map(getattr(model, method or self.method), examples, batched=batched)
        if self.trains:
            ab.sum([loss for loss, _ in found]).backward()
        evaluated: list[Outcome] = ab.evaluate(found)
        return evaluated

    def twins_outcomes(self, twin: Any, examples: Sequence[Any]) -> list[Outcome]:
        """The same of the twin, one example after the other."""
        ab.seed(SEED)
        generators = ab.map(lambda _: ab.rng(), examples)
        for weight in twin.weights.values():
            weight.grad = None
        run = getattr(twin, self.method)
        found: list[Outcome] = [run(example, rng) for example, rng in zip(examples, generators, strict=True)]
        if self.trains:
            sum(loss for loss, _ in found).backward()
        return found


def gradients_of(model: Any) -> Gradients:
    """Dense gradients under the names of the state dict, zeros where nothing arrived."""
    found = {}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        dense = gradient.to_dense() if hasattr(gradient, "to_dense") else gradient
        found[name] = np.zeros(parameter.shape) if dense is None else to_host(dense)
    return found


def _module(name: str) -> Any:
    return importlib.import_module(f"benchmarks.decisions.{name}")
