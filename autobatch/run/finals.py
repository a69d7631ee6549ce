"""finals: gradients of the operands that the nodes of a signature share, over all of its launches.

Input: runs whose launches are reversed. Output: for each such operand its gradient, or row numbers and rows of it.
Invariant: one program for each signature, over the residuals and cotangents of all its launches, also of several runs
(`Deferred`). Cost: concatenating what several launches have read or written.
"""

from __future__ import annotations

import collections
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.host.arena import lend
from ..base.types import Array, Type, size_of
from .execute import HostRun, rows_of_launch
from .layout import Access, HostLaunch, Same, resolve
from .protocols import SharedOperand, Signature

if TYPE_CHECKING:
    from .backward import Backward

GiveDense = Callable[[SharedOperand, Array], None]
GiveRows = Callable[[SharedOperand, Array, Array], None]

_LARGE = 1 << 13
"""Numbers in a gradient from which on its memory is reused, though its layout is not."""

_FREE = 2
"""`sys.getrefcount` of an array that only the list it is in references."""


@dataclass(slots=True)
class Final:
    """The gradients of the shared operands of a signature, over all its launches.

    arguments: of the program; joined: those of them that are concatenated from several launches: place, parts, shape
    room: arrays for the results, where there are any: shapes and dtypes are `types`
    dense, sparse: whose gradients the results are; and those that come as rows: operand, row numbers and rows, in parts
    """

    program: Callable[..., list[Any]]
    sizes: tuple[int, ...]
    arguments: list[Any]
    joined: list[tuple[int, list[Array], tuple[int, ...]]]
    types: list[Type]
    room: list[Any]
    dense: list[SharedOperand]
    sparse: list[tuple[SharedOperand, list[Array], list[Array]]]


@dataclass(slots=True)
class Reversed:
    """Launches of a signature that a backward pass has reversed, and its pools."""

    run: HostRun
    s: int
    launches: list[HostLaunch]
    pools: list[Array]
    is_whole: bool

    def residuals(self, k: int) -> list[Array]:
        """Residual k of these launches, in parts."""
        array = self.run.residuals[self.s][k]
        if self.is_whole:
            return [array]
        type = self.run.signatures[self.s].kernel.pieces.residuals[k]
        return [rows_of_launch(array, type, launch) for launch in self.launches]

    def access(self, launch: HostLaunch, kind: str, k: int) -> Access:
        """The rows that a launch read in slot k, or those of the cotangents of its result k."""
        if kind == "rows":
            return launch.accesses[k]
        pool, start, n = launch.writes[k]
        return self.pools[pool], np.arange(start, start + n, dtype=np.int32), start


def _reversed(run: HostRun, ready: Backward) -> Iterator[Reversed]:
    """The launches that a backward pass has reversed, by signature."""
    n_launches = collections.Counter([launch.sig for launch in run.launches if launch.sizes[0]])
    for s, launches in sorted(ready.used.items()):
        yield Reversed(run, s, launches[::-1], ready.pools, len(launches) == n_launches[s])


def final_programs(run: HostRun, ready: Backward) -> Iterator[Final]:
    """What computes the gradients after a backward pass."""
    for part in _reversed(run, ready):
        yield _final([part], ready.same)


class Deferred:
    """Gradients of shared operands, computed for the launches of several runs together.

    n_bytes: of the cotangents that wait; memo: arrays of the operands
    """

    def __init__(self) -> None:
        self._parts: dict[Signature, list[Reversed]] = {}
        self._passes: list[Backward] = []  # whose memory is read
        self.n_bytes = 0
        self.memo: dict[SharedOperand, Any] = {}

    def add(self, run: HostRun, ready: Backward) -> None:
        """Take over a run whose launches are reversed."""
        self._passes.append(ready)
        self.n_bytes += sum([pool.nbytes for pool in ready.pools])
        self.memo.update(run.shared.memo)
        for part in _reversed(run, ready):
            self._parts.setdefault(run.signatures[part.s], []).append(part)

    def finish(self, dense: GiveDense, rows: GiveRows) -> None:
        """Compute the gradients; rows may be in memory of the passes."""
        with np.errstate(all="ignore"):
            for parts in self._parts.values():
                finish(_final(parts, []), dense, rows, again=False)


