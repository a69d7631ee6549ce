"""`@ab.cell`: a function traced once per signature, whose whole call is one node of the tape.

A call takes the fast path (`inline_cache`), generated for the structure of the arguments (which are tensors, numbers,
tuples, lists), in under a microsecond; else the general path, which takes any arguments apart and finds the traced
function whose guards hold; or the function is traced.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

from ...base.errors import CellError, OpIndexError, user_error
from ...base.module_epoch import Noted, changed, epoch
from ...base.types import default_dtype, tensor_type
from ...ops.index import not_in_range
from ...schedule.structures import LIST, PER_ELEMENT
from ..context import NotTraced, is_frozen, without_cells
from ..expressions import Tied
from ..lengths import switched, varies
from ..links import value_number
from ..nodes import write
from ..random import in_mode, signed, sync
from ..shared import Shared
from ..signature import Signature
from ..tape import Recording, current_tape, state
from ..tensor import RecordedTensor
from .arguments import Flat, flatten_arguments, is_operand, matrices
from .facts import Guard, same, weakly
from .guard import guard
from .inline_cache import InlineCache, limits
from .reads import FUNCTIONS, is_filled
from .results import assemble, element_of
from .trace import Traced, changes_what_it_reads, trace

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any]")

CALLS = 4096
"""Most calls of different types or owners that a cell remembers."""

KEPT = 32
"""Most traces cached for arguments of one structure: the last ones."""


class Cell:
    """The state of a decorated function, `function.cell`."""

    def __init__(self, fn: Callable[..., Any], static: Sequence[str]) -> None:
        self.fn = fn
        self.name = fn.__name__
        self.signature = inspect.signature(fn)
        unknown = set(static) - {*self.signature.parameters, *fn.__code__.co_freevars}
        if unknown:
            what = "which are neither arguments of it nor variables that it catches"
            raise TypeError(f"cell {self.name}: static names {sorted(unknown)}, {what}")
        self.static = frozenset(static)
        self.is_method = next(iter(self.signature.parameters), "") == "self"
        is_remade = "<locals>" in fn.__qualname__ and fn.__closure__ is not None
        self.entries: dict[Any, list[Tied[Traced]]] = _by_code.setdefault(fn.__code__, {}) if is_remade else {}
        self.lengths: dict[Any, Any] = {}
        """What `varies` has seen, by what calls with matrices have in common but their number of rows."""
        self.signatures: weakref.WeakValueDictionary[Any, Signature] = weakref.WeakValueDictionary()
        """Those of calls with any number of rows, by all they are."""
        self.by_owner: weakref.WeakKeyDictionary[Any, dict[Any, list[Tied[Traced]]]] = weakref.WeakKeyDictionary()
        self.calls: dict[Any, tuple[weakref.ref[Traced], Callable[[], Any], int]] = {}
        """Of calls that took the fast path in some recording what was traced, about which owner; `switched` then."""
        self.traces = 0
        self.untraced = 0
        """The recording in which it did something that tracing cannot repeat, and whose calls run op by op."""
        self.is_lasting = not set(fn.__code__.co_freevars) - {"__class__"}  # else it may be one of many
        self.cache = InlineCache(fn, self)

    def entries_for(self, owner: Any) -> dict[Any, list[Tied[Traced]]]:
        """Entries of one `self`, freed with it."""
        if owner is None:
            return self.entries
        try:
            return self.by_owner.setdefault(owner, {})
        except TypeError:
            return self.entries

    def traced(self, owner: Any = None) -> list[Traced]:
        """What was traced, of one `self` or of all."""
        tables = [self.entries, *self.by_owner.values()] if owner is None else [self.by_owner.get(owner, {})]
        found = [reference() for table in tables for tied in table.values() for reference in tied]
        return [entry for entry in found if entry is not None]

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The general path: find or trace the signature, write the node, make the results."""
        owner = args[0] if self.is_method and args else None
        if state.builder is not None or without_cells.get():
            return self._untraced(owner, args, kwargs)
        tape = current_tape()
        if self.untraced == tape.serial:
            return self._untraced(owner, args, kwargs)
        names = list(self.signature.parameters)
        if kwargs or len(args) != len(names):
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = tuple(bound.args), bound.kwargs
        inside, closure = self._closure()
        flat = Flat(owner, len(args), tuple(kwargs), inside)
        named = (*names[: len(args)], *[""] * (len(args) - len(names)), *flat.named, *[""] * len(closure))
        flatten_arguments(flat, (*args, *kwargs.values(), *closure), [n in self.static for n in named], tape)
        try:
            entry = self._find(flat)
        except NotTraced:
            self.untraced = tape.serial
            return self._untraced(owner, args, kwargs)
        return self._write(tape, entry, flat)

    def _untraced(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function itself, in the mode of its owner."""
        return in_mode(bool(getattr(owner, "training", state.training)), self.fn, args, kwargs)

    def _closure(self) -> tuple[tuple[int, ...], tuple[Any, ...]]:
        """Positions and contents of closure cells that act as arguments; what else they hold is read, and guarded."""
        names = self.fn.__code__.co_freevars
        cells = self.fn.__closure__ or ()
        chosen = tuple(
            k
            for k, name in enumerate(names)
            if name != "__class__" and is_filled(cells[k]) and self._is_argument(name, cells[k].cell_contents)
        )
        return chosen, tuple(cells[k].cell_contents for k in chosen)

    def _is_argument(self, name: str, value: Any) -> bool:
        """Whether a variable of the closure acts as an argument; those named in `static` are guarded by value."""
        return name not in self.static and is_operand(value)

    def _find(self, flat: Flat) -> Traced:
        mode = is_frozen(), state.training, default_dtype(), flat.n_args, flat.named, flat.inside
        rows = self._of_any_number(flat, mode)
        key = (flat.key, *mode, bool(rows))
        tied = self.entries_for(flat.owner).setdefault(key, [])
        entries = [entry for entry in (reference() for reference in tied) if entry is not None]
        for entry in entries:
            if entry.holds(self.fn, flat.objects):
                return entry
        now = guard((self.fn,), flat.objects, skip=self._is_argument)
        for entry in entries:
            if entry.guard.prints == now.prints:
                entry.take(self.fn, flat.objects, now)
                return entry
        entry = self._settled(now, flat, rows)
        about = (*entry.signature.shared, *flat.held, *entry.guard.leaves)
        tied[:] = [reference for reference in tied if reference() is not None][-KEPT + 1 :]
        tied.append(Tied(entry, [x for x in about if isinstance(x, Shared)]))
        return entry

    def _of_any_number(self, flat: Flat, mode: tuple[Any, ...]) -> list[int]:
        """The slots of matrices of one length, where that has been seen to vary; else none."""
        rows, n, common = matrices(flat)
        return rows if rows and varies(self.lengths, (common, *mode), n) else []

    def _settled(self, now: Guard, flat: Flat, rows: Sequence[int]) -> Traced:
        """What is traced when the function changes nothing that it reads. It may do so once, such as to keep what it
        works out; raises `CellError` if it does so each time."""
        for _ in range(2):
            self.traces += 1
            entry = trace(self.fn, flat, self._is_argument, rows)
            if not now.is_bound_anew(entry.guard):
                known = self.signatures.setdefault(entry.signature.key(), entry.signature) if entry.by_rows else None
                entry.signature = known or entry.signature  # another number of rows is no other signature
                return entry
            now = entry.guard
        raise changes_what_it_reads(self.fn)

    def _write(self, tape: Recording, entry: Traced, flat: Flat) -> Any:
        signature = entry.signature
        for k, lowest, n in entry.bounds:
            index = flat.numbers[k]
            if not lowest <= index < n:
                raise user_error(OpIndexError, f"{self.name}: {not_in_range(index, n, lowest)}")
        for first, second in entry.same_length:
            if len(flat.slots[first]) != len(flat.slots[second]):
                what = f"{self.name}: lists whose elements meet have different lengths"
                got = f"{len(flat.slots[first])} and {len(flat.slots[second])}"
                raise user_error(CellError, what, got=got, repair="pass lists of one length")
        ids: list[int] = []
        for slot in flat.slots:
            if isinstance(slot, RecordedTensor):
                ids.append(value_number(slot, tape))
            else:
                ids += (len(slot), *[value_number(t, tape) for t in slot])
        lengths = {k: len(flat.slots[k]) for k in signature.lists if signature.slots[k].kind == LIST}
        sync()
        number = tape.signature_number(signature)
        data = list(zip(flat.numbers, signature.data, strict=False))
        ints, floats = [x for x, c in data if c == "i"], [x for x, c in data if c == "f"]
        draws = sum(n * (lengths[signature.lists[k - 1]] if k else 1) for k, n in entry.draws.items())
        if signature.draws:
            ints += (signed(state.stream), state.draws)
        types = list(entry.types)
        for k, (type, result) in enumerate(zip(entry.types, signature.results, strict=True)):
            if result.ref in lengths and result.rule == PER_ELEMENT:
                length = lengths[result.ref]
                shape = (length * type.rows, type.width) if k in entry.listed else (length, *type.shape)
                types[k] = tensor_type(type.dtype, shape)
        tensors: list[Any] = write(tape, number, ids, types, ints=ints, floats=floats)
        state.draws += draws
        for k in entry.listed:
            length = lengths[signature.results[k].ref]
            tensors[k] = [element_of(tensors[k], entry.types[k], e) for e in range(length)]
        if self.is_lasting and not flat.named:
            self._add_fast_path(tape, entry, flat, number)
        return assemble(entry.outputs, tensors)

    def _add_fast_path(self, tape: Recording, entry: Traced, flat: Flat, number: int) -> None:
        """Remember the entry on this tape for the fast path, and generate that if it is new."""
        read, signature = entry.guard, entry.signature
        slots, results = signature.slots, signature.results
        has_lists = any(r.rule == PER_ELEMENT and slots[r.ref].kind == LIST for r in results)
        if signature.draws or flat.lifted or has_lists:
            return
        if read.checked != epoch[0]:
            return  # something changed meanwhile
        self.cache.watch(read.lasting)
        token = self.cache.path(flat.structure, entry.outputs, flat.n_args, entry.same_length)
        if token is None:
            return
        owners = (flat.owner,) if self.is_method else ()
        key = (token, *map(id, owners), *(id(x) if isinstance(x, Shared) else x for x in flat.fast_key))
        known = (
            epoch[0],
            (read.facts, read.contents) if read.facts or read.contents else None,
            limits(entry.bounds, len(flat.numbers)),
            state.training,
            *owners,
            *(part[1] if isinstance(part, tuple) else part for part in flat.fast_key),
            *entry.types,
        )
        tape.cache[token] = tape.cache[key] = (number, *known)
        if len(self.calls) >= CALLS:
            self.calls.clear()
        if len(entry.known) >= CALLS:
            entry.known.clear()
        entry.known[key] = known[:4], known[4 + len(owners) :]
        self.calls[is_frozen(), default_dtype(), *key] = weakref.ref(entry), weakly(flat.owner), switched[0]

    def known_call(self, tape: Recording, key: tuple[Any, ...], owner: Any) -> tuple[Any, ...] | None:
        """What other recordings have under this key, for this one; None where none has it."""
        found = self.calls.get((is_frozen(), default_dtype(), *key))
        if found is None:
            return None
        entry, about = found[0](), found[1]()
        known = None if entry is None or about is not owner or found[2] != switched[0] else entry.known.get(key)
        if entry is None or known is None or not same((), entry.guard.large):  # as in every recording
            return None
        before, after = known
        owners = (owner,) if self.is_method else ()
        hit = tape.cache[key] = (tape.signature_number(entry.signature), *before, *owners, *after)
        return hit


_by_code: dict[Any, dict[Any, list[Tied[Traced]]]] = {}
"""Entries by code object, so that a function redefined for each example is traced once."""


@overload
def cell(fn: F, *, static: Sequence[str] = ()) -> F: ...
@overload
def cell(*, static: Sequence[str] = ()) -> Callable[[F], F]: ...
def cell(fn: Any = None, *, static: Sequence[str] = ()) -> Any:
    """Trace the function `fn` once per signature; a call is then one node of the recording.

    Any callable will do: functions, methods of all kinds, `functools.partial`; a module is returned itself, with a
    cell as its `forward`. Arguments: tensors, arrays, nested tuples, lists and dicts of them, modules. A list of
    same-shaped values is one operand of any length. Python numbers are data of the call; strings, bools, enums, None
    and what is named in `static`, arguments or variables of the enclosing function, belong to the signature. Tensors
    caught by closure become operands. What `self` holds is guarded, and what the code reads through the user's own
    functions that it calls: globals, closures, attributes of objects and classes; a change retraces. Results are
    the same with and without the decorator. What differs each time that it is read (random numbers of Python and
    NumPy, the time, an iterator) is read once, when the function is traced: use `ab.uniform`, `ab.normal` and
    `ab.dropout`, or pass it as an argument. Not noticed are attributes and globals whose names are worked out at run
    time, classes registered with an ABC, and what changes inside the elements of a container of more than 64.

    Raises `CellError` for a value forced inside, for a number used as shape, axis, bound, index or condition, and where
    the function changes what it reads.

    >>> @ab.cell
    ... def step(x, scale):
    ...     return ab.tanh(x) * scale
    >>> step(ab.zeros(2), 0.5).numpy()
    array([0., 0.], dtype=float32)
    """
    if fn is None:
        return lambda f: cell(f, static=static)
    if isinstance(fn, staticmethod | classmethod):
        return type(fn)(cell(fn.__func__, static=static))
    if isinstance(fn, types.MethodType):
        return types.MethodType(cell(fn.__func__, static=static), fn.__self__)
    if isinstance(fn, functools.partial):
        return functools.partial(cell(fn.func, static=static), *fn.args, **fn.keywords)
    if isinstance(type(fn), Noted):
        fn.forward = cell(fn.forward, static=static)
        return fn
    if not isinstance(fn, FUNCTIONS):
        return _cell_of_callable(fn, static)
    inner = fn.__dict__["cell"].fn if "cell" in fn.__dict__ else fn
    made = Cell(inner, static)
    call = made.cache.call
    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        setattr(call, name, getattr(inner, name))
    call.__wrapped__ = inner
    call.cell = made
    return call


def _cell_of_callable(fn: Any, static: Sequence[str]) -> Any:
    if not callable(fn):
        what = "cell: what is decorated cannot be called"
        raise user_error(CellError, what, got=type(fn).__name__, repair="decorate a function, a method or a module")
    method = None if isinstance(fn, type) else type(fn).__call__
    if isinstance(method, FUNCTIONS):
        return types.MethodType(cell(method, static=static), fn)

    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    call.__name__ = getattr(fn, "__name__", type(fn).__name__)
    return cell(call, static=static)


@contextlib.contextmanager
def disable_cells() -> Iterator[None]:
    """Within this block the Python of every cell runs, op by op: for debuggers, and to compare.

    >>> @ab.cell
    ... def step(x):
    ...     print("called")
    ...     return ab.tanh(x)
    >>> with ab.disable_cells():
    ...     _ = step(ab.zeros(2)), step(ab.zeros(2))
    called
    called
    """
    before = without_cells.get()
    without_cells.set(True)
    changed()  # what the fast paths know is out of date
    try:
        yield
    finally:
        without_cells.set(before)
