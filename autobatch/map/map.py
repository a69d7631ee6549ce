"""`ab.map`: one call per example, recorded together; or, with `batched=False`, one example after the other.

Examples that force values wait for each other (`fibers`).
With `reuse=True` what an example recorded is kept, and replayed (`store`) when the same example comes again.
The last overload has many arguments, one for each sequence, as that of the builtin `map`; `map` is so long because of
what its docstring has to say.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar, overload

from ..base.clocks import timed
from ..base.errors import RecordingError, op_error, user_error
from ..base.interrupts import original
from ..engine.flush import flush, give_up_unheld, run_own_pending
from ..record.context import flags
from ..record.lengths import switched
from ..record.random import signed, sync
from ..record.tape import current_tape, own_tape, refuse_inside, state
from ..record.tensor import iterate_tensors
from ..schedule.policies import PolicyName, chosen
from .encoded import Mark, mark
from .examples import Examples, present, put_back
from .fibers import FiberMap
from .store import keys_of, own_store

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
R = TypeVar("R")
Reuse = bool | Literal["check"]
Many = Iterable[Any]
Calls = tuple[Callable[..., Any], list[list[Any]], int, int]
"""The function, its arguments one sequence each, which map of its stream it is, and the stream."""


@overload
def map(
    fn: Callable[[A], R],
    xs: Iterable[A],
    /,
    *,
    batched: bool = True,
    reuse: Reuse = False,
    at_once: int | None = None,
    schedule: PolicyName | None = None,
) -> list[R]: ...
@overload
def map(
    fn: Callable[[A, B], R],
    xs: Iterable[A],
    ys: Iterable[B],
    /,
    *,
    batched: bool = True,
    reuse: Reuse = False,
    at_once: int | None = None,
    schedule: PolicyName | None = None,
) -> list[R]: ...
@overload
def map(
    fn: Callable[[A, B, C], R],
    xs: Iterable[A],
    ys: Iterable[B],
    zs: Iterable[C],
    /,
    *,
    batched: bool = True,
    reuse: Reuse = False,
    at_once: int | None = None,
    schedule: PolicyName | None = None,
) -> list[R]: ...
@overload
def map(
    fn: Callable[..., R],
    a: Many,
    b: Many,
    c: Many,
    d: Many,
    /,
    *more: Many,
    batched: bool = True,
    reuse: Reuse = False,
    at_once: int | None = None,
    schedule: PolicyName | None = None,
) -> list[R]: ...
def map(
    fn: Callable[..., Any],
    *sequences: Iterable[Any],
    batched: bool = True,
    reuse: Reuse = False,
    at_once: int | None = None,
    schedule: PolicyName | None = None,
) -> list[Any]:
    """Call `fn` for each example and return the list of its results, any nesting of tensors.

    With one sequence `fn(x)` is called for each x, with several `fn(x, y, …)` for corresponding elements; unequal
    lengths raise `ValueError`, no examples give `[]`. Nothing is computed until a value is forced or `backward` runs.
    With `batched=False` each example runs by itself, at once, by the interpreter: the one-by-one loop of tests and
    debugging, with the same random streams; inside `ab.grad` and its like it is recorded there, and runs with the rest.
    An exception of `fn` gets a note with the example's index.

    Where `fn` forces a value (`float(y)`, `if y > 0`, `y.numpy()`), its example waits, and others go on. When none can,
    all that is pending runs as one batch, and all go on. Examples therefore take turns at these lines, and should share
    nothing else that changes: no file, generator or lock. With `at_once=n` a further example begins only while fewer
    than n are under way, which bounds the memory of those that wait; results do not depend on it. An exception in one
    example ends the others at the lines where they wait, and their `finally` blocks run. Context variables and modes
    that `fn` sets are its example's.

    `schedule` orders the launches of what is recorded here; None is the policy of `ab.set_schedule`, where the policies
    are described. Where several maps run together, the last that names a policy decides, and inside of a map that map.

    With `reuse=True` the recording of each example is kept, and replayed when the same example (the same object; of
    numbers and strings an equal one) is mapped again by the same function: `fn` is not called. Random draws are fresh,
    and changed numbers of parameters are seen. Another mode, default dtype or backend, and a change in anything that
    `fn` reads through functions of the user (modules, closures, globals, attributes of objects and classes, what
    containers and small arrays hold), gives a recording of its own. What changes inside an example is not noticed: call
    `ab.forget()` then. `reuse="check"` calls `fn` each time and raises `RecordingError` where what it records is not
    what is kept. Each thread keeps up to 1 GB of recordings, and the examples they belong to; those used longest ago go
    first, and those of models that are no longer referenced.

    A recording that cannot be replayed raises `RecordingError`: where `fn` forces a value, reads the numbers of a
    parameter, asks for `ab.rng()`, depends on tensors recorded outside of it, puts tensors elsewhere than into its
    result, or changes what it reads. With `batched=False`, inside `ab.grad` and another such map, all is recorded anew.

    >>> [float(y) for y in ab.map(lambda x: ab.tensor(x) * 2, [1.0, 2.0])]
    [2.0, 4.0]
    >>> examples = [[1.0, 2.0], [3.0]]
    >>> for epoch in range(2):  # the second epoch records nothing
    ...     totals = ab.map(lambda xs: ab.tensor(xs).sum(), examples, reuse=True)
    >>> [float(y) for y in totals]
    [3.0, 3.0]
    """
    refuse_inside("map", "pass a list to the cell and iterate over it", of_maps=False)
    columns = _columns(sequences, reuse, at_once)
    if schedule is not None:
        chosen(schedule, "map")
    sync()
    call = state.maps
    state.maps = call + 1
    saved = present(), flags.kept, gc.isenabled(), state.policy
    stream, inside = state.stream, state.depth > 0
    tape = own_tape()
    # A function that is differentiated has one recording: its examples are recorded there, one after the other.
    alone = not batched and not state.unbatched and (tape is None or not tape.sweeps)
    if alone:
        run_own_pending()
    elif not inside:
        give_up_unheld()
    try:
        try:
            state.depth += 1
            if not inside:
                state.policy = schedule
            state.training = bool(getattr(getattr(fn, "__self__", None), "training", state.training))
            state.unbatched = state.unbatched or alone
            calls = fn, columns, call, stream
            if inside:
                results = _call_each(calls, alone, at_once)
            else:
                # Recording makes many small objects that live until the flush; looking for cycles costs a third.
                gc.disable()
                with timed("record"):
                    is_kept = reuse and not (state.unbatched or flags.kept or current_tape().sweeps)
                    check = reuse == "check"
                    results = _call_or_replay(calls, check) if is_kept else _call_each(calls, alone, at_once)
        except SystemError as error:
            raise original(error) from None
        finally:
            _put_back(saved, alone)
    finally:
        _put_back(saved, alone)  # again: Ctrl-C may have cut the first one short
    if not state.depth and not alone:
        _note_results(results)
        if state.tape is not None:
            state.tape.examples += len(results)
            state.tape.policy = schedule or state.tape.policy
    return results


def _columns(sequences: tuple[Iterable[Any], ...], reuse: Any, at_once: Any) -> list[list[Any]]:
    """The sequences as lists; raises where an argument is not one that `map` takes."""
    if not sequences:
        raise op_error("map", "there is no sequence", repair="pass one sequence for each argument of the function")
    if reuse not in (False, True, "check"):
        raise op_error("map", 'reuse is False, True or "check"', got=repr(reuse))
    if at_once is not None and (isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1):
        raise op_error("map", "at_once is the number of examples under way", expected="1 or more", got=repr(at_once))
    columns = [list(s) for s in sequences]
    if len({len(c) for c in columns}) > 1:
        raise op_error("map", "sequences of unequal length", got=", ".join(str(len(c)) for c in columns))
    return columns


def _call_each(calls: Calls, alone: bool, at_once: int | None) -> list[Any]:
    tape = own_tape()
    if not state.unbatched and not flags.kept and (tape is None or not tape.sweeps):
        return FiberMap(*calls, at_once=at_once).run()
    examples = Examples(*calls)
    while examples.began < len(examples.arguments):
        result = examples.call_next()
        if alone:
            _note_results(result)
            if state.tape is not None:
                flush(state.tape, None)
    return examples.results


def _call_or_replay(calls: Calls, check: bool) -> list[Any]:
    """Replay what is kept, record the rest and keep it; with `check` record all and compare."""
    fn, columns, call, stream = calls
    examples = Examples(*calls)
    tape, store, forms = current_tape(), own_store(), switched[0]
    context = store.context(fn)
    keys = keys_of(columns)
    rows = [None] * len(keys) if check else store.rows(context, keys)
    results: list[Any] = []
    marks: list[Mark] = []
    paths: dict[int, Any] = {}
    known: list[int] = []
    for index, row in enumerate([*rows, None]):
        if row is not None:
            known.append(row)
            continue
        if known:
            results += store.replay(tape, known, range(index - len(known), index), stream, call)
            known = []
        if index == len(keys):
            break
        before = mark(tape)
        paths[signed(examples.stream(index))] = ()
        flags.kept, flags.kept_from, state.paths = True, tape.count, paths
        results.append(examples.call(index))
        marks.append(Mark(index, keys[index], before, mark(tape)))
    flags.kept = False
    if marks and switched[0] == forms:  # else what was recorded is in other forms than it will be the next time
        now = store.context(fn)
        if now.surroundings != context.surroundings:
            what = "map: a recording cannot be reused: the function changes a module or name that it reads"
            raise user_error(RecordingError, what, repair="change it outside of the function, or leave out reuse=True")
        store.keep(tape, context, marks, examples.arguments, results, paths)
    return results


def _put_back(saved: tuple[Any, ...], alone: bool) -> None:
    before, flags.kept, collecting, state.policy = saved
    put_back(before)
    if alone:
        state.tape = None
    if not state.depth:
        state.forcing = state.known = None
    if collecting:
        gc.enable()


def _note_results(results: Any) -> None:
    for t in iterate_tensors(results):
        t._tape.results.add(t._id)
