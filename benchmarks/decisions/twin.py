"""What the programs in PyTorch share: weights by their names in the state dict, and layers as functions of them.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import autobatch as ab

State = tuple[Tensor, Tensor]


class TorchTwin:
    """Weights of one program, on one thread; what it makes of numbers has the default dtype of autobatch."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        torch.set_num_threads(1)
        self.weights = {name: torch.tensor(value, requires_grad=True) for name, value in state.items()}
        self.dtype = getattr(torch, str(ab.zeros(()).dtype))

    def gradients(self) -> dict[str, np.ndarray]:
        """Under the names of the state dict, zeros where nothing arrived."""
        found = {}
        for name, weight in self.weights.items():
            found[name] = np.zeros(tuple(weight.shape)) if weight.grad is None else weight.grad.numpy()
        return found

    def tensor(self, values: object) -> Tensor:
        return torch.as_tensor(values, dtype=self.dtype)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def row(self, name: str, index: int) -> Tensor:
        """A row of an embedding, shape (1, dim), as the recurrent cells take it."""
        return self.weights[f"{name}.weight"][index : index + 1]

    def lstm(self, name: str, x: Tensor, state: State) -> State:
        """One step; all of shape (rows, dim)."""
        return torch.lstm_cell(x, state, *self._of_cell(name))

    def gru(self, name: str, x: Tensor, h: Tensor) -> Tensor:
        return torch.gru_cell(x, h, *self._of_cell(name))

    def _of_cell(self, name: str) -> list[Tensor]:
        return [self.weights[f"{name}.{part}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
