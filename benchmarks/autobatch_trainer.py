"""The training program of a model written for autobatch, the same for every workload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import autobatch as ab
from autobatch import optim
from autobatch.backends.transfer import to_host
from benchmarks.adam import BETA1, BETA2, EPSILON, LEARNING_RATE
from benchmarks.workload import Parameters


class Model(Protocol):
    """What a model has beside being an `nn.Module`."""

    def parameters(self) -> Any:
        """All parameters, as `nn.Module` finds them."""

    def loss(self, example: Any) -> ab.Tensor:
        """The loss of one example, a scalar."""

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload; a model without this method has them under its own."""


def named(model: Model) -> dict[str, ab.Parameter]:
    """The parameters of a model, under the names that its peers have for them."""
    if hasattr(model, "named"):
        return model.named()
    return dict(model.named_parameters())


def assign(model: Model, parameters: Parameters) -> None:
    """Give a model its starting point."""
    for name, parameter in named(model).items():
        parameter.value = parameters[name]


class AutobatchTrainer:
    """A trainer as `benchmarks.workload` has it. `batched` and `reuse` are what `ab.map` is called with."""

    def __init__(self, name: str, model: Model, batched: bool = True, reuse: bool = False) -> None:
        self.name, self.model = name, model
        self.options: dict[str, bool] = {} if batched else {"batched": False}
        if reuse:
            self.options["reuse"] = True
        self.optimizer = optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPSILON)

    def step(self, examples: Sequence[Any]) -> float:
        """One training step. Returns the summed loss before the update."""
        return float(self.launch(examples))

    def launch(self, examples: Sequence[Any]) -> ab.Tensor:
        """The same without asking for the loss, which on a device would wait for it."""
        loss = self._differentiate(examples)
        self.optimizer.step()
        return loss

    def loss_and_gradients(self, examples: Sequence[Any]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients; nothing is updated."""
        loss = self._differentiate(examples)
        gradients = {}
        for name, parameter in named(self.model).items():
            gradient = parameter.grad
            gradients[name] = to_host(gradient.to_dense() if hasattr(gradient, "to_dense") else gradient)
        return float(loss), gradients

    def _differentiate(self, examples: Sequence[Any]) -> ab.Tensor:
        self.optimizer.zero_grad()
        loss = ab.sum(ab.map(self.model.loss, examples, **self.options))
        loss.backward()
        return loss
