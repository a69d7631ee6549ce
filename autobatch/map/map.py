"""`ab.map`: one call per example, recorded together; or, with `batched=False`, one example after the other.

With `reuse=True` what an example recorded is kept, and replayed (`store`) when the same example comes again.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar, overload

from ..base.clocks import timed
from ..base.errors import RecordingError, op_error, user_error
from ..base.interrupts import original
from ..engine.flush import flush, give_up_unheld, run_own_pending
from ..record.context import flags
from ..record.random import example_stream, map_stream, signed, sync
from ..record.tape import current_tape, refuse_inside, state
from ..record.tensor import iterate_tensors
from .encoded import Mark, mark
from .store import keys_of, own_store

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
R = TypeVar("R")
Reuse = bool | Literal["check"]
Many = Iterable[Any]


@overload
def map(fn: Callable[[A], R], xs: Iterable[A], /, *, batched: bool = True, reuse: Reuse = False) -> list[R]: ...
@overload
def map(
    fn: Callable[[A, B], R], xs: Iterable[A], ys: Iterable[B], /, *, batched: bool = True, reuse: Reuse = False
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
) -> list[R]: ...
@overload
def map(
    fn: Callable[..., R], a: Many, b: Many, c: Many, d: Many, /, *more: Many, batched: bool = True, reuse: Reuse = False
) -> list[R]: ...
def map(fn: Callable[..., Any], *sequences: Iterable[Any], batched: bool = True, reuse: Reuse = False) -> list[Any]:
    """Call `fn` for each example and return the list of its results, any nesting of tensors.

    With one sequence `fn(x)` is called for each x, with several `fn(x, y, …)` for corresponding elements; unequal
    lengths raise `ValueError`, no examples give `[]`. Nothing is computed until a value is forced or `backward` runs.
    With `batched=False` each example runs by itself, at once, by the interpreter: the one-by-one loop of tests and
    debugging, with the same random streams. An exception of `fn` gets a note with the example's index.

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
    result, or changes what it reads. With `batched=False`, inside `ab.grad`, and inside another such map, everything is
    recorded anew.

    >>> [float(y) for y in ab.map(lambda x: ab.tensor(x) * 2, [1.0, 2.0])]
    [2.0, 4.0]
    >>> examples = [[1.0, 2.0], [3.0]]
    >>> for epoch in range(2):  # the second epoch records nothing
    ...     totals = ab.map(lambda xs: ab.tensor(xs).sum(), examples, reuse=True)
    >>> [float(y) for y in totals]
    [3.0, 3.0]
    """
    refuse_inside("map", "pass a list to the cell and iterate over it", of_maps=False)
    if not sequences:
        raise op_error("map", "there is no sequence", repair="pass one sequence for each argument of the function")
    if reuse not in (False, True, "check"):
        raise op_error("map", 'reuse is False, True or "check"', got=repr(reuse))
    columns = [list(s) for s in sequences]
    if len({len(c) for c in columns}) > 1:
        raise op_error("map", "sequences of unequal length", got=", ".join(str(len(c)) for c in columns))
    sync()
    call = state.maps
    state.maps = call + 1
    before = state.stream, state.draws, state.maps, state.example, state.training, state.unbatched, state.depth
    saved = (*before, flags.kept, state.paths, gc.isenabled())
    stream, inside = state.stream, state.depth > 0
    alone = not batched and not state.unbatched
    if alone:
        run_own_pending()
    elif not inside:
        give_up_unheld()
    try:
        try:
            state.depth += 1
            state.training = bool(getattr(getattr(fn, "__self__", None), "training", state.training))
            state.unbatched = state.unbatched or not batched
            if inside:
                results = _call_each(fn, columns, call, stream, alone)
            else:
                # Recording makes many small objects that live until the flush; looking for cycles costs a third.
                gc.disable()
                with timed("record"):
                    if reuse and not state.unbatched and not flags.kept and not current_tape().sweeps:
                        results = _call_or_replay(fn, columns, call, stream, reuse == "check")
                    else:
                        results = _call_each(fn, columns, call, stream, alone)
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
    return results


def _call_each(fn: Callable[..., Any], columns: list[list[Any]], call: int, stream: int, alone: bool) -> list[Any]:
    results: list[Any] = []
    index = -1
    whole = map_stream(stream, call)
    try:
        for index, arguments in enumerate(zip(*columns, strict=True)):
            _enter(whole, stream, call, index)
            results.append(fn(*arguments))
            if alone:
                _note_results(results[-1])
                tape = state.tape
                if tape is not None:
                    flush(tape, None)
    except Exception as error:
        _add_notes(error, index)
        raise
    return results


def _add_notes(error: Exception, index: int) -> None:
    """Say which example an error belongs to, and the way out of a recursion that is too deep."""
    is_inner = not getattr(error, "__notes__", None)
    error.add_note(f"in example {index} of ab.map")
    if is_inner and isinstance(error, RecursionError):
        depth = len(list(traceback.walk_tb(error.__traceback__)))
        error.add_note(
            f"repair: the recursion went {depth:,} calls deep, and Python's "
            f"limit is {sys.getrecursionlimit():,}: raise it with sys.setrecursionlimit (in a thread, whose stack "
            "threading.stack_size makes large enough), or walk the example with a loop and a list of what is to be done"
        )


def _enter(whole: int, stream: int, call: int, index: int) -> None:
    """Begin an example of a map that was called in `stream`, and whose own stream is `whole`."""
    state.stream = own = example_stream(whole, index)
    state.draws = 0
    state.maps = 0
    state.example = index
    if state.paths is not None:
        state.paths[signed(own)] = (*state.paths.get(signed(stream), ()), (call, index))


def _call_or_replay(fn: Callable[..., Any], columns: list[list[Any]], call: int, stream: int, check: bool) -> list[Any]:
    """Replay what is kept, record the rest and keep it; with `check` record all and compare."""
    tape, store = current_tape(), own_store()
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
        flags.kept, state.paths = True, None
        _enter(map_stream(stream, call), stream, call, index)
        paths[signed(state.stream)] = ()
        state.paths = paths
        try:
            results.append(fn(*(column[index] for column in columns)))
        except Exception as error:
            _add_notes(error, index)
            raise
        marks.append(Mark(index, keys[index], before, mark(tape)))
    flags.kept = False
    if marks:
        now = store.context(fn)
        if now.surroundings != context.surroundings:
            what = "map: a recording cannot be reused: the function changes a module or name that it reads"
            raise user_error(RecordingError, what, repair="change it outside of the function, or leave out reuse=True")
        store.keep(tape, context, marks, list(zip(*columns, strict=True)), results, paths)
    return results


def _put_back(saved: tuple[Any, ...], alone: bool) -> None:
    *before, flags.kept, state.paths, collecting = saved
    state.stream, state.draws, state.maps, state.example, state.training, state.unbatched, state.depth = before
    if alone:
        state.tape = None
    if not state.depth:
        state.forcing = None
    if collecting:
        gc.enable()


def _note_results(results: Any) -> None:
    for t in iterate_tensors(results):
        t._tape.results.add(t._id)
