"""The encoder of the translation models in PyTorch, for one sentence. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

State = tuple[Tensor, Tensor]
Weights = dict[str, Tensor]


def look_up(table: Tensor, indices: Sequence[int]) -> Tensor:
    """Rows of a table; their gradient is sparse."""
    return F.embedding(torch.tensor(indices), table, sparse=True)


def lstm_step(w: Weights, name: str, x: Tensor, state: State | None) -> State:
    """One step of `nn.LSTMCell`; x: f[I]."""
    if state is None:
        state = (x.new_zeros(w[f"{name}.weight_hh"].shape[1]),) * 2
    weights = (w[f"{name}.{part}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h, c = torch.lstm_cell(x[None], [part[None] for part in state], *weights)
    return h[0], c[0]


def encode(w: Weights, words: Sequence[int]) -> tuple[Tensor, State]:
    """h of all words, and the last state."""
    states: list[Tensor] = []
    state = None
    for x in look_up(w["encoder.embed.weight"], words).unbind():
        state = lstm_step(w, "encoder.cell", x, state)
        states.append(state[0])
    assert state is not None
    return torch.stack(states), state
