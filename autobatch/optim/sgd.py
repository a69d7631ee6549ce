"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from ..backends.host.parts import parts_done, take_part
from ..record.parameter import Parameter, SparseRows
from .on_device import DeviceMove, Gradient, bits
from .optimizer import Array, Move, Optimizer, compiled_loop, flat, table_shape, with_decay


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as in PyTorch.

        g ← g + weight_decay · w
        v ← momentum · v + g
        w ← w − lr · v                          or, with nesterov, w − lr · (g + momentum · v)

    (Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013, eq. 1 to 4, with the
    learning rate outside the velocity.) A sparse gradient has the same result as its dense form; without momentum and
    decay only its rows are visited.

    Arguments:
        params: parameters to train.
        lr: learning rate, not negative.
        momentum: from 0 to 1, not 1 itself.
        weight_decay: factor of the L2 penalty's gradient, not negative.
        nesterov: whether to look ahead; needs momentum.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> optimizer = optim.SGD([w], lr=0.5)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value
    array([0., 0.], dtype=float32)
    """

    settings: ClassVar[tuple[str, ...]] = ("lr", "momentum", "weight_decay", "nesterov")

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr)
        self.momentum: Final[float] = self._checked("momentum", momentum)
        self.weight_decay: Final[float] = self._checked("weight_decay", weight_decay)
        self.nesterov: Final[bool] = self._checked("nesterov", nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD: nesterov looks ahead along the momentum\n  expected momentum > 0, got 0")
        if self.momentum:
            self._moments = {"momentum_buffer": self._zeros()}

    def _checked(self, name: str, value: Any) -> Any:
        if name == "nesterov":
            return bool(value)
        value = super()._checked(name, value)
        if name == "momentum" and value >= 1:
            raise ValueError(f"SGD: momentum out of range\n  expected 0 <= momentum < 1, got {value}")
        return value

    def _move(self, index: int, gradient: Array | SparseRows) -> Move:
        parameter = self.params[index]
        number = parameter.dtype.type
        gradient = self._rows_or_dense(gradient)
        if isinstance(gradient, SparseRows):
            return Move(_descend_rows, table_shape(gradient), (gradient.values, gradient.rows, number(self.lr)))
        g = flat(with_decay(gradient, parameter.value, self.weight_decay))
        if not self.momentum:
            return Move(_descend, (g.size,), (g, number(self.lr)))
        velocity = flat(self._moments["momentum_buffer"][index])
        scalars = number(self.lr), number(self.momentum), self.nesterov
        return Move(_descend_with_momentum, (g.size,), (g, velocity, *scalars))

    def _move_on_device(self, index: int, gradient: Any) -> DeviceMove:
        lr = bits(self.lr)
        g = Gradient(self._rows_or_dense(gradient), self.params[index].value, self.weight_decay)
        if g.rows is not None:
            return g.move("descend_rows", g.values, g.row_address, g.n, g.width, lr)
        if not self.momentum:
            return g.move("descend", g.values, g.n, lr)
        velocity = self._moments["momentum_buffer"][index]
        return g.move("momentum", g.values, velocity, g.n, lr, bits(self.momentum), int(self.nesterov))

    def _rows_or_dense(self, gradient: Array | SparseRows) -> Array | SparseRows:
        """Rows only where all others rest."""
        is_dense = self.momentum or self.weight_decay
        return gradient.to_dense() if is_dense and isinstance(gradient, SparseRows) else gradient


@compiled_loop
def _descend(n: int, width: int, w: Array, g: Array, lr: Any, parts: int) -> int:
    n_done = 0
    first, last = take_part(parts, 0, n)
    while first < last:
        # Numbers counted from 0 are known not to be negative, without which the loop does not vectorise.
        w_part, g_part = w[first:last], g[first:last]
        for k in range(w_part.size):
            w_part[k] -= lr * g_part[k]
        n_done += 1
        first, last = take_part(parts, n, n)
    return parts_done(parts, n_done)


@compiled_loop
def _descend_rows(n: int, width: int, w: Array, g: Array, rows: Array, lr: Any, parts: int) -> int:
    n_done = 0
    first, last = take_part(parts, 0, n)
    while first < last:
        for k in range(first, last):
            row, step = w[rows[k]], g[k]
            for j in range(width):
                row[j] -= lr * step[j]
        n_done += 1
        first, last = take_part(parts, n, n)
    return parts_done(parts, n_done)


@compiled_loop
def _descend_with_momentum(
    n: int, width: int, w: Array, g: Array, v: Array, lr: Any, momentum: Any, looks_ahead: bool, parts: int
) -> int:
    n_done = 0
    first, last = take_part(parts, 0, n)
    while first < last:
        w_part, g_part, v_part = w[first:last], g[first:last], v[first:last]
        for k in range(w_part.size):
            v_new = momentum * v_part[k] + g_part[k]
            v_part[k] = v_new
            w_part[k] -= lr * (g_part[k] + momentum * v_new if looks_ahead else v_new)
        n_done += 1
        first, last = take_part(parts, n, n)
    return parts_done(parts, n_done)
