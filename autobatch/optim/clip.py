"""Clipping of gradients by their common norm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backends.host.parts import ALONE, parts_done, take_part
from ..backends.transfer import is_on_device
from ..base.errors import BackendError
from ..base.interrupts import run_whole
from ..record.parameter import Parameter, SparseRows
from .on_device import clip
from .optimizer import Array, compiled_loop, flat


def clip_grad_norm(params: Parameter | Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients, in place, so that their common norm is at most `max_norm`; returns the norm before.

    The norm is √Σ g² over every element of every gradient, sparse rows included, added in float64 (Pascanu, Mikolov &
    Bengio, "On the difficulty of training recurrent neural networks", 2013, Algorithm 1). Gradients within the bound
    stay as they are; parameters without gradient do not count. If a gradient holds NaN or an infinity the norm is NaN
    or inf, and no gradient is changed: check the norm that is returned, and leave the step out.

    Of gradients on a GPU the norm is an array there, f64[], so that nothing waits for it; `float(norm)` waits.

    Arguments:
        params: parameters with their gradients, or a single one; one listed twice counts once.
        max_norm: the bound, not negative.

    >>> w = ab.Parameter([3.0, 4.0])
    >>> ab.sum(w * w / 2).backward()
    >>> optim.clip_grad_norm([w], max_norm=1.0)
    5.0
    >>> w.grad
    array([0.6, 0.8], dtype=float32)
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm: max_norm out of range\n  expected max_norm >= 0, got {max_norm}")
    chosen = (params,) if isinstance(params, Parameter) else params
    gradients = [p.grad for p in {id(p): p for p in chosen}.values() if p.grad is not None]
    arrays = [g.values if isinstance(g, SparseRows) else g for g in gradients]
    if any(map(is_on_device, arrays)):
        if not all(map(is_on_device, arrays)):
            raise BackendError("clip_grad_norm: gradients lie in two places\n  repair: move all of them, by model.to")
        on_device: float = clip(arrays, max_norm)
        return on_device
    norm = _norm(arrays)
    if max_norm < norm < math.inf:
        _scale_all(arrays, max_norm / norm)
    return norm


def _scale_all(arrays: list[Array], factor: float) -> None:
    """Scale arrays in place, all or none. Those that loops cannot take in one go are written over by what they are to
    be; each of the others counts what was scaled, so that nothing is scaled twice."""
    counters = np.zeros((len(arrays), 3), np.int64)
    counters[:, 2] = [max(array.size, 1) for array in arrays]
    address = counters.__array_interface__["data"][0]
    odd = {k: array * array.dtype.type(factor) for k, array in enumerate(arrays) if not array.flags.carray}
    plain = [(k, flat(array), array.dtype.type(factor)) for k, array in enumerate(arrays) if k not in odd]
    for _, array, number in plain:
        _scale(0, array[:0], number, ALONE)  # compiled, or loaded, before anything changes

    def action() -> None:
        for k, array, number in plain:
            _scale(array.size, array, number, address + k * counters.strides[0])
        for k, scaled in odd.items():
            arrays[k][...] = scaled

    run_whole(action)


@compiled_loop
def _scale(n: int, x: Array, factor: Any, parts: int) -> int:
    n_done = 0
    first, last = take_part(parts, 0, n)
    while first < last:
        part = x[first:last]
        for k in range(part.size):
            part[k] *= factor
        n_done += 1
        first, last = take_part(parts, n, n)
    return parts_done(parts, n_done)


def _norm(arrays: list[Array]) -> float:
    """√Σ x² over all elements; exact in range also where the squares overflow or vanish."""
    total = sum(_sum_of_squares(array.ravel(), 1.0) for array in arrays)
    if 1e-200 < total < math.inf or math.isnan(total):
        return math.sqrt(total)
    largest = max((float(np.abs(array).max(initial=0)) for array in arrays), default=0.0)
    if largest in (0.0, math.inf):
        return largest
    return largest * math.sqrt(sum(_sum_of_squares(array.ravel(), largest) for array in arrays))


@compiled_loop
def _sum_of_squares(x: Array, unit: float) -> float:
    total = 0.0
    for k in range(x.size):
        scaled = np.float64(x[k]) / unit
        total += scaled * scaled
    return total
