"""Values of parameters and constants alone: evaluated before these change, and differentiated."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import numpy as np

from ..backends.transfer import copy_of
from ..base.types import Array
from .context import checking
from .shared import Expression, Memo, Shared, SharedExpression, evaluate_shared, held_by, in_order

T = TypeVar("T")


class Tied(Generic[T]):
    """Holds an object as long as a parameter lives that the object is about; calling it gives the object, or None.

    The object may lead to the parameter: the youngest parameter or buffer among `values` is what holds the object.
    """

    __slots__ = ("__weakref__", "_reference")

    def __init__(self, what: T, values: Iterable[Shared]) -> None:
        owners = held_by(values)
        if not owners:
            self._reference: Callable[[], T | None] = lambda: what
        else:
            self._reference = weakref.ref(what)
            max(owners, key=lambda x: x._age)._tied[self] = what

    def __call__(self) -> T | None:
        return self._reference()


class _Holder:
    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = object()


_holder = _Holder()
_ALONE = sys.getrefcount(_holder.held)
"""`sys.getrefcount` of an object that only one attribute references."""


def settle(held: Iterable[Shared]) -> None:
    """Before parameters change, evaluate the referenced values that depend on them."""
    values: list[Expression] = []
    for x in held:
        for reference in list(x._dependents.values()) if x._dependents else ():
            op = reference()
            if op is not None and op.current is not None and sys.getrefcount(op.current) > _ALONE:
                values.append(op.current)
    if not values:
        return
    memo: Memo = {}
    with np.errstate(all="ignore"):
        for value in values:
            if value._op is not None:
                evaluate_shared(value._op, memo)
    for value in values:
        if value._op is not None:
            value.settle(copy_of(memo[value._op]))


def pull_back(cotangents: dict[Shared, Array], memo: Memo, give: Callable[[Shared, Array], None]) -> None:
    """Propagate cotangents of shared values to those that are no expressions, each passed to `give`."""
    for x in reversed(in_order(cotangents)):
        if x not in cotangents or not x.trainable:
            continue
        g = cotangents[x]
        if not isinstance(x, SharedExpression):
            give(x, g)
            continue
        for parent, part in x._pull(g, [memo[p] for p in x.parents]):
            if (check := checking.get()) is not None:
                check(x, part, "gradient")
            cotangents[parent] = cotangents[parent] + part if parent in cotangents else part
