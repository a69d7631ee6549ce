"""Gradients of runs: a backward pass of every recording that a loss reaches, the latest first.

Input: cotangents of values of recordings that ran. Output: gradients of parameters, each its own; nothing is changed.
A recording that uses values of an earlier one passes their cotangents to it.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from ..backends.host.arena import Loan
from ..backends.transfer import copy_of, is_on_device, to_device, to_host
from ..base.clocks import timed
from ..base.errors import NonFiniteError, RecordingError, user_error
from ..base.types import Array
from ..compile.host.workers import compile_ahead
from ..expand.gradient_flow import gradient_of_nodes
from ..record.context import checking
from ..record.expressions import pull_back
from ..record.parameter import Gradient, Parameter, SparseRows, add_to_rows, in_place_of, merge_rows
from ..record.shared import Memo, Shared, SharedExpression, device_of, evaluate_shared
from ..record.tape import CHANGED, ENDED, Links, Recording
from ..record.tensor import RecordedTensor
from ..run.backward import MOST_DEFERRED, nodes_leading, run_backward
from ..run.device.backward import run_backward_on_device
from ..run.device.layout import DeviceRun
from ..run.earlier import Rows, rows_of
from ..run.execute import HostRun
from ..run.finals import Deferred
from ..run.one_by_one import LoopRun
from ..run.protocols import SharedOperand
from ..schedule.structures import Expansion
from .ending import end
from .finite import is_finite
from .forward import check_versions, new_reverse_pieces, one_by_one, run_tape
from .replay import Part, replayed

Outside = list[tuple[Recording, Part]]
"""Cotangents of values of earlier recordings."""


def gradients_of(loss: RecordedTensor) -> tuple[list[tuple[Parameter, Gradient]], list[Recording]]:
    """Gradients of all parameters that a value reaches, and the recordings on the way; nothing is changed."""
    total, visited, is_doubtful = _gradients_of(loss, together=checking.get() is None)
    if is_doubtful and not total.finite():
        total, visited, _ = _gradients_of(loss, together=False)
    return total.collect(), visited


def _gradients_of(loss: RecordedTensor, together: bool) -> tuple[_Gradients, list[Recording], bool]:
    """The same before it is collected. With `together`, gradients of shared operands are computed for several
    recordings at once; whether what is not finite then may come of what does not lead to the loss is the last."""
    total, later, is_doubtful = _Gradients(), Deferred(), False
    seeds: dict[Recording, list[Part]] = {loss._tape: [(np.array([loss._id]), np.ones((1, 1), loss.dtype))]}
    heap = [(-tape.serial, tape) for tape in seeds]
    heapq.heapify(heap)
    visited: list[Recording] = []

    def give(parts: Outside) -> None:
        for old, part in parts:
            if old not in seeds:
                seeds[old] = []
                heapq.heappush(heap, (-old.serial, old))
            seeds[old].append(part)

    while heap:
        _, tape = heapq.heappop(heap)
        if tape is CHANGED:
            what = "backward: it reaches a value of parameters that have changed since it was computed"
            repair = "recompute it after changing parameters, or use .detach() of it"
            raise user_error(RecordingError, what, repair=repair)
        if tape.state == ENDED:
            what = "backward: it reaches a recording that has ended"
            raise user_error(RecordingError, what, repair="call the earlier backward with retain=True, or detach")
        check_versions(tape)
        run, own = tape.run, _joined(seeds.pop(tape))
        is_again = tape.serial > loss._tape.serial
        if not is_again and tape not in visited:
            visited.append(tape)
        outside = replayed(tape, own) if tape.replays else []
        if outside:
            give(outside)  # first come the recordings that were made now
            continue
        is_one_of_several = bool(heap or tape.links.here.size or len(visited) > 1)
        with timed("reverse"):
            if together and is_one_of_several and isinstance(run, HostRun) and not is_again:
                _, outside, is_mixed = _reverse_run(tape, run, own, later)
                is_doubtful = is_doubtful or is_mixed or any(s.members for s in run.signatures)
                if later.n_bytes > MOST_DEFERRED:
                    _finish(later, total)
                    later = Deferred()
            else:
                outside = _reverse(tape, own, total)
        give(outside)
        if is_again:
            end(tape)
    with timed("reverse"):
        _finish(later, total)
    return total, visited, is_doubtful


def _finish(later: Deferred, total: _Gradients) -> None:
    """Compute gradients of shared operands that were deferred."""
    own = _Gradients()
    later.finish(own.add, own.add_rows)
    own.merge_rows()
    own.pull_back(later.memo)
    total.merge(own)


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Cotangents of values, those of one pool together; a value may be there several times."""
    if len(parts) == 1 or any(is_on_device(block) for _, block in parts):
        return list(parts)
    pools: dict[tuple[int, Any], list[Part]] = {}
    for part in parts:
        pools.setdefault((part[1].shape[1], part[1].dtype), []).append(part)
    return [
        (np.concatenate([v for v, _ in of_one]), np.concatenate([b for _, b in of_one])) for of_one in pools.values()
    ]


