"""From a recording to values and gradients: the stages in order, and what begins and ends a recording.

flush: record → expand → schedule → place → execute. backward: flush, then mirror every recording that the loss
reaches, the latest first. A flush ends the recording of its thread; a tensor used later is brought over by a link,
through which its cotangent returns.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import heapq
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numba import njit

from .backends import current_backend
from .backends.device import current_device
from .backends.transfer import DEVICES, copy_of, is_on_device, plus, to_device, to_host
from .collector import flushed
from .compile.kernel import Kernel
from .compile.workers import compile_ahead
from .errors import CellError, NonFiniteError, OpIndexError, OpTypeError, RecordingError, message, user_line
from .expansion import expand_recording
from .parameter import Buffer, Gradient, Held, Parameter, accumulate, add_to_rows, before_change, merge_rows
from .planned import Planned, structure_of
from .run.device.execute import execute_on_device
from .run.device.layout import DeviceRun, lay_out
from .run.device.mirror import mirror_on_device
from .run.execute import Launch, Run, execute, gradient_needed, load, prepare
from .run.expand import Expansion
from .run.loop import LoopRun
from .run.memory import Lease, Loan
from .run.mirror import mirror
from .run.place import place
from .run.program import KERNEL, Tape
from .run.schedule import schedule
from .shared import (
    Shared,
    SharedExpression,
    device_of,
    evaluate_shared,
    flags,
    in_order,
    is_frozen,
    pull_back,
    refuse_if_kept,
)
from .signature import Signature
from .stages import active, timed
from .tape import DONE, ENDED, OPEN, Recording, assemble, signature_table, state
from .tensor import Tensor, iterate_tensors, new_tensor
from .types import Type

Array = np.ndarray[Any, Any]


def _baseline() -> int:
    """Reference count, as `held_tensors` sees it, of a tensor that only its recording holds."""
    tape = Recording(False, False)
    new_tensor(tape, 0, None)  # type: ignore[arg-type]
    return max(map(sys.getrefcount, tape.tensors))


_BASELINE = _baseline()


def held_tensors(tape: Recording, first: int = 0) -> list[Tensor]:
    """Tensors that somebody besides the recording holds, from one of its tensors on."""
    n = len(tape.tensors) - first
    counts = np.fromiter(map(sys.getrefcount, itertools.islice(tape.tensors, first, None)), np.int64, n)
    return [tape.tensors[first + i] for i in np.flatnonzero(counts > _BASELINE)]


# Values.


def compute(t: Tensor) -> Array:
    """The array of a tensor: run all live pending work if it is pending."""
    if state.builder is not None:
        raise CellError(
            message(
                "cell: a value cannot be forced inside a cell",
                where=user_line(2),
                repair="force it before, and pass the number as an argument",
            )
        )
    tape = t._tape
    if tape.state == OPEN:
        if tape.thread != threading.get_ident():
            raise RecordingError(
                message(
                    "a pending tensor of another thread cannot be forced here",
                    where=user_line(2),
                    repair="force it in its own thread first",
                )
            )
        if state.tape is not tape:
            raise RecordingError(
                message(
                    "the recording of this tensor was given up after an error",
                    where=user_line(2),
                    repair="record it anew",
                )
            )
        flush(tape, t)
    if tape.state == ENDED or tape.run is None:
        raise RecordingError(
            message(
                "a tensor is read after its recording has ended",
                where=user_line(2),
                repair="force it before backward(), return it from ab.map, or keep x.detach()",
            )
        )
    value: Array = tape.run.value(t._id, t._type)
    t._value = value
    return value


def evaluate(tree: Any) -> Any:
    """Force every tensor in nested lists, tuples and dicts; the same nesting of NumPy arrays.

    >>> import autobatch as ab
    >>> ab.evaluate({"a": ab.tensor(1.0) + 1, "b": [3]})
    {'a': array(2., dtype=float32), 'b': [3]}
    """
    together: dict[tuple[Any, Type], list[Tensor]] = {}
    for t in iterate_tensors(tree):
        if getattr(t, "_value", None) is None:
            if t._tape.state == DONE and isinstance(t._tape.run, DeviceRun):
                together.setdefault((t._tape, t._type), []).append(t)
            else:
                compute(t)
    on_host: dict[int, Array] = {}
    for (tape, type), group in together.items():
        block = tape.run.block([t._id for t in group], type)
        for k, (t, numbers) in enumerate(zip(group, to_host(block), strict=True)):
            t._value, on_host[id(t)] = block[k], np.asarray(numbers)
    return _replace(tree, on_host)


def _replace(tree: Any, on_host: dict[int, Array]) -> Any:
    if isinstance(tree, Tensor) and id(tree) in on_host:
        return np.array(on_host[id(tree)])
    if isinstance(tree, Tensor | Shared):
        return tree.numpy()
    if isinstance(tree, dict):
        return {k: _replace(v, on_host) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_replace(v, on_host) for v in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(_replace(v, on_host) for v in tree)
    return tree


def run_pending() -> None:
    """Run the live pending work of this thread, if there is any."""
    refuse_if_kept("pending work is run")
    tape = state.tape
    if tape is None:
        return
    if tape.count and not tape.torn:
        flush(tape, None)
    else:
        state.tape = None  # it was begun before what changes now


before_change.append(run_pending)


def flush(tape: Recording, target: Tensor | None, only: bool = False) -> None:
    """Run what is pending: all live nodes; `only` says that gradients are wanted of the target alone."""
    refuse_if_kept("a value is forced")
    state.tape = None
    if tape.torn:
        raise RecordingError(
            message(
                "a recording was given up: it was interrupted while it was written",
                where=user_line(2),
                repair="record it anew",
            )
        )
    held = held_tensors(tape)
    roots = sorted({t._id for t in held} | ({target._id} if target is not None else set()))
    tape.held = [weakref.ref(t) for t in held]
    with timed("assemble"):
        tape.arrays = assemble(tape, roots)
    tape.let_go()
    flushed()
    tape.targets = [target._id] if only and target is not None else None
    tape.run = run_tape(tape, tape.targets)
    tape.state = DONE


def run_tape(tape: Recording, targets: Sequence[int] | None, joined: bool = True) -> Any:
    """Schedule, place and execute a recording. With `targets`, gradients are prepared for what leads to them only;
    `joined`: runs of nodes that match a pattern become one node."""
    assert tape.arrays is not None
    memo: dict[Shared, Array] = {}
    check_versions(tape)
    backend = current_backend()
    device = current_device() if backend in DEVICES else None
    with timed("shared"):
        shared = [x for s in tape.signatures for x in s.shared]
        evaluate_shared(shared, memo, device, _on_host if tape.unbatched and device is not None else None)
    if tape.imports and (device is None or tape.unbatched):
        tape.payloads = [(id, to_host(array)) for id, array in tape.payloads]
    if tape.unbatched:
        plan_of = schedule(tape.arrays, "depth")
        with timed("forward"):
            return LoopRun(tape.arrays, tape.signatures, plan_of.live, dict(tape.payloads), memo)
    with timed("expand"):
        joined = joined and not state.check_finite  # what is not finite is to be found at its own op
        structure = None if tape.links else structure_of(tape.arrays, tape.signatures, targets, joined)
        known = structure.known if structure is not None else None
        if known is None:
            whole = structure.numbered() if structure is not None and structure.is_met else tape.arrays
            expansion, signatures, needs = prepared(tape, whole, targets, joined)
        else:
            known = known.of(tape.arrays)
            expansion, signatures, needs = known.expansion, known.signatures, known.needs
    with timed("forward"):
        pieces = _new_pieces(expansion, signatures, needs, targets is not None)
        team = compile_ahead(pieces, backend)
    with team:
        if known is None:
            known = _planned(tape.arrays, expansion, signatures, needs)
            if structure is not None and structure.is_met:
                structure.keep(known)
                known = known.of(tape.arrays)
            elif structure is not None:
                structure.keep(None)
        expansion, launches, plan = known.expansion, known.schedule, known.plan
        arrays = expansion.tape
        with timed("allocate"):
            wanted = np.zeros(len(signatures), bool)
            wanted[arrays.sig[(needs != 0) & (launches.live != 0)]] = True
            run: Run
            if device is not None:
                run = lay_out(expansion, launches, plan, signatures, memo, needs, wanted, tape, device)
            else:
                lease = Lease()
                pools = [
                    lease.empty((int(n), width), dtype)
                    for n, (width, dtype) in zip(plan.pool_rows, arrays.pools, strict=True)
                ]
                run = Run(expansion, launches, plan, signatures, backend, memo, pools, needs, lease)
                run.needs_sig = wanted
                run.facts = known.facts
                load(run, tape.payloads)
                prepare(run)
        with timed("forward"):
            team.finish()
            try:
                check = _finite_check(tape, run) if state.check_finite else None
                if isinstance(run, DeviceRun):
                    execute_on_device(run, check)
                else:
                    execute(run, check)
            except OpIndexError as error:
                if any(s.members for s in signatures):
                    # The error at its own op; an op that nobody reads has none.
                    return run_tape(tape, targets, joined=False)
                raise OpIndexError(f"{error}\n  in a recording that began at {tape.where(0)}") from None
        for profile in active.profiles:
            profile.note(run)
        return run


def _on_host(x: Shared) -> Any:
    """The numbers of a parameter that lies on the device, or of a constant, for the one-by-one loop."""
    if isinstance(x, Held):
        x._array_on(current_device())
        return x._on_host()
    return x._array()


def _planned(recorded: Tape, expansion: Expansion, signatures: list[Signature], needs: Any) -> Planned:
    """Schedule and place what was expanded."""
    with timed("schedule"):
        launches = schedule(expansion.tape)
    keep = bool((needs & launches.live).any())
    with timed("place"):
        plan = place(expansion.tape, launches, keep)
    return Planned(recorded.signatures, expansion, signatures, needs, launches, plan)


def _new_pieces(
    expansion: Expansion, signatures: Sequence[Signature], needs: Any, with_reverse: bool
) -> list[tuple[Kernel, str]]:
    """Pieces of kernels that this process runs for the first time: going forward, and in reverse as well."""
    unknown = [s for s, x in enumerate(signatures) if x.kind == KERNEL and "_met" not in x.__dict__]
    if not unknown:
        return []
    used, wanting = _uses(expansion.tape.sig, needs, len(signatures))
    pieces = []
    for s in unknown:
        if used[s]:
            signatures[s].__dict__["_met"] = True
            pieces.append((signatures[s].kernel, "forward" if wanting[s] else "inference"))
    return pieces + (_new_reverse_pieces([signatures[s] for s in unknown if wanting[s]]) if with_reverse else [])


@njit(cache=True)
def _uses(sig, needs, n_sigs):  # type: ignore[no-untyped-def]
    """Which signatures have nodes, and which have nodes that carry gradient."""
    used, wanting = np.zeros(n_sigs, np.bool_), np.zeros(n_sigs, np.bool_)
    for i in range(sig.size):
        used[sig[i]] = True
        if needs[i]:
            wanting[sig[i]] = True
    return used, wanting


def _new_reverse_pieces(signatures: Sequence[Signature]) -> list[tuple[Kernel, str]]:
    """Pieces of kernels that this process reverses for the first time."""
    unknown = [s for s in signatures if s.kind == KERNEL and "_met_in_reverse" not in s.__dict__]
    for s in unknown:
        s.__dict__["_met_in_reverse"] = True
    return [(s.kernel, piece) for s in unknown for piece in ("backward", "final") if s.kernel.graph_of(piece).outputs]


def prepared(
    tape: Recording, arrays: Tape, targets: Sequence[int] | None, joined: bool = True
) -> tuple[Expansion, list[Signature], Any]:
    """What is scheduled: tape, signatures, and which nodes carry gradient (to `targets`, or to any value)."""
    if tape.unbatched:
        expansion, signatures = Expansion(arrays), list(tape.signatures)
    else:
        expansion, signatures = expand_recording(arrays, tape.signatures, tape.place, joined)
    needs = _needs(tape, expansion, targets)
    if targets is not None:
        expansion = dataclasses.replace(expansion, tape=_apart(expansion.tape, signatures, needs))
    return expansion, signatures, needs


def _needs(tape: Recording, expansion: Expansion, targets: Sequence[int] | None) -> Any:
    arrays = expansion.tape
    table = arrays.signatures
    n_values = int(arrays.value_of[-1])
    linked = np.zeros(arrays.sig.size, np.uint8)
    links = [expansion.value(id) for id, _, _ in tape.links]
    linked[np.searchsorted(arrays.value_of, links, side="right") - 1] = 1
    target = np.ones(n_values, np.uint8)
    if targets is not None:
        target[:] = 0
        target[[expansion.value(value) for value in targets]] = 1
    return gradient_needed(
        arrays.sig,
        arrays.slot_of,
        arrays.arg_of,
        arrays.args,
        arrays.value_of,
        table.trainable,
        table.frozen,
        linked,
        target,
    )


def _apart(arrays: Tape, signatures: list[Signature], needs: Any) -> Tape:
    """Give nodes without gradient a signature of their own, so that they share no launch with nodes that have one."""
    kinds = arrays.signatures.kind
    sig = arrays.sig.copy()
    for s in np.unique(arrays.sig[(needs == 0) & (kinds[arrays.sig] == KERNEL)]).tolist():
        here = arrays.sig == s
        if signatures[s].frozen or not needs[here].any():
            continue
        variant = signatures[s].__dict__.get("_constant")
        if variant is None:
            variant = signatures[s].__dict__["_constant"] = dataclasses.replace(signatures[s], frozen=True)
            variant.__dict__["late"] = True
        sig[here & (needs == 0)] = len(signatures)
        signatures.append(variant)
    if len(signatures) == kinds.size:
        return arrays
    pools = {pool: k for k, pool in enumerate(arrays.pools)}
    table = signature_table(signatures, pools)
    return dataclasses.replace(arrays, sig=sig, signatures=table, pools=list(pools))


def leaves(tape: Recording) -> list[Parameter | Buffer]:
    """Parameters and buffers that a recording reads."""
    operands = in_order(x for s in tape.signatures for x in s.shared)
    return [x for x in operands if isinstance(x, Parameter | Buffer)]


def check_versions(tape: Recording) -> None:
    """Raise unless every parameter is as it was when the recording was made."""
    for p in leaves(tape):
        if p._version > tape.born:
            raise RecordingError(
                message(
                    f"a recording meets a parameter {p._type} that changed after it was made",
                    where=user_line(2),
                    repair="record again after changing parameters",
                )
            )


def _finite_check(tape: Recording, run: Run) -> Callable[[Launch, int], None]:
    def check(launch: Launch, number: int) -> None:
        for pool, start, rows in launch.writes:
            block = to_host(run.pools[pool][start : start + rows])
            if block.dtype.kind != "f" or np.isfinite(block).all():
                continue
            row = int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            first = int(run.schedule.launch_of[number])
            nodes = run.schedule.nodes[first : int(run.schedule.launch_of[number + 1])]
            node = int(nodes[min(row * len(nodes) // max(rows, 1), len(nodes) - 1)])
            bad = block[row][~np.isfinite(block[row])][0]
            raise NonFiniteError(
                message(
                    f"{run.signatures[launch.sig].name}: the first value that is not finite: {bad}",
                    where=tape.where(run.expansion.node(node)),
                    repair="look at the operands of this op",
                )
            )

    return check


@contextlib.contextmanager
def check_finite() -> Iterator[None]:
    """Inside the block the first NaN or infinity computed raises `NonFiniteError`, naming op and user line.

    >>> import autobatch as ab
    >>> with ab.check_finite():
    ...     float(ab.log(ab.tensor(1.0)))
    0.0
    """
    before, state.check_finite = state.check_finite, True
    try:
        yield
        run_pending()
    finally:
        state.check_finite = before


def node_of_value(tape: Recording, value: int) -> int:
    """The node that a value is a result of."""
    if tape.torn and tape.arrays is None:
        return -1
    arrays = tape.arrays if tape.arrays is not None else assemble(tape, ())
    return int(np.searchsorted(arrays.value_of, value, side="right")) - 1


def signature_of_value(tape: Recording, value: int) -> Signature | None:
    """The signature of the node that a value is a result of; None where it is no longer known."""
    if tape.arrays is None:
        return None
    return tape.signatures[int(tape.arrays.sig[node_of_value(tape, value)])]


# Gradients.


def backward(loss: Tensor, retain: bool = False) -> None:
    """See `Tensor.backward`."""
    _outside()
    if loss.shape:
        raise OpTypeError(
            message(
                "backward: only a scalar can be differentiated",
                expected="f[]",
                got=str(loss._type),
                where=user_line(2),
                repair="reduce it with ab.sum or ab.mean",
            )
        )
    if loss.dtype.kind != "f":
        raise OpTypeError(
            message("backward: only a floating value can be differentiated", got=str(loss._type), where=user_line(2))
        )
    tape = loss._tape
    if tape.state == ENDED:
        raise RecordingError(
            message(
                "backward: the recording has ended",
                where=user_line(2),
                repair="call the first backward with retain=True, or record again",
            )
        )
    if tape.state == OPEN and state.tape is not tape:
        raise RecordingError(
            message(
                "backward: the recording belongs to another thread or was given up",
                where=user_line(2),
                repair="record again in this thread",
            )
        )
    if tape.state == OPEN:
        flush(tape, loss, only=not retain)
    if getattr(loss, "_value", None) is None:
        compute(loss)
    with np.errstate(all="ignore"):
        gradients, visited = gradients_of({tape: {loss._id: np.ones((), loss.dtype)}})
        accumulate(gradients)
    if not retain:
        for recording in visited:
            end(recording)


def _outside() -> None:
    if state.depth or state.builder is not None:
        raise RecordingError(
            message(
                "backward: not possible inside ab.map or a cell",
                where=user_line(3),
                repair="use ab.grad there, and call backward on the result of ab.map",
            )
        )


def gradients_of(seeds: dict[Recording, dict[int, Array]]) -> tuple[list[tuple[Parameter, Gradient]], list[Recording]]:
    """Gradients of all parameters reached, and the recordings on the way; nothing is changed."""
    total = _Gradients()
    heap = [(-tape.serial, tape) for tape in seeds]
    heapq.heapify(heap)
    visited: list[Recording] = []
    while heap:
        _, tape = heapq.heappop(heap)
        if tape.state == ENDED:
            raise RecordingError(
                message(
                    "backward: it reaches a recording that has ended",
                    where=user_line(3),
                    repair="call the earlier backward with retain=True, or detach",
                )
            )
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
    """Cotangents of shared operands, dense or as rows."""

    def __init__(self) -> None:
        self.dense: dict[Shared, Array] = {}
        self.sparse: dict[Shared, list[tuple[Array, Array]]] = {}

    def merge(self, other: _Gradients) -> None:
        for x, g in other.dense.items():
            self.dense[x] = self.dense[x] + g if x in self.dense else g
        for x, parts in other.sparse.items():
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
            rows = merge_rows([ids for ids, _ in sparse], [g for _, g in sparse], x.shape) if sparse else None
            if dense is None:
                assert rows is not None
                collected.append((x, rows))
                continue
            is_own = (is_on_device(dense) or isinstance(dense.base, Loan)) and id(dense) not in given
            given.add(id(dense))
            g = (dense if is_own else copy_of(dense)).reshape(x.shape)
            if rows is not None:
                add_to_rows(g, rows)
            collected.append((x, g))
        return collected


def _reverse(tape: Recording, seeds: dict[int, Array], total: _Gradients) -> list[tuple[Recording, int, Array]]:
    run = tape.run
    part, outside, is_mixed = _reverse_run(tape, run, seeds)
    joined = not isinstance(run, LoopRun) and any(s.members for s in run.signatures)
    if joined and not is_mixed and isinstance(run, DeviceRun):
        joined = not _all_lead_to(tape, seeds)  # what follows waits for the device
    if (is_mixed or joined) and not part.finite():
        # What does not lead to the loss shared a launch, or was joined, with what does; run again, apart.
        part, outside, _ = _reverse_run(tape, run_tape(tape, list(seeds), joined=False), seeds)
    total.merge(part)
    return outside


def _all_lead_to(tape: Recording, seeds: dict[int, Array]) -> bool:
    """Whether every recorded node that is live and carries gradient leads to a seed."""
    assert tape.arrays is not None
    recorded = Expansion(tape.arrays)
    live = _needs(tape, recorded, tape.arrays.roots.tolist())
    return bool((live == _needs(tape, recorded, list(seeds))).all())


def _reverse_run(
    tape: Recording, run: Any, seeds: dict[int, Array]
) -> tuple[_Gradients, list[tuple[Recording, int, Array]], bool]:
    """Gradients, cotangents of earlier recordings' values, and whether a launch was reversed for some of its nodes."""
    own = _Gradients()

    def dense(x: Shared, g: Array) -> None:
        own.dense[x] = own.dense[x] + g if x in own.dense else g

    def rows(x: Shared, ids: Array, g: Array) -> None:
        own.sparse.setdefault(x, []).append((ids, g))

    outside, is_mixed = [], False
    if isinstance(run, LoopRun):
        grads = run.reverse({value: to_host(g) for value, g in seeds.items()}, dense, rows)
        outside = [(old, value, grads[id]) for id, old, value in tape.links if id in grads]
    elif isinstance(run, DeviceRun):
        linked = [id for id, _, _ in tape.links if run.is_placed(id)]
        cotangents, is_mixed = mirror_on_device(run, seeds, linked, dense, rows)
        for id, old, value in tape.links:
            if id in cotangents:
                outside.append((old, value, cotangents[id].reshape(tape_payload(tape, id).shape)))
    else:
        needed = [s for s, is_needed in zip(run.signatures, run.needs_sig, strict=True) if is_needed]
        with compile_ahead(_new_reverse_pieces(needed), run.backend) as team:
            team.finish()
        lease = Lease()
        linked = [id for id, _, _ in tape.links if run.is_placed(id)]
        pools, is_mixed = mirror(run, seeds, linked, dense, rows, lease)
        for id, old, value in tape.links:
            if run.is_placed(id):
                pool, where = run.rows(id)
                outside.append((old, value, np.array(pools[pool][where]).reshape(tape_payload(tape, id).shape)))
    final = _Gradients()
    expressions: dict[Shared, Array] = {x: g for x, g in own.dense.items() if isinstance(x, SharedExpression)}
    for x in [x for x in own.sparse if isinstance(x, SharedExpression)]:
        merged = merge_rows([i for i, _ in own.sparse[x]], [g for _, g in own.sparse[x]], x.shape).to_dense()
        expressions[x] = expressions[x] + merged if x in expressions else merged
    final.dense = {x: g for x, g in own.dense.items() if x not in expressions}
    final.sparse = {x: parts for x, parts in own.sparse.items() if x not in expressions}

    def give(x: Shared, g: Array) -> None:
        final.dense[x] = final.dense[x] + g if x in final.dense else g

    pull_back(expressions, run.memo, give)
    if isinstance(run, LoopRun):
        _to_places(final)
    return final, outside, is_mixed


