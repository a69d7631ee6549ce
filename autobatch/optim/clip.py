"""Clipping of gradients, by their common norm and by value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backends.transfer import is_on_device
from ..base.errors import BackendError, message
from ..base.interrupts import run_whole
from ..base.jit import njit
from ..record.parameter import Parameter, SparseRows
from .clip_on_device import clip
from .moves import changing, move_of, numbers
from .rules import RELAXED, Rule, rule_of

Array = np.ndarray[Any, Any]


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

    Raises ValueError for a negative bound, `BackendError` where gradients lie in two places.

    >>> w = ab.Parameter([3.0, 4.0])
    >>> ab.sum(w * w / 2).backward()
    >>> optim.clip_grad_norm([w], max_norm=1.0)
    5.0
    >>> w.grad
    array([0.6, 0.8], dtype=float32)
    """
    if not max_norm >= 0:
        raise ValueError(message("clip_grad_norm: max_norm out of range", expected="max_norm >= 0", got=f"{max_norm}"))
    arrays = _gradients(params)
    if any(map(is_on_device, arrays)):
        if not all(map(is_on_device, arrays)):
            what, repair = "clip_grad_norm: gradients lie in two places", "move all of them, by model.to"
            raise BackendError(message(what, repair=repair))
        on_device: float = clip(arrays, max_norm)
        return on_device
    norm = _norm(arrays)
    if max_norm < norm < math.inf:
        _change(arrays, rule_of("w = w * factor", "w"), {"factor": max_norm / norm})
    return norm


def clip_grad_value(params: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """Bound all elements of all gradients, in place, by −clip_value and clip_value; NaN stays.

    Arguments:
        params: parameters with their gradients, or a single one.
        clip_value: the bound, not negative.

    Raises ValueError for a negative bound.

    >>> w = ab.Parameter([3.0, -4.0, 0.5])
    >>> ab.sum(w * w / 2).backward()
    >>> optim.clip_grad_value([w], clip_value=1.0)
    >>> w.grad
    array([ 1. , -1. ,  0.5], dtype=float32)
    """
    if not clip_value >= 0:
        raise ValueError(message("clip_grad_value: clip_value out of range", expected=">= 0", got=f"{clip_value}"))
    _change(_gradients(params), rule_of("w = maximum(-bound, minimum(w, bound))", "w"), {"bound": clip_value})


def _gradients(params: Parameter | Iterable[Parameter]) -> list[Array]:
    """The numbers of all gradients there are, each once."""
    chosen = (params,) if isinstance(params, Parameter) else params
    gradients = [p.grad for p in {id(p): p for p in chosen}.values() if p.grad is not None]
    return [g.values if isinstance(g, SparseRows) else g for g in gradients]


def _change(arrays: list[Array], rule: Rule, scalars: dict[str, float]) -> None:
    """Change arrays in place, all or none."""
    change = changing([move_of(rule, array, None, {}, numbers(scalars, array.dtype)) for array in arrays])
    run_whole(lambda: change(arrays))


def _norm(arrays: list[Array]) -> float:
    """√Σ x² over all elements; exact in range also where the squares overflow or vanish."""
    total = sum(_sum_of_squares(array.ravel(), 1.0) for array in arrays)
    if 1e-200 < total < math.inf or math.isnan(total):
        return math.sqrt(total)
    largest = max((float(np.abs(array).max(initial=0)) for array in arrays), default=0.0)
    if largest in (0.0, math.inf):
        return largest
    return largest * math.sqrt(sum(_sum_of_squares(array.ravel(), largest) for array in arrays))


@njit(error_model="numpy", fastmath={*RELAXED}, nogil=True)
def _sum_of_squares(x: Array, unit: float) -> float:
    total = 0.0
    for k in range(x.size):
        scaled = np.float64(x[k]) / unit
        total += scaled * scaled
    return total
