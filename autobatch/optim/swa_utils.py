"""Averages of weights over the steps of training."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from ..base.errors import message
from ..nn import Buffer, Module
from ..record.parameter import in_place_of, update
from .lr_scheduler import LRScheduler
from .moves import changing, move_of, numbers
from .optimizer import Optimizer
from .rules import rule_of

__all__ = ["SWALR", "AveragedModel"]

_RULE = "w = keep * w + share * g"


class AveragedModel(Module):
    """A copy of a model whose parameters are averages over the steps at which `update_parameters` was called.

    All steps have the same weight (Izmailov et al., "Averaging weights leads to wider optima", 2018, Algorithm 1), or
    with `decay` the average is exponential: w̄ ← decay · w̄ + (1 − decay) · w (Polyak & Juditsky, 1992, in the form of
    Tarvainen & Valpola, "Mean teachers", 2017, eq. 1). The first call copies the parameters.

    Arguments:
        model: is copied, and stays as it is.
        decay: from 0 to 1, not 1 itself; None for the mean.
        use_buffers: whether floating buffers are averaged, too; otherwise all are copied.

    Attributes:
        module: the copy. Calling the averaged model calls it.
        n_averaged: buffer, i64[]: number of calls.

    >>> layer = nn.Linear(2, 1)
    >>> averaged = optim.AveragedModel(layer)
    >>> for x in (1.0, 2.0):
    ...     layer.bias.value = [x]
    ...     averaged.update_parameters(layer)
    >>> averaged.module.bias.value
    array([1.5], dtype=float32)
    """

    def __init__(self, model: Module, decay: float | None = None, *, use_buffers: bool = False) -> None:
        if decay is not None and not 0 <= decay < 1:
            what = "AveragedModel: decay out of range"
            raise ValueError(message(what, expected="0 <= decay < 1, or None", got=f"{decay}"))
        self.module = copy.deepcopy(model)
        self.module.zero_grad()
        self.n_averaged = Buffer(np.array(0, np.int64))
        self.decay = decay
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the parameters of `model`, as they are now, into the average: all of them or none.

        Raises ValueError where the model has others than the one that was copied.
        """
        own = [*self.module.named_parameters(), *self.module.named_buffers()]
        theirs = [*model.named_parameters(), *model.named_buffers()]
        if [(name, x.shape, x.dtype) for name, x in own] != [(name, x.shape, x.dtype) for name, x in theirs]:
            what = "AveragedModel.update_parameters: this is not the model that was copied"
            raise ValueError(message(what, expected="parameters and buffers of equal names, shapes and dtypes"))
        n = int(self.n_averaged.numpy())
        share = 1.0 if n == 0 else 1 / (n + 1) if self.decay is None else 1 - self.decay
        moves, averages, copies = [], [], []
        for (_, x), (_, given) in zip(own, theirs, strict=True):
            if x.on_device is not given.on_device:
                x.to("cupy" if given.on_device else "numba")
            if x.dtype.kind == "f" and (self.use_buffers or not isinstance(x, Buffer)):
                scalars = numbers({"keep": 1 - share, "share": share}, x.dtype)
                moves.append(move_of(rule_of(_RULE, "w", "g"), x.value, given.value, {}, scalars))
                averages.append(x)
            else:
                copies.append((x, given.value))
        copies.append((self.n_averaged, in_place_of(self.n_averaged, np.array(n + 1))))
        change, n_moves = changing(moves), len(moves)

        def action(arrays: Any) -> None:
            change(arrays[:n_moves])
            for array, (_, value) in zip(arrays[n_moves:], copies, strict=True):
                array[...] = value

        update([*averages, *(x for x, _ in copies)], action)


class SWALR(LRScheduler):
    """From the learning rate as it is to `swa_lr` in `anneal_epochs` steps, and so it stays (Izmailov et al., 2018).

    Arguments:
        anneal_strategy: "cos" or "linear".

    >>> optimizer = optim.SGD([ab.Parameter([1.0])], lr=1.0)
    >>> schedule = optim.swa_utils.SWALR(optimizer, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
    >>> schedule.step()
    >>> optimizer.lr
    0.75
    """

    def __init__(
        self, optimizer: Optimizer, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos"
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            what = "SWALR: unknown anneal_strategy"
            raise ValueError(message(what, expected="'cos' or 'linear'", got=repr(anneal_strategy)))
        self.swa_lr, self.anneal_epochs, self.anneal_strategy = swa_lr, anneal_epochs, anneal_strategy
        for group in optimizer.param_groups:
            group.initial_lr = group["lr"]
        super().__init__(optimizer)

    def lr_at(self, step: int, base_lr: float) -> float:
        done = min(1.0, step / max(1, self.anneal_epochs))
        share = (1 - math.cos(math.pi * done)) / 2 if self.anneal_strategy == "cos" else done
        return self.swa_lr * share + base_lr * (1 - share)