def _to_places(own: _Gradients) -> None:
    """Move gradients that were computed on the host to where their parameters lie."""
    for x, g in own.dense.items():
        if (device_of([x]) is not None) is not is_on_device(g):
            own.dense[x] = to_device(np.asarray(g, x.dtype))
    for x, parts in own.sparse.items():
        if device_of([x]) is not None:
            own.sparse[x] = [(ids, to_device(np.asarray(g, x.dtype))) for ids, g in parts]


def tape_payload(tape: Recording, id: int) -> Array:
    """The array from outside with this value number."""
    return tape.payloads[bisect.bisect_left(tape.payloads, (id,))][1]


def end(tape: Recording) -> None:
    """End a recording: copy out what stays readable, and let go of the rest."""
    held = [t for t in (reference() for reference in tape.held) if t is not None and not hasattr(t, "_value")]
    if held and tape.arrays is not None:
        arrays, results = tape.arrays, tape.results
        constant = np.array([s.frozen or s.name == "stop_gradient" for s in tape.signatures])
        nodes = np.searchsorted(arrays.value_of, [t._id for t in held], side="right") - 1
        groups: dict[Type, list[Tensor]] = {}
        for t, is_constant in zip(held, constant[arrays.sig[nodes]].tolist(), strict=True):
            if is_constant or t._id in results:
                groups.setdefault(t._type, []).append(t)
        for type, group in groups.items():
            for t, value in zip(group, tape.run.copies([t._id for t in group], type), strict=True):
                t._value = value
    if isinstance(tape.run, DeviceRun):
        tape.moment = tape.run.device.mark()
    tape.run = None
    tape.state = ENDED
    tape.payloads = []


