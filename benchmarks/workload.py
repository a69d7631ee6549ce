"""What a workload is: examples, parameters, and the programs that are compared on them.

Each workload is a folder of this package whose `__init__.py` has one name, `WORKLOAD`; `WORKLOADS` lists the folders.
Everything is drawn from fixed seeds, so that every program and every machine sees the same.

    benchmarks/bilstm/
        __init__.py     WORKLOAD, and nothing else of weight: peers are imported when they are made
        data.py         examples(), parameters(dim), products(examples, dim)
        program.py      the model as a user of autobatch writes it, with cells and without; its variant
        peer_numpy.py   the same by hand
        peer_torch.py   the same by hand; in `bilstm` there is a peer_jax.py, too
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

WORKLOADS: tuple[str, ...] = (
    "treelstm",
    "treelstm_nodes",
    "bilstm",
    "tagger_chars",
    "lm",
    "mvrnn",
    "childsum",
    "lattice",
    "treefc",
    "mlp",
)
"""Folders of this package that hold a workload, in the order of the report."""

Parameters = dict[str, np.ndarray]
Product = tuple[int, ...]
"""A product of matrices (m, k) @ (k, n): m, k, n; or count, m, k, n: so many of them, each with matrices of its own."""
Factory = Callable[[Parameters, int], "Trainer"]

CELLS, NO_CELLS, LOOP = "autobatch, cells", "autobatch, no cells", "autobatch, loop"
CELLS_REUSED, NO_CELLS_REUSED = "autobatch, cells, reused", "autobatch, no cells, reused"
OWN = (CELLS, NO_CELLS, LOOP, CELLS_REUSED, NO_CELLS_REUSED)
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
    dynet: name of the program in `benchmarks/dynet_peer`, or None
    """

    name: str
    title: str
    dims: tuple[int, ...]
    examples: Callable[[], list[Any]]
    parameters: Callable[[int], Parameters]
    trainers: Mapping[str, Factory]
    products: Callable[[Sequence[Any], int], list[Product]]
    variant: Callable[[int], Mapping[str, Factory]] | None = None
    dynet: str | None = None

    @property
    def peers(self) -> tuple[str, ...]:
        """The trainers that are not the library's: programs by hand, as good as their users could make them."""
        return tuple(name for name in self.trainers if name not in OWN)


def from_file(module: str, name: str) -> Factory:
    """A factory that imports this class of this module when it is called; the class takes the parameters."""

    def make(parameters: Parameters, dim: int) -> Trainer:
        trainer: Trainer = getattr(importlib.import_module(module), name)(parameters)
        return trainer

    return make


def autobatch_trainers(module: str, cells: str, no_cells: str) -> dict[str, Factory]:
    """The five trainers of autobatch, from a model with cells and one without: classes that take the parameters."""
    return {
        CELLS: _autobatch(CELLS, module, cells),
        NO_CELLS: _autobatch(NO_CELLS, module, no_cells),
        CELLS_REUSED: _autobatch(CELLS_REUSED, module, cells, reuse=True),
        NO_CELLS_REUSED: _autobatch(NO_CELLS_REUSED, module, no_cells, reuse=True),
        LOOP: _autobatch(LOOP, module, cells, batched=False),
    }


def autobatch_variant(module: str, model: str, seed: int) -> dict[str, Factory]:
    """The trainers of a variant, from a function of (parameters, seed) that makes its model, with cells."""
    return {CELLS: _autobatch(CELLS, module, model, seed), LOOP: _autobatch(LOOP, module, model, seed, batched=False)}


def _autobatch(name: str, module: str, model: str, *more: Any, **options: bool) -> Factory:
    def make(parameters: Parameters, dim: int) -> Trainer:
        from benchmarks.autobatch_trainer import AutobatchTrainer

        return AutobatchTrainer(name, getattr(importlib.import_module(module), model)(parameters, *more), **options)

    return make


def linear(n_rows: int, n_in: int, n_out: int) -> list[Product]:
    """The products of a linear map of so many rows: forward, gradient of its input, gradient of its weight."""
    return [(n_rows, n_in, n_out), (n_rows, n_out, n_in), (n_out, n_rows, n_in)]


def minibatches(examples: Sequence[Any], size: int) -> list[list[Any]]:
    """Consecutive groups of `size` examples, in their order; the last one may be shorter."""
    return [list(examples[start : start + size]) for start in range(0, len(examples), size)]


def load(name: str) -> Workload:
    """The workload of this name."""
    workload: Workload = importlib.import_module(f"benchmarks.{name}").WORKLOAD
    return workload
