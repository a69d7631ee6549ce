"""What the PyTorch programs on a GPU share: parameters there, a step that nothing waits for, CUDA graphs.

A step is launched and its loss read later, from pinned memory that an event says is written. Of the embedding table
the rows that a minibatch meets are gathered, and updated by Adam, as autobatch does; nothing in a step waits for the
device, so that all of it can be captured. Importing this module imports torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adam import adam

from benchmarks.adam import BETA1, BETA2, EPSILON, LEARNING_RATE
from benchmarks.workload import Parameters

EAGER_STEPS = 2  # of a minibatch before its step is captured: libraries choose and allocate in these


@dataclass(slots=True)
class Prepared:
    """A minibatch on the device: rows of the table, which of them each word is, and what the program makes beside."""

    rows: Tensor
    places: Tensor
    rest: Any


class TorchProgram(ABC):
    """One training program on a device.

    prebuilt: what is made of a minibatch's structure is kept, and read when the same minibatch comes again.
    graph: the whole step of each minibatch is captured as a CUDA graph, and replayed; plans are prebuilt then.
    """

    def __init__(self, parameters: Parameters, device: str, prebuilt: bool = False, graph: bool = False) -> None:
        self.device = torch.device(device)
        self.prebuilt = prebuilt or graph
        self.graph = graph
        self.table = torch.tensor(parameters["table"], device=self.device)
        self.weights: dict[str, Tensor] = {
            name: torch.nn.Parameter(torch.tensor(value, device=self.device))
            for name, value in parameters.items()
            if name != "table"
        }
        self._table_state = _State([self.table])
        self._state = _State(list(self.weights.values()))
        self._kept: dict[int, tuple[Any, Prepared]] = {}
        self._captured: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._seen: dict[int, int] = {}
        self._pool: Any = None

    @abstractmethod
    def prepare(self, examples: Sequence[Any]) -> tuple[np.ndarray, Any]:
        """The words of a minibatch, in the order of the program, and what else `loss` needs, on the device."""

    @abstractmethod
    def loss(self, vectors: Tensor, rest: Any) -> Tensor:
        """The summed loss of a minibatch, from the vectors of its words."""

    def sent(self, array: np.ndarray) -> Tensor:
        """An array on the device; nothing waits for it."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def launch(self, examples: Sequence[Any]) -> tuple[Tensor, Any]:
        """Start one training step. Returns what `read` takes."""
        key = id(examples)
        prepared = self._prepared(examples)
        self._seen[key] = self._seen.get(key, 0) + 1
        if self.graph and self._seen[key] > EAGER_STEPS:
            if key not in self._captured:
                self._captured[key] = self._capture(prepared)
            graph, loss = self._captured[key]
            graph.replay()
        else:
            loss = self._step(prepared)
        if self.device.type != "cuda":
            return loss, None
        host = torch.empty((), pin_memory=True)
        host.copy_(loss, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return host, event

    def read(self, pending: tuple[Tensor, Any]) -> float:
        """The loss of a step, before its update; waits for that step alone."""
        loss, event = pending
        if event is not None:
            event.synchronize()
        return float(loss)

    def agrees(self, examples: Sequence[Any], tolerance: float) -> bool:
        """Whether a step as it is timed has the loss that the program gives outside of a training step."""
        prepared = self._prepared(examples)
        with torch.no_grad():
            expected = float(self.loss(F.embedding(prepared.places, self.table[prepared.rows]), prepared.rest))
        return abs(self.read(self.launch(examples)) - expected) <= tolerance * abs(expected)

    def _prepared(self, examples: Sequence[Any]) -> Prepared:
        if self.prebuilt and id(examples) in self._kept:
            return self._kept[id(examples)][1]
        words, rest = self.prepare(examples)
        rows, places = np.unique(words, return_inverse=True)
        prepared = Prepared(*self.sent(np.concatenate([rows, places])).split([len(rows), len(places)]), rest)
        if self.prebuilt:
            self._kept[id(examples)] = examples, prepared  # the examples too: their number must stay theirs
        return prepared

    def _step(self, prepared: Prepared) -> Tensor:
        rows = self.table.index_select(0, prepared.rows).requires_grad_()
        weights = list(self.weights.values())
        loss = self.loss(F.embedding(prepared.places, rows), prepared.rest)
        *gradients, d_rows = torch.autograd.grad(loss, [*weights, rows])
        with torch.no_grad():
            self._state.update(weights, gradients)
            self._table_state.update_rows(self.table, prepared.rows, rows.detach(), d_rows)
        return loss.detach()

    def _capture(self, prepared: Prepared) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            loss = self._step(prepared)
        self._pool = graph.pool()  # one pool for all: replays come one after the other
        return graph, loss


class _State:
    """Moments and step counts of Adam; all of it stays on the device."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.first = [torch.zeros_like(w, requires_grad=False) for w in weights]
        self.second = [torch.zeros_like(w, requires_grad=False) for w in weights]
        self.steps = [torch.zeros((), device=w.device) for w in weights]

    def update(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self._adam(weights, gradients, self.first, self.second)

    def update_rows(self, table: Tensor, rows: Tensor, values: Tensor, gradient: Tensor) -> None:
        """Update some rows of a table, whose values before are given."""
        first, second = (moment[0].index_select(0, rows) for moment in (self.first, self.second))
        self._adam([values], [gradient], [first], [second])
        for target, source in ((table, values), (self.first[0], first), (self.second[0], second)):
            target.index_copy_(0, rows, source)

    def _adam(self, weights: Any, gradients: Any, first: Any, second: Any) -> None:
        adam(
            list(weights), list(gradients), first, second, [], self.steps,
            foreach=False, capturable=weights[0].is_cuda, differentiable=False, fused=True, grad_scale=None,
            found_inf=None, has_complex=False, amsgrad=False, beta1=BETA1, beta2=BETA2, lr=LEARNING_RATE,
            weight_decay=0.0, eps=EPSILON, maximize=False,
        )  # fmt: skip


def dense(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """`NAME_w` x + `NAME_b`, or without the latter."""
    return F.linear(x, weights[f"{name}_w"], weights.get(f"{name}_b"))
