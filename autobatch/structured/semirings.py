"""What is meant by sums and products (Goodman, "Semiring parsing", 1999)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import autobatch as ab

FORBIDDEN = -1e30
"""The score of what must not be: as good as −∞, but differences of such scores are numbers."""


@dataclass(frozen=True)
class Semiring:
    """Two operations, of which the second distributes over the first (Goodman, "Semiring parsing", 1999).

    Attributes:
        name: for texts.
        add: of two values, elementwise.
        total: the same over one axis of a value: (x, axis).
        multiply: of two values that broadcast.
        one, zero: what `multiply` and `add` leave as it is.
        lift: what a score, the logarithm of a factor, is here.

    A semiring of your own is another one of these:

    >>> from autobatch.structured import Semiring, linear_chain
    >>> cheapest = Semiring("min", ab.minimum, ab.min, lambda a, b: a + b, 0.0, 1e30, lambda score: -score)
    >>> float(linear_chain(ab.tensor([[1.0, 2.0], [0.0, 3.0]]), ab.zeros((2, 2)), semiring=cheapest))
    -5.0
    """

    name: str
    add: Callable[[ab.Tensor, ab.Tensor], ab.Tensor]
    total: Callable[[ab.Tensor, int], ab.Tensor]
    multiply: Callable[[ab.Tensor, ab.Tensor], ab.Tensor]
    one: float
    zero: float
    lift: Callable[[ab.Tensor], ab.Tensor]

    def __repr__(self) -> str:
        return f"<semiring {self.name}>"


def _plus(a: ab.Tensor, b: ab.Tensor) -> ab.Tensor:
    return a + b


def _times(a: ab.Tensor, b: ab.Tensor) -> ab.Tensor:
    return a * b


def _is_allowed(score: ab.Tensor) -> ab.Tensor:
    return (score > FORBIDDEN / 2).astype(score.dtype)


LOG = Semiring("log", ab.logaddexp, ab.logsumexp, _plus, 0.0, FORBIDDEN, ab.tensor)
"""Logarithms of sums and products: partition functions. Their gradients are marginal probabilities."""

MAX = Semiring("max", ab.maximum, ab.max, _plus, 0.0, FORBIDDEN, ab.tensor)
"""The score of the best structure (Viterbi). Its gradients are 1 for the parts of it, 0 for others; where several are
best they share it."""

REAL = Semiring("real", _plus, ab.sum, _times, 1.0, 0.0, ab.exp)
"""Sums and products of the factors themselves: less exact than logarithms, and they overflow."""

COUNT = Semiring("count", _plus, ab.sum, _times, 1.0, 0.0, _is_allowed)
"""How many structures there are of parts that are not `FORBIDDEN`."""


def marginals(total: Callable[..., ab.Tensor], *scores: Any, argnums: int | Sequence[int] = 0) -> Any:
    """The derivative of a total with respect to its scores.

    In `LOG` it is the probability that a part is in the structure (Eisner, "Inside-outside and forward-backward
    algorithms are just backprop", 2016), in `MAX` whether it is in the best one. Works inside of `ab.map`; gradients
    flow through it.

    Arguments:
        total: a function that gives a scalar, such as `lambda e: linear_chain(e, transitions)`.
        scores: what it is called with.
        argnums: with respect to which of them, as in `ab.grad`.

    >>> from autobatch.structured import linear_chain
    >>> total = lambda emissions: linear_chain(emissions, ab.zeros((2, 2)))
    >>> marginals(total, ab.zeros((3, 2))).numpy().round(3).tolist()
    [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    """
    derived: Callable[..., Any] = ab.grad(total, argnums=argnums)
    return derived(*scores)


@ab.cell(static=("semiring",))
def join(pairs: list[tuple[ab.Tensor, ab.Tensor]], semiring: Semiring) -> ab.Tensor:
    """The sum over a list of pairs of their products: one node, however long the list."""
    return semiring.total(ab.stack([semiring.multiply(a, b) for a, b in pairs]), 0)
