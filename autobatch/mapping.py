"""`ab.map`: one call per example, recorded together; or, with `batched=False`, one example after the other."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

from .engine import flush, run_pending
from .errors import CellError, message, user_line
from .random import _sync, child_stream
from .stages import timed
from .tape import state
from .tensor import iterate_tensors


def map(fn: Callable[..., Any], *sequences: Iterable[Any], batched: bool = True) -> list[Any]:
    """Call `fn` for each example and return the list of its results, any nesting of tensors.

    With one sequence `fn(x)` is called for each x, with several `fn(x, y, …)` for corresponding elements; unequal
    lengths raise `ValueError`, no examples give `[]`. Nothing is computed until a value is forced or `backward` runs.
    With `batched=False` each example runs by itself, at once, by the interpreter: the one-by-one loop of tests and
    debugging, with the same random streams. An exception of `fn` gets a note with the example's index.

    >>> import autobatch as ab
    >>> [float(y) for y in ab.map(lambda x: ab.tensor(x) * 2, [1.0, 2.0])]
    [2.0, 4.0]
    """
    if state.builder is not None:
        raise CellError(
            message(
                "map: not possible inside a cell",
                where=user_line(2),
                repair="pass a list to the cell and iterate over it",
            )
        )
    if not sequences:
        raise TypeError("map() needs at least one sequence")
    columns = [list(s) for s in sequences]
    if len({len(c) for c in columns}) > 1:
        raise ValueError(f"map: sequences of unequal length: {', '.join(str(len(c)) for c in columns)}")
    _sync()
    call = state.maps
    state.maps = call + 1
    saved = (state.stream, state.draws, state.maps, state.example, state.training, state.unbatched, state.depth)
    collecting = gc.isenabled()
    alone = not batched and not state.unbatched
    if alone:
        run_pending()
    try:
        try:
            state.depth += 1
            state.training = bool(getattr(getattr(fn, "__self__", None), "training", state.training))
            state.unbatched = state.unbatched or not batched
            if saved[-1]:
                results = _call_each(fn, columns, call, saved[0], alone)
            else:
                # Recording makes many small objects that live until the flush; looking for cycles costs a third.
                gc.disable()
                with timed("record"):
                    results = _call_each(fn, columns, call, saved[0], alone)
        finally:
            _put_back(saved, collecting, alone)
    finally:
        _put_back(saved, collecting, alone)  # again: Ctrl-C may have cut the first one short
    if not state.depth and not alone:
        _note_results(results)
    return results


def _call_each(fn: Callable[..., Any], columns: list[list[Any]], call: int, stream: int, alone: bool) -> list[Any]:
    results: list[Any] = []
    index = -1
    try:
        for index, arguments in enumerate(zip(*columns, strict=True)):
            state.stream = child_stream(stream, call, index)
            state.draws = 0
            state.maps = 0
            state.example = index
            results.append(fn(*arguments))
            if alone:
                _note_results(results[-1])
                tape = state.tape
                if tape is not None:
                    flush(tape, None)
    except Exception as error:
        error.add_note(f"in example {index} of ab.map")
        raise
    return results


def _put_back(saved: tuple[Any, ...], collecting: bool, alone: bool) -> None:
    state.stream, state.draws, state.maps, state.example, state.training, state.unbatched, state.depth = saved
    if alone:
        state.tape = None
    if collecting:
        gc.enable()


def _note_results(results: Any) -> None:
    for t in iterate_tensors(results):
        t._tape.results.add(t._id)
