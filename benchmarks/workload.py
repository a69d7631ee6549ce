"""What a workload is: examples, parameters, and the programs that are compared on them.

Each workload is a folder of this package whose `__init__.py` has one name, `WORKLOAD`; `WORKLOADS` lists the folders.
Everything is drawn from fixed seeds, so that every program and every machine sees the same.

    benchmarks/bilstm/
        __init__.py     WORKLOAD, and nothing else of weight: peers are imported when they are made
        data.py         examples(), parameters(dim), products(examples, dim)
        program.py      the model as a user of autobatch writes it, with cells and without; its variant
        peer_numpy.py   the same by hand
        peer_torch.py   the same by hand
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

WORKLOADS: tuple[str, ...] = ()
"""Folders of this package that hold a workload, in the order of the report."""

Parameters = dict[str, np.ndarray]
Product = tuple[int, int, int]
"""A product of matrices (m, k) @ (k, n)."""

CELLS, NO_CELLS, LOOP = "autobatch, cells", "autobatch, no cells", "autobatch, loop"
CELLS_REUSED, NO_CELLS_REUSED = "autobatch, cells, reused", "autobatch, no cells, reused"
"""Names of the trainers of autobatch; `reused` maps with `reuse=True`, `LOOP` with `batched=False`."""


class Trainer(Protocol):
    """One training program."""

    name: str

    def step(self, examples: Sequence[Any]) -> float:
        """One step by Adam (1e-3, betas 0.9 and 0.999, eps 1e-8). Returns the summed loss before the update."""

    def loss_and_gradients(self, examples: Sequence[Any]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients, under the names of the parameters; nothing is updated."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload of the benchmarks.

    name: of the folder and of the command, `python -m benchmarks NAME`
    title: for tables
    dims: the widths of the model that are measured; "dim" is what the trainers' factories take
    examples: all examples, in a fixed order; a minibatch is a run of them
    parameters: dim → the starting point of every program, float32
    trainers: name → factory (parameters, dim) → trainer; it imports what it needs, or raises ImportError
    products: (examples, dim) → the products of one step over this minibatch, forward, gradients of inputs and gradients
        of weights, each once at full width: the floor that times are divided by
    variant: seed → trainers of autobatch (factories, as above: at least CELLS and LOOP) for a variant of the model:
        gates permuted, one activation replaced, an extra elementwise term, names changed; None where there is none
    peers: trainers that are programs by hand, as good as their users could make them
    dynet: name of the program in `benchmarks/dynet_peer`, or None
    """

    name: str
    title: str
    dims: tuple[int, ...]
    examples: Callable[[], list[Any]]
    parameters: Callable[[int], Parameters]
    trainers: Mapping[str, Callable[[Parameters, int], Trainer]]
    products: Callable[[Sequence[Any], int], list[Product]]
    variant: Callable[[int], Mapping[str, Callable[[Parameters, int], Trainer]]] | None = None
    dynet: str | None = None
    peers: tuple[str, ...] = field(default=("numpy", "pytorch"))


def load(name: str) -> Workload:
    """The workload of this name."""
    workload: Workload = importlib.import_module(f"benchmarks.{name}").WORKLOAD
    return workload
