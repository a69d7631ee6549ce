"""Adam: steps scaled by running moments of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Final

import numpy as np

from ..backends.host.parts import ALONE, parts_done, take_part
from ..record.parameter import Parameter, SparseRows
from .on_device import DeviceMove, Gradient, bits
from .optimizer import Array, Move, Optimizer, compiled_loop, flat, table_shape, with_decay


class Adam(Optimizer):
    """Adam (Kingma & Ba, "Adam: a method for stochastic optimization", 2015, Algorithm 1), as in PyTorch.

        g ← g + weight_decay · w
        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) g²
        w ← w − lr · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps)

    t counts the steps of each parameter. Of a sparse gradient only the rows it has are visited: their moments and
    weights change, decay included, all others rest. This is `torch.optim.SparseAdam`, except that eps stands as in
    Algorithm 1, so that a sparse gradient with every row moves the table as its dense form does.

    Arguments:
        params: parameters to train.
        lr: learning rate, not negative.
        betas: decay of the two moments, each from 0 to 1, not 1 itself.
        eps: added to the root of the second moment, not negative.
        weight_decay: factor of the L2 penalty's gradient, not negative.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.Adam([w], lr=0.5)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value
    array([0.5, 1.5], dtype=float32)
    """

    settings: ClassVar[tuple[str, ...]] = ("lr", "betas", "eps", "weight_decay")

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr)
        self.betas: Final[tuple[float, float]] = self._checked("betas", betas)
        self.eps: Final[float] = self._checked("eps", eps)
        self.weight_decay: Final[float] = self._checked("weight_decay", weight_decay)
        self._moments = {"exp_avg": self._zeros(), "exp_avg_sq": self._zeros()}
        self._last: tuple[tuple[float, ...], Any, tuple[Any, ...]] = ((), None, ())

    def _checked(self, name: str, value: Any) -> Any:
        if name != "betas":
            return super()._checked(name, value)
        first, second = map(float, value)
        if not (0 <= first < 1 and 0 <= second < 1):
            raise ValueError(f"Adam: betas out of range\n  expected 0 <= beta < 1, got {(first, second)}")
        return first, second

    def _move(self, index: int, gradient: Array | SparseRows) -> Move:
        parameter = self.params[index]
        numbers = self._numbers(self._scalars(index), parameter.dtype.type)
        m, v = self._moments["exp_avg"][index], self._moments["exp_avg_sq"][index]
        if isinstance(gradient, SparseRows):
            shape = table_shape(gradient)
            m, v, table = (np.reshape(array, shape, copy=False) for array in (m, v, parameter.value))
            values = gradient.values
            if self.weight_decay:
                values = with_decay(values, table[gradient.rows], self.weight_decay)
            return Move(_adam_rows, shape, (values, gradient.rows, m, v, numbers))
        gradient = flat(with_decay(gradient, parameter.value, self.weight_decay))
        return Move(_adam, (gradient.size,), (gradient, flat(m), flat(v), numbers))

    def _numbers(self, scalars: tuple[float, ...], number: Any) -> tuple[Any, ...]:
        """The factors in a dtype; made once a step where all parameters have taken as many."""
        if self._last[:2] != (scalars, number):
            self._last = scalars, number, tuple(map(number, scalars))
        return self._last[2]

    def _scalars(self, index: int) -> tuple[float, ...]:
        """The factors of the coming step, in the order of the loops' arguments."""
        steps = int(self._steps[index]) + 1
        beta1, beta2 = self.betas
        corrected_lr = self.lr / (1 - beta1**steps)
        corrected_root = 1 / math.sqrt(1 - beta2**steps)
        return beta1, 1 - beta1, beta2, 1 - beta2, corrected_lr, corrected_root, self.eps

    def _move_on_device(self, index: int, gradient: Any) -> DeviceMove:
        m, v = self._moments["exp_avg"][index], self._moments["exp_avg_sq"][index]
        g = Gradient(gradient, self.params[index].value, self.weight_decay)
        return g.move("adam", g.values, m, v, g.row_address, g.n, g.width, *map(bits, self._scalars(index)))


@compiled_loop
def _adam(n: int, width: int, w: Array, g: Array, m: Array, v: Array, scalars: Any, parts: int) -> int:
    keep1, take1, keep2, take2, lr, root, eps = scalars
    n_done = 0
    first, last = take_part(parts, 0, n)
    while first < last:
        # Numbers counted from 0 are known not to be negative, without which the loop does not vectorise.
        w_part, g_part, m_part, v_part = w[first:last], g[first:last], m[first:last], v[first:last]
        for k in range(w_part.size):
            m_new = keep1 * m_part[k] + take1 * g_part[k]
            v_new = keep2 * v_part[k] + take2 * (g_part[k] * g_part[k])
            m_part[k] = m_new
            v_part[k] = v_new
            w_part[k] -= lr * m_new / (root * math.sqrt(v_new) + eps)
        n_done += 1
        first, last = take_part(parts, n, n)
    return parts_done(parts, n_done)


@compiled_loop
def _adam_rows(
    n: int, width: int, w: Array, g: Array, rows: Array, m: Array, v: Array, scalars: Any, parts: int
) -> int:
    n_done = 0
    first, last = take_part(parts, 0, n)
    while first < last:
        for k in range(first, last):
            row = rows[k]
            _adam(width, 1, w[row], g[k], m[row], v[row], scalars, ALONE)
        n_done += 1
        first, last = take_part(parts, n, n)
    return parts_done(parts, n_done)
