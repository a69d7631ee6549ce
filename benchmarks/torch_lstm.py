"""`nn.LSTM` for the PyTorch programs of the sequence workloads, packed and padded. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

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


@dataclass(frozen=True, slots=True)
class Padding:
    """Packed sequences brought into few padded blocks, the longest sequences in the first.

    blocks: (steps, sequences) of each
    places: int64[n_rows], of each packed row, its place among the rows of all blocks, step by step
    """

    blocks: list[tuple[int, int]]
    places: Tensor


def pad(packing: Packing, block_size: int | None) -> Padding:
    """One block, or blocks of about so many sequences each."""
    n_blocks = max(1, packing.bounds[1] // block_size) if block_size else 1
    widths = np.diff(packing.bounds)
    n_sequences = packing.bounds[1]
    edges = np.linspace(0, n_sequences, n_blocks + 1).astype(int)
    blocks = [(int((widths > first).sum()), int(last - first)) for first, last in pairwise(edges)]
    step = np.repeat(np.arange(len(widths)), widths)
    sequence = np.arange(packing.n_rows) - np.asarray(packing.bounds)[step]
    block = np.searchsorted(edges, sequence, side="right") - 1
    starts = np.cumsum([0, *(steps * width for steps, width in blocks)])
    places = starts[block] + step * np.diff(edges)[block] + sequence - edges[block]
    return Padding(blocks, torch.from_numpy(places))


def in_padding(module: nn.LSTM, x: Tensor, padding: Padding) -> Tensor:
    """Hidden states of one direction, computed on padded blocks: packed in, packed out."""
    sizes = [steps * width for steps, width in padding.blocks]
    rows = x.new_zeros(sum(sizes), x.shape[1]).index_copy(0, padding.places, x)
    states = [
        module(part.view(*shape, -1))[0].reshape(len(part), -1)
        for part, shape in zip(rows.split(sizes), padding.blocks, strict=True)
    ]
    return torch.cat(states).index_select(0, padding.places)
