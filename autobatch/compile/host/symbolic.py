"""symbolic: integers and arrays of a launch that is not there yet.

An `Amount` is an integer that follows from variables of the launch, such as its nodes; a `View` is an array of which
only dtype, address, shape and strides are known, as amounts. A driver that is run on them makes the calls that it makes
with arrays.
Invariant: what cannot be said in this way raises `NotSaid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Variable = tuple[Any, ...]
"""The name of an integer, and a number."""

NODES: Variable = ("nodes", 0)


class NotSaid(Exception):
    """A driver does what amounts and views cannot say."""


@dataclass(slots=True)
class Bound:
    """The nodes of a launch from which on comparisons would have come out otherwise."""

    nodes: int = 1 << 62


class Amount:
    """A sum of multiples of variables; that of None is a constant. Comparisons come out as for few nodes.

    >>> n = Amount({("nodes", 0): 1}, Bound())
    >>> (4 * n + 2).terms, n < 100, n.bound.nodes
    ({('nodes', 0): 4, None: 2}, True, 100)
    """

    __slots__ = ("bound", "terms")

    def __init__(self, terms: dict[Variable | None, int], bound: Bound) -> None:
        self.terms = {key: factor for key, factor in terms.items() if factor}
        self.bound = bound

    def __add__(self, other: Extent) -> Amount:
        terms = dict(self.terms)
        for key, factor in terms_of(other).items():
            terms[key] = terms.get(key, 0) + factor
        return Amount(terms, self.bound)

    def __mul__(self, other: Extent) -> Amount:
        if isinstance(other, Amount):
            raise NotSaid(f"{self.terms} times {other.terms}")
        return Amount({key: factor * other for key, factor in self.terms.items()}, self.bound)

    __rmul__ = __mul__

    def _not_said(self, *_: Any) -> Any:
        raise NotSaid(f"what is computed of {self.terms}")

    __sub__ = __rsub__ = __floordiv__ = __rfloordiv__ = __neg__ = _not_said
    __eq__ = __ne__ = __gt__ = __ge__ = __le__ = __bool__ = __index__ = _not_said
    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: int) -> bool:
        """True, as for few nodes; `bound` notes for how many."""
        if set(self.terms) != {NODES}:
            raise NotSaid(f"{self.terms} are compared")
        self.bound.nodes = min(self.bound.nodes, -(-other // self.terms[NODES]))
        return True


Extent = Amount | int


def terms_of(x: Extent) -> dict[Variable | None, int]:
    """The multiples of variables that an integer is a sum of."""
    return x.terms if isinstance(x, Amount) else {None: x}


def product(extents: Sequence[Extent]) -> Extent:
    """The product of integers, of which one at most depends on the launch."""
    found: Extent = 1
    for extent in extents:
        found = extent * found
    return found


class View:
    """An array of a launch. `key` names one that is the same for all launches.

    >>> n = Amount({("nodes", 0): 1}, Bound())
    >>> x = View(np.dtype(np.float32), Amount({("pool", 0): 1}, n.bound), (n, 8))
    >>> part = x[..., 2:4]
    >>> part.address.terms, part.strides, part.is_contiguous
    ({('pool', 0): 1, None: 8}, (32, 4), False)
    """

    __slots__ = ("address", "dtype", "is_contiguous", "key", "shape", "strides")

    def __init__(
        self,
        dtype: np.dtype[Any],
        address: Amount,
        shape: Sequence[Extent],
        strides: Sequence[Extent] | None = None,
        key: Variable | None = None,
    ) -> None:
        self.dtype, self.address, self.shape, self.key = dtype, address, tuple(shape), key
        self.is_contiguous = strides is None
        if strides is None:
            strides = [product(self.shape[k + 1 :]) * dtype.itemsize for k in range(len(self.shape))]
        self.strides = tuple(strides)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Extent:
        """Number of elements."""
        return product(self.shape)

    @property
    def T(self) -> View:
        """The transpose."""
        return self.transpose(tuple(range(self.ndim))[::-1])

    def transpose(self, axes: Sequence[int]) -> View:
        """The same numbers with the axes in this order."""
        return View(self.dtype, self.address, [self.shape[k] for k in axes], [self.strides[k] for k in axes])

    def reshape(self, *shape: Any) -> View:
        """The same numbers in another shape, of which one extent may be -1."""
        extents = list(shape[0] if isinstance(shape[0], tuple) else shape)
        is_open = [isinstance(extent, int) and extent == -1 for extent in extents]
        if any(is_open):
            extents[is_open.index(True)] = 1
            if product(extents) != 1:
                raise NotSaid(f"{shape} leaves an extent open")
            extents[is_open.index(True)] = self.size
        if not self.is_contiguous or terms_of(product(extents)) != terms_of(self.size):
            raise NotSaid(f"{self.shape} becomes {shape}")
        return View(self.dtype, self.address, extents)

    def __getitem__(self, index: Any) -> View:
        parts = list(index) if isinstance(index, tuple) else [index]
        if not all(part is Ellipsis or isinstance(part, slice) for part in parts):
            raise NotSaid(f"an index {index}")
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        address, shape = self.address, list(self.shape)
        for axis, part in enumerate(parts):
            if part != slice(None):
                address = address + self.strides[axis] * part.start
                shape[axis] = part.stop - part.start
        return View(self.dtype, address, shape, self.strides)
