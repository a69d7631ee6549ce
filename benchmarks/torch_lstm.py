"""`nn.LSTM` for the PyTorch programs of the sequence workloads, packed and padded. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.sentences import Packing


def lstm(weights: Mapping[str, Tensor], *names: str) -> nn.LSTM:
    """The LSTM of these parameters, in both directions if there are two names. Its second bias rests at zero."""
    dim, n_in = weights[names[0] + "_hh"].shape[1], weights[names[0] + "_ih"].shape[1]
    module = nn.LSTM(n_in, dim, bidirectional=len(names) == 2)
    for name, end in zip(names, ("", "_reverse"), strict=False):
        for theirs, ours in (("weight_ih", "_ih"), ("weight_hh", "_hh"), ("bias_ih", "_b")):
            setattr(module, f"{theirs}_l0{end}", weights[name + ours])
        setattr(module, f"bias_hh_l0{end}", nn.Parameter(torch.zeros(4 * dim), requires_grad=False))
    return module


def batch_sizes(packing: Packing) -> Tensor:
    """How many rows each step of a packed sequence has."""
    return torch.from_numpy(np.diff(packing.bounds))


def padded_places(packing: Packing) -> Tensor:
    """Of each packed row, its place among the n_steps · n_sequences of the padded sequences, step by step."""
    starts = torch.tensor(packing.bounds[:-1])
    sizes = batch_sizes(packing)
    shift = torch.arange(len(starts)) * packing.bounds[1] - starts
    return torch.arange(packing.n_rows) + torch.repeat_interleave(shift, sizes)


def in_padding(module: torch.nn.LSTM, x: Tensor, places: Tensor, shape: tuple[int, int]) -> Tensor:
    """Hidden states of one direction on padded sequences, at the real places: packed in, packed out."""
    padded = x.new_zeros(shape[0] * shape[1], x.shape[1]).index_copy(0, places, x)
    states, _ = module(padded.view(*shape, -1))
    return states.reshape(shape[0] * shape[1], -1).index_select(0, places)
