"""What the PyTorch programs by hand share: parameters, optimisers, and a step. Importing this module imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.adam import LEARNING_RATE
from benchmarks.workload import Parameters


class TorchTrainer(ABC):
    """One training program on one thread; see `benchmarks.workload.Trainer`.

    Tables have sparse gradients and `SparseAdam`, all else the fused Adam.
    """

    name = "pytorch"

    def __init__(self, parameters: Parameters, tables: Sequence[str] = ()) -> None:
        torch.set_num_threads(1)
        self.weights = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in parameters.items()}
        dense = [value for name, value in self.weights.items() if name not in tables]
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(dense, lr=LEARNING_RATE, fused=True)]
        if tables:
            self.optimizers.append(torch.optim.SparseAdam([self.weights[name] for name in tables], lr=LEARNING_RATE))

    @abstractmethod
    def loss(self, examples: Sequence[Any]) -> Tensor:
        """The summed loss of a minibatch."""

    def step(self, examples: Sequence[Any]) -> float:
        """One training step. Returns the summed loss before the update."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = self.loss(examples)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    def loss_and_gradients(self, examples: Sequence[Any]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients under the names of the workload; nothing is updated."""
        loss = self.loss(examples)
        gradients = torch.autograd.grad(loss, list(self.weights.values()), allow_unused=True, materialize_grads=True)
        dense = [g.to_dense() if g.is_sparse else g for g in gradients]
        return loss.item(), {name: g.numpy() for name, g in zip(self.weights, dense, strict=True)}


class OneByOne(TorchTrainer):
    """The plain program of PyTorch's users, one example after the other, with one backward pass for the minibatch."""

    name = "pytorch, one by one"

    def loss(self, examples: Sequence[Any]) -> Tensor:
        return torch.stack([self.one(example) for example in examples]).sum()

    @abstractmethod
    def one(self, example: Any) -> Tensor:
        """The loss of one example."""