def _final(parts: Sequence[Reversed], same: Same) -> Final:
    run, s = parts[0].run, parts[0].s
    signature = run.signatures[s]
    kernel = signature.kernel
    pieces = kernel.pieces
    launches = [launch for part in parts for launch in part.launches]
    sizes = tuple(map(sum, zip(*[launch.sizes for launch in launches], strict=True)))
    arguments: list[Any] = []
    joined = []
    cotangents = pieces.final.types("cotangent")
    for kind, k in kernel.inputs("final") if pieces.dense else ():
        if kind == "residual":
            found, shape = _residuals(parts, k), resolve(pieces.residuals[k], sizes)
        elif kind in ("rows", "reverse"):
            arguments.append(_of_one_pool([part.access(launch, kind, k) for part in parts for launch in part.launches]))
            continue
        elif kind == "data":
            found, shape = [launch.data[k] for launch in launches], (-1,)
        elif kind == "cotangent":
            found, shape = _cotangents(parts, k), resolve(cotangents[k], sizes)
        else:
            array = run.same_for_all(s, kind, k)
            same.append((s, kind, k, array))
            arguments.append(array)
            continue
        if len(found) > 1:
            joined.append((len(arguments), found, shape))
        arguments.append(found[0].reshape(shape) if len(found) == 1 else None)
    types = [pieces.final.nodes[i].type for i in pieces.final.outputs] if pieces.dense else []
    program = kernel.program("final", run.backend).run if pieces.dense else _nothing
    dense = [signature.shared[k] for k in pieces.dense]
    sparse = []
    for k, gradient in pieces.sparse:
        rows = _cotangents(parts, gradient.rows) if gradient.of_result else _residuals(parts, gradient.rows)
        sparse.append((signature.shared[k], _residuals(parts, gradient.ids), rows))
    return Final(program, sizes, arguments, joined, types, [None] * len(types), dense, sparse)


def _residuals(parts: Sequence[Reversed], k: int) -> list[Array]:
    return [array for part in parts for array in part.residuals(k)]


def _cotangents(parts: Sequence[Reversed], k: int) -> list[Array]:
    """The cotangents of result k of some launches."""
    written = [(part, *launch.writes[k]) for part in parts for launch in part.launches]
    return [part.pools[pool][start : start + n] for part, pool, start, n in written]


def _of_one_pool(accesses: list[Access]) -> Access:
    """The rows that several launches read or wrote, in their order; copied unless all are in one pool."""
    if len(accesses) == 1:
        return accesses[0]
    if all(pool is accesses[0][0] for pool, _, _ in accesses):
        return accesses[0][0], np.concatenate([rows for _, rows, _ in accesses]), -1
    parts = [
        pool[start : start + rows.size] if start >= 0 else pool.take(rows, axis=0) for pool, rows, start in accesses
    ]
    copied = np.concatenate(parts)
    return copied, np.arange(len(copied), dtype=np.int32), 0


def _nothing(*_: Any) -> list[Any]:
    """The program of a signature all of whose gradients are rows."""
    return []


def finish(final: Final, dense: GiveDense, rows: GiveRows, again: bool) -> None:
    """Pass on gradients of shared operands; `again` says that the layout will be reused."""
    arguments = final.arguments.copy()
    for place, parts, shape in final.joined:
        arguments[place] = np.concatenate(parts).reshape(shape)
    room = final.room
    for k, type in enumerate(final.types):
        if again:
            if room[k] is None or sys.getrefcount(room[k]) > _FREE:  # a referenced gradient belongs to the user
                room[k] = lend(type.shape, type.dtype)
        elif size_of(type.shape) >= _LARGE:
            room[k] = lend(type.shape, type.dtype)
    results = final.program(final.sizes[0], final.sizes, arguments, room)
    for x, g in zip(final.dense, results, strict=True):
        dense(x, g)
    for x, ids, values in final.sparse:
        numbers, found = _whole(ids), _whole(values)
        rows(x, numbers.reshape(-1), found.reshape(numbers.size, math.prod(x.shape[1:])))


def _whole(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