class _Gradients:
    """Cotangents of shared operands, dense or as rows; `merged` are those whose only rows are there once, ascending."""

    def __init__(self) -> None:
        self.dense: dict[Shared, Array] = {}
        self.sparse: dict[Shared, list[tuple[Array, Array]]] = {}
        self.merged: set[Shared] = set()

    def add(self, x: SharedOperand, g: Array) -> None:
        """Add a dense cotangent."""
        assert isinstance(x, Shared)
        self.dense[x] = self.dense[x] + g if x in self.dense else g

    def add_rows(self, x: SharedOperand, ids: Array, g: Array) -> None:
        """Add rows with these numbers."""
        assert isinstance(x, Shared)
        self.sparse.setdefault(x, []).append((ids, g))

    def merge_rows(self) -> None:
        """Merge the rows of each operand: parts may be in memory that is reused."""
        for x, parts in self.sparse.items():
            if x not in self.merged:
                once = _merged(parts, x)
                self.sparse[x] = [(once.rows, once.values)]
                self.merged.add(x)

    def merge(self, other: _Gradients) -> None:
        for x, g in other.dense.items():
            self.add(x, g)
        for x, parts in other.sparse.items():
            if x in self.sparse or x not in other.merged:
                self.merged.discard(x)
            else:
                self.merged.add(x)
            self.sparse.setdefault(x, []).extend(parts)

    def pull_back(self, memo: Memo) -> None:
        """Propagate what is of expressions to the parameters that these are made of."""
        for x in [x for x in self.sparse if isinstance(x, SharedExpression)]:
            self.add(x, _merged(self.sparse.pop(x), x).to_dense())
            self.merged.discard(x)
        expressions = [x for x in self.dense if isinstance(x, SharedExpression)]
        if expressions:
            pull_back({x: self.dense.pop(x) for x in expressions}, memo, self.add)

    def finite(self) -> bool:
        parts = [*self.dense.values(), *(rows for pairs in self.sparse.values() for _, rows in pairs)]
        return all(bool(np.isfinite(g).all()) for g in parts)

    def collect(self) -> list[tuple[Parameter, Gradient]]:
        """One gradient of its own for each parameter."""
        collected: list[tuple[Parameter, Gradient]] = []
        given: set[int] = set()
        for x in {**self.dense, **self.sparse}:
            if not isinstance(x, Parameter):
                continue
            dense, sparse = self.dense.get(x), self.sparse.get(x)
            rows = None
            if sparse:
                rows = SparseRows(*sparse[0], x.shape) if x in self.merged else _merged(sparse, x)
            if dense is None:
                assert rows is not None
                if rows.rows.size:  # of a table that nothing was looked up in there is none
                    collected.append((x, rows))
                continue
            is_own = (is_on_device(dense) or isinstance(dense.base, Loan)) and id(dense) not in given
            given.add(id(dense))
            g = (dense if is_own else copy_of(dense)).reshape(x.shape)
            if rows is not None:
                add_to_rows(g, rows)
            collected.append((x, g))
        return collected