# Modes.


class no_grad:
    """Context manager and decorator: what is recorded inside is constant, no gradient flows through it.

    >>> import autobatch as ab
    >>> w = ab.Parameter(2.0)
    >>> with ab.no_grad():
    ...     y = w * 3
    >>> (w * y).backward(); float(w.grad)
    6.0
    """

    def __enter__(self) -> None:
        self._before = is_frozen()
        freeze(True)

    def __exit__(self, *error: object) -> None:
        freeze(self._before)

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return fn(*args, **kwargs)

        wrapped.__name__, wrapped.__doc__ = fn.__name__, fn.__doc__
        return wrapped


def freeze(flag: bool) -> None:
    """Record constants from now on, or values that have gradients."""
    tape = state.tape
    if tape is not None:
        if flag and not is_frozen():
            tape.frozen_from = tape.count
        tape.cache = tape.caches[flag]
    flags.frozen = flag


def shared_backward(x: Shared) -> None:
    """Backward pass of a scalar that is computed from parameters alone."""
    _outside()
    if x.shape or x.dtype.kind != "f":
        raise OpTypeError(
            message(
                "backward: only a floating scalar can be differentiated",
                got=str(x._type),
                where=user_line(2),
                repair="reduce it with ab.sum or ab.mean",
            )
        )
    memo: dict[Shared, Array] = {}
    device = device_of([x])
    evaluate_shared([x], memo, device)
    total = _Gradients()

    def give(leaf: Shared, g: Array) -> None:
        total.dense[leaf] = total.dense[leaf] + g if leaf in total.dense else g

    with np.errstate(all="ignore"):
        pull_back({x: np.ones((), x.dtype)}, memo, give)
        accumulate([(p, _as(g, p.dtype)) for p, g in total.collect()])


def _as(g: Any, dtype: np.dtype[Any]) -> Any:
    return g.astype(dtype, copy=False) if is_on_device(g) else np.asarray(g, dtype)
