"""Gradients of runs: a backward pass of every recording that a loss reaches, the latest first.

Input: cotangents of values of recordings that ran. Output: gradients of parameters, each its own; nothing is changed.
A recording that uses values of an earlier one passes their cotangents to it.
"""

from __future__ import annotations

import bisect
import heapq

import numpy as np

from ..backends.host.arena import Loan
from ..backends.transfer import copy_of, is_on_device, plus, to_device, to_host
from ..base.clocks import timed
from ..base.errors import NonFiniteError, RecordingError, user_error
from ..base.types import Array
from ..compile.host.workers import compile_ahead
from ..expand.gradient_flow import gradient_of_nodes
from ..record.context import checking
from ..record.expressions import pull_back
from ..record.parameter import Gradient, Parameter, SparseRows, add_to_rows, in_place_of, merge_rows
from ..record.shared import Memo, Shared, SharedExpression, device_of, evaluate_shared
from ..record.tape import CHANGED, ENDED, Recording
from ..run.backward import run_backward
from ..run.device.backward import run_backward_on_device
from ..run.device.layout import DeviceRun
from ..run.execute import HostRun
from ..run.one_by_one import LoopRun
from ..run.protocols import SharedOperand
from ..schedule.structures import Expansion
from .finite import is_finite
from .forward import check_versions, new_reverse_pieces, one_by_one, run_tape


def gradients_of(seeds: dict[Recording, dict[int, Array]]) -> tuple[list[tuple[Parameter, Gradient]], list[Recording]]:
    """Gradients of all parameters reached, and the recordings on the way; nothing is changed."""
    total = _Gradients()
    heap = [(-tape.serial, tape) for tape in seeds]
    heapq.heapify(heap)
    visited: list[Recording] = []
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
        visited.append(tape)
        with timed("reverse"):
            outside = _reverse(tape, seeds[tape], total)
        for old, value, g in outside:
            if old not in seeds:
                seeds[old] = {}
                heapq.heappush(heap, (-old.serial, old))
            seeds[old][value] = plus(seeds[old][value], g) if value in seeds[old] else g
    return total.collect(), visited


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


def _reverse(tape: Recording, seeds: dict[int, Array], total: _Gradients) -> list[tuple[Recording, int, Array]]:
    check = checking.get()
    checking.set(None)  # where something is not finite, the loop names the op in which it began
    try:
        part, outside = _reversed(tape, seeds)
    finally:
        checking.set(check)
    if check is not None and not (part.finite() and all(is_finite(g) for _, _, g in outside)):
        _reverse_run(tape, one_by_one(tape), seeds)  # which raises at the op
        raise user_error(NonFiniteError, "backward: a gradient is not finite")
    total.merge(part)
    return outside


def _reversed(tape: Recording, seeds: dict[int, Array]) -> tuple[_Gradients, list[tuple[Recording, int, Array]]]:
    """Gradients of a recording, and cotangents of earlier recordings' values."""
    run = tape.run
    assert run is not None
    part, outside, is_mixed = _reverse_run(tape, run, seeds)
    joined = not isinstance(run, LoopRun) and any(s.members for s in run.signatures)
    if joined and not is_mixed and isinstance(run, DeviceRun):
        joined = not _all_lead_to(tape, seeds)  # what follows waits for the device
    if (is_mixed or joined) and not part.finite():
        # What does not lead to the loss shared a launch, or was joined, with what does; run again, apart.
        part, outside, _ = _reverse_run(tape, run_tape(tape, list(seeds), joined=False), seeds)
    return part, outside


def _all_lead_to(tape: Recording, seeds: dict[int, Array]) -> bool:
    """Whether every recorded node that is live and carries gradient leads to a seed."""
    assert tape.arrays is not None
    roots = tape.arrays.roots.tolist()
    if roots == sorted(seeds):
        return True
    recorded = Expansion(tape.arrays)
    live = gradient_of_nodes(tape, recorded, roots)
    return bool((live == gradient_of_nodes(tape, recorded, list(seeds))).all())


def _links_to(tape: Recording, seeds: dict[int, Array]) -> list[tuple[int, Recording, int]]:
    """Values of earlier recordings whose gradients lead to the seeds."""
    if not tape.links:
        return []
    assert tape.arrays is not None
    needs = gradient_of_nodes(tape, Expansion(tape.arrays), list(seeds))
    nodes = tape.arrays.node_of([id for id, _, _ in tape.links])
    return [link for link, is_needed in zip(tape.links, needs[nodes].tolist(), strict=True) if is_needed]


def _reverse_run(
    tape: Recording, run: HostRun | DeviceRun | LoopRun, seeds: dict[int, Array]
) -> tuple[_Gradients, list[tuple[Recording, int, Array]], bool]:
    """Gradients, cotangents of earlier recordings' values, and whether a launch was reversed for some of its nodes."""
    own = _Gradients()
    outside, is_mixed, links = [], False, _links_to(tape, seeds)
    if isinstance(run, LoopRun):
        grads = run.reverse({value: to_host(g) for value, g in seeds.items()}, own.add, own.add_rows)
        outside = [(old, value, grads[id]) for id, old, value in links if id in grads]
    else:
        linked = [id for id, _, _ in links if run.is_placed(id)]
        if isinstance(run, DeviceRun):
            cotangents, is_mixed = run_backward_on_device(run, seeds, linked, own.add, own.add_rows)
        else:
            if not run.layout.reverse:  # else all pieces have run before
                needed = [s for s, is_needed in zip(run.signatures, run.needs_sig, strict=True) if is_needed]
                with compile_ahead(new_reverse_pieces(needed), run.backend) as team:
                    team.finish()
            reversed_run = run_backward(run, seeds, linked, own.add, own.add_rows)
            own.merge_rows()
            is_mixed, pools = reversed_run.is_mixed, reversed_run.pools
            cotangents = {id: np.array(pools[pool][rows]) for id in linked for pool, rows in (run.rows(id),)}
        for id, old, value in links:
            if id in cotangents:
                outside.append((old, value, cotangents[id].reshape(tape_payload(tape, id).shape)))
    for x in [x for x in own.sparse if isinstance(x, SharedExpression)]:
        own.add(x, _merged(own.sparse.pop(x), x).to_dense())
        own.merged.discard(x)
    expressions = [x for x in own.dense if isinstance(x, SharedExpression)]
    pull_back({x: own.dense.pop(x) for x in expressions}, run.memo, own.add)
    if isinstance(run, LoopRun):
        _to_places(own)
    return own, outside, is_mixed


def _to_places(own: _Gradients) -> None:
    """Move gradients that were computed on the host to the device of their parameters."""
    for x, g in own.dense.items():
        if (device_of([x]) is not None) is not is_on_device(g):
            own.dense[x] = to_device(np.asarray(g, x.dtype))
    for x, parts in own.sparse.items():
        if device_of([x]) is not None:
            own.sparse[x] = [(ids, to_device(np.asarray(g, x.dtype))) for ids, g in parts]


def tape_payload(tape: Recording, id: int) -> Array:
    """The host input with this value number."""
    return tape.payloads[bisect.bisect_left(tape.payloads, (id,))][1]


def gradients_of_shared(x: Shared) -> tuple[list[tuple[Parameter, Gradient]], Array]:
    """Gradients of a scalar that is computed from parameters alone, and its number."""
    memo: Memo = {}
    number = copy_of(evaluate_shared(x, memo))
    total = _Gradients()
    pull_back({x: np.ones((), x.dtype)}, memo, total.add)
    return [(p, in_place_of(p, g)) for p, g in total.collect()], number