def _merged(parts: list[tuple[Array, Array]], x: Shared) -> SparseRows:
    return merge_rows([ids for ids, _ in parts], [g for _, g in parts], x.shape)


def _reverse(tape: Recording, seeds: Sequence[Part], total: _Gradients) -> Outside:
    check = checking.get()
    checking.set(None)  # where something is not finite, the loop names the op in which it began
    try:
        part, outside = _reversed(tape, seeds)
    finally:
        checking.set(check)
    if check is not None and not (part.finite() and all(is_finite(block) for _, (_, block) in outside)):
        _reverse_run(tape, one_by_one(tape), seeds)  # which raises at the op
        raise user_error(NonFiniteError, "backward: a gradient is not finite")
    total.merge(part)
    return outside


def _reversed(tape: Recording, seeds: Sequence[Part]) -> tuple[_Gradients, Outside]:
    """Gradients of a recording, and cotangents of earlier recordings' values."""
    run = tape.run
    assert run is not None
    part, outside, is_mixed = _reverse_run(tape, run, seeds)
    joined = not isinstance(run, LoopRun) and any(s.members for s in run.signatures)
    if joined and not is_mixed and isinstance(run, DeviceRun):
        joined = not _all_lead_to(tape, seeds)  # what follows waits for the device
    if (is_mixed or joined) and not part.finite():
        # What does not lead to the loss shared a launch, or was joined, with what does; run again, apart.
        part, outside, _ = _reverse_run(tape, run_tape(tape, _values(seeds).tolist(), joined=False), seeds)
    return part, outside


def _values(seeds: Sequence[Part]) -> Array:
    """The values that cotangents are of, ascending."""
    found: Array = np.unique(np.concatenate([values for values, _ in seeds]))
    return found


def _all_lead_to(tape: Recording, seeds: Sequence[Part]) -> bool:
    """Whether every recorded node that is live and carries gradient leads to a seed."""
    assert tape.arrays is not None
    roots, values = tape.arrays.roots.tolist(), _values(seeds).tolist()
    if roots == values:
        return True
    recorded = Expansion(tape.arrays)
    live = gradient_of_nodes(tape, recorded, roots)
    return bool((live == gradient_of_nodes(tape, recorded, values)).all())


def _links_to(tape: Recording, run: HostRun | DeviceRun | LoopRun, seeds: Sequence[Part]) -> tuple[Links, Array | None]:
    """Values of earlier recordings that were computed and whose gradients lead to the seeds; and, of a batched run,
    all nodes whose gradients do."""
    links, values = tape.links, _values(seeds)
    if not isinstance(run, LoopRun):
        leading = nodes_leading(run, values)
        if links.here.size:
            links = links.only(run.is_placed(links.here))
            links = links.only(leading[run.tape.node_of(run.expansion.values(links.here))] != 0)
        return links, leading
    if links.here.size:
        assert tape.arrays is not None
        needs = gradient_of_nodes(tape, Expansion(tape.arrays), values.tolist())
        links = links.only(needs[tape.arrays.node_of(links.here)] != 0)
    return links, None


def _reverse_run(
    tape: Recording, run: HostRun | DeviceRun | LoopRun, seeds: Sequence[Part], later: Deferred | None = None
) -> tuple[_Gradients, Outside, bool]:
    """Gradients, cotangents of earlier recordings' values, and whether a launch was reversed for some of its nodes.
    With `later`, gradients are left to it."""
    own = _Gradients()
    links, leading = _links_to(tape, run, seeds)
    if isinstance(run, LoopRun):
        grads = run.reverse(_by_value(run, seeds), own.add, own.add_rows)
        own.pull_back(run.memo)
        _to_places(own)
        return own, _of_loop(tape, links, grads), False
    if isinstance(run, DeviceRun):
        back, is_mixed = run_backward_on_device(run, seeds, links.here, own.add, own.add_rows)
        outside = _returned(links, rows_of(run, links.here), lambda pool, rows: run.taken(back.pool(pool), rows))
    else:
        if not run.layout.reverse:  # else all pieces have run before
            needed = [s for s, is_needed in zip(run.signatures, run.needs_sig, strict=True) if is_needed]
            with compile_ahead(new_reverse_pieces(needed), run.backend) as team:
                team.finish()
        ready = run_backward(run, seeds, links.here, own.add, own.add_rows, leading, later)
        own.merge_rows()
        is_mixed = ready.is_mixed
        outside = _returned(links, ready.outside, lambda pool, rows: ready.pools[pool].take(rows, axis=0))
    own.pull_back(run.shared.memo)
    return own, outside, is_mixed


def _returned(links: Links, rows: Rows, take: Callable[[int, Array], Any]) -> Outside:
    """Cotangents of linked values, by the recordings that these are of. `take` copies rows of a pool."""
    n = links.here.size
    if not n:
        return []
    new_pool = np.flatnonzero(np.diff(rows.pool)) + 1
    blocks = []
    for a, b in itertools.pairwise([0, *new_pool.tolist(), n]):
        blocks.append((a, take(int(rows.pool[a]), rows.rows[rows.first[a] : rows.first[b]])))
    bounds = np.union1d(new_pool, np.flatnonzero(np.diff(links.source)) + 1).tolist()
    found = []
    for a, b in itertools.pairwise([0, *bounds, n]):
        start, block = blocks[bisect.bisect_right(blocks, a, key=itemgetter(0)) - 1]
        part = block[rows.first[a] - rows.first[start] : rows.first[b] - rows.first[start]]
        found.append((links.sources[links.source[a]], (links.value[a:b], part)))
    return found


def _of_loop(tape: Recording, links: Links, grads: dict[int, Array]) -> Outside:
    """The same of a recording that ran one by one, with cotangents by value."""
    assert tape.arrays is not None
    found: Outside = []
    types = [tape.row_types[s] for s in tape.arrays.sig[tape.arrays.node_of(links.here)].tolist()]
    for k, (id, type) in enumerate(zip(links.here.tolist(), types, strict=True)):
        if id in grads:
            rows = grads[id].reshape(type.rows, type.width)
            found.append((links.sources[links.source[k]], (links.value[k : k + 1], rows)))
    return found


def _by_value(run: LoopRun, seeds: Sequence[Part]) -> dict[int, Array]:
    """Cotangents as an array for each value."""
    found: dict[int, Array] = {}
    for values, block in seeds:
        numbers, at = to_host(block).reshape(-1), 0
        for value in values.tolist():
            like = run.values[value]
            g = numbers[at : at + like.size].reshape(like.shape)
            found[value] = found[value] + g if value in found else g
            at += like.size
    return found


def _to_places(own: _Gradients) -> None:
    """Move gradients that were computed on the host to the device of their parameters."""
    for x, g in own.dense.items():
        if (device_of([x]) is not None) is not is_on_device(g):
            own.dense[x] = to_device(np.asarray(g, x.dtype))
    for x, parts in own.sparse.items():
        if device_of([x]) is not None:
            own.sparse[x] = [(ids, to_device(np.asarray(g, x.dtype))) for ids, g in parts]


def gradients_of_shared(x: Shared) -> tuple[list[tuple[Parameter, Gradient]], Array]:
    """Gradients of a scalar that is computed from parameters alone, and its number."""
    memo: Memo = {}
    number = copy_of(evaluate_shared(x, memo))
    total = _Gradients()
    pull_back({x: np.ones((), x.dtype)}, memo, total.add)
    return [(p, in_place_of(p, g)) for p, g in total.collect()], number
