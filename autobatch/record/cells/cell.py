"""`@ab.cell`: a function traced once per signature, whose whole call is one node of the tape.

A call goes through three doors. The *fast* one (`cell_fast`) is generated for the structure of the arguments (which are
tensors, numbers, tuples, lists) and takes under a microsecond. The *known* one flattens any arguments and finds the
traced function whose guards hold. The *new* one traces.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np

from ...base.errors import CellError, OpIndexError, op_error, user_error
from ...base.module_epoch import Noted, changed, epoch
from ...base.types import INT64, Type, default_dtype, tensor_type
from ...ir.graph import NODE
from ...ir.trace import SHADOW, Builder
from ...ir.tracers import StackedTracer, Tracer
from ...ops.index import not_in_range
from ...schedule.structures import EACH, KERNEL, LIST, ONE, PER_ELEMENT, Result, Slot
from ..context import flags, is_frozen, without_cells
from ..expressions import Tied
from ..links import value_number
from ..nodes import write
from ..random import _sync, in_mode, signed
from ..shared import Shared
from ..signature import Signature
from ..tape import Recording, current_tape, state
from ..tensor import RecordedTensor
from ..views import view_rows
from .arguments import Built, Flat, are_unchanged, flatten_arguments, is_operand, rebuild
from .entry import Entry, limits
from .guard import Guard, guard, is_filled, weakly

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any]")

KEPT = 32
"""Most traces that are kept of calls with arguments of one structure: the last ones."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class Traced:
    """One traced signature of a cell: valid while its guard holds."""

    signature: Signature
    guard: Guard
    fn: Callable[..., Any]
    objects: tuple[Callable[[], Any], ...]
    outputs: Any
    types: tuple[Type, ...]
    listed: tuple[int, ...]
    bounds: tuple[tuple[int, int, int], ...]
    draws: dict[int, int]
    held: tuple[Any, ...]
    default: Any = field(default_factory=default_dtype)

    def holds(self, fn: Callable[..., Any], objects: tuple[Any, ...]) -> bool:
        """Whether it is about these very objects, and nothing that was read has changed since it was last looked at."""
        same = self.fn is fn and all(known() is x for known, x in zip(self.objects, objects, strict=True))
        return same and self.guard.unchanged()


class Cell:
    """What a decorated function knows of itself; reached as `function.cell`."""

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
        self.entries: dict[Any, list[Tied[Traced]]] = _entries_of(fn)
        self.by_owner: weakref.WeakKeyDictionary[Any, dict[Any, list[Tied[Traced]]]] = weakref.WeakKeyDictionary()
        self.traces = 0
        self.is_lasting = not set(fn.__code__.co_freevars) - {"__class__"}  # else it may be one of many
        self.entry = Entry(fn, self)

    def entries_for(self, owner: Any) -> dict[Any, list[Tied[Traced]]]:
        """Entries of one `self`, which go when it goes."""
        if owner is None:
            return self.entries
        try:
            return self.by_owner.setdefault(owner, {})
        except TypeError:
            return self.entries

    # The known and the new door.

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call: find or make the entry, write the node, make the results."""
        owner = args[0] if self.is_method and args else None
        if state.builder is not None or without_cells.get():
            return self._inline(owner, args, kwargs)
        tape = current_tape()
        names = list(self.signature.parameters)
        if kwargs or len(args) != len(names):
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = tuple(bound.args), bound.kwargs
        named = tuple(kwargs)
        static = [n in self.static for n in (*names[: len(args)], *[""] * (len(args) - len(names)), *named)]
        inside, closure = self._closure()
        flat = flatten_arguments((*args, *kwargs.values(), *closure), [*static, *(False,) * len(closure)], tape, owner)
        entry = self._find(owner, flat, len(args), named, inside)
        return self._write(tape, entry, flat, owner, args, fast=self.is_lasting and not named)

    def _inline(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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

    def _find(self, owner: Any, flat: Flat, n_args: int, named: tuple[str, ...], inside: tuple[int, ...]) -> Traced:
        key = (flat.key, is_frozen(), state.training, default_dtype(), n_args, named, inside)
        tied = self.entries_for(owner).setdefault(key, [])
        entries = [entry for entry in (reference() for reference in tied) if entry is not None]
        objects = (*flat.objects, owner)
        for entry in entries:
            if entry.holds(self.fn, objects):
                return entry
        now = guard((self.fn,), objects, skip=self._is_argument)
        for entry in entries:
            if entry.guard.prints == now.prints:
                entry.guard, entry.fn, entry.objects = now, self.fn, tuple(map(weakly, objects))
                return entry
        entry = self._settled(now, owner, flat, n_args, named, inside)
        about = (*entry.signature.shared, *flat.held, *entry.guard.leaves)
        tied[:] = [reference for reference in tied if reference() is not None][-KEPT + 1 :]
        tied.append(Tied(entry, [x for x in about if isinstance(x, Shared)]))
        return entry

    def _settled(
        self, now: Guard, owner: Any, flat: Flat, n_args: int, named: tuple[str, ...], inside: tuple[int, ...]
    ) -> Traced:
        """What is traced when the function changes no attribute, global or variable of a closure that it reads.

        It may do so once, such as to keep what it works out. Raises `CellError` if it does so each time.
        """
        entry = self._trace(owner, flat, n_args, named, inside)
        if now.is_bound_anew(entry.guard):
            before = entry.guard
            entry = self._trace(owner, flat, n_args, named, inside)
            if before.is_bound_anew(entry.guard):
                raise self._changes_what_it_reads()
        return entry

    def _changes_what_it_reads(self, what: str = "what it reads") -> CellError:
        return user_error(
            CellError,
            f"cell {self.name}: it changes {what}, and its Python runs only when it is traced",
            repair="pass the value as an argument and return the new one, or leave out @ab.cell",
        )

    def traced(self, owner: Any = None) -> list[Traced]:
        """What was traced, of one `self` or of all."""
        tables = [self.entries, *self.by_owner.values()] if owner is None else [self.by_owner.get(owner, {})]
        found = [reference() for table in tables for tied in table.values() for reference in tied]
        return [entry for entry in found if entry is not None]

    def _trace(self, owner: Any, flat: Flat, n_args: int, named: tuple[str, ...], inside: tuple[int, ...]) -> Traced:
        self.traces += 1
        builder = Builder(is_cell=True, is_frozen=bool if is_frozen() else is_frozen)
        slots: list[Slot] = []
        data = ""
        lists = 0

        def leaf(kind: str, value: Any, level: int) -> Any:
            nonlocal data
            if kind == "T":
                slot = Slot(LIST if level else ONE, value, level % SHADOW)
                if level < SHADOW:
                    slots.append(slot)
                return builder.input("rows", len(slots) - 1, value, level)
            if kind == "P":
                return value
            data += kind
            return builder.input(
                "data", len(data) - 1, tensor_type(INT64 if kind == "i" else np.float64, ()), weak=True
            )

        def new_list() -> int:
            nonlocal lists
            lists += 1
            return lists

        built: list[Built] = []
        traced = rebuild(flat.structure, leaf, new_list, builder, slots, built)
        builder.draw_inputs = (
            builder.input("data", len(data), tensor_type(INT64, ()), weak=True),
            builder.input("data", len(data) + 1, tensor_type(INT64, ()), weak=True),
        )
        fn = self.fn
        if inside:
            cells = list(fn.__closure__ or ())
            for k, value in zip(inside, traced[n_args + len(named) :], strict=True):
                cells[k] = types.CellType(value)
            fn = types.FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, tuple(cells))
            fn.__kwdefaults__ = self.fn.__kwdefaults__
        before, tape = state.training, current_tape()
        is_aside = tape.is_aside
        leaves: list[Any] = []
        listed: list[int] = []
        try:
            try:
                tape.is_aside = flags.traced = True
                state.builder, state.training = builder, bool(getattr(owner, "training", before))
                result = fn(*traced[:n_args], **dict(zip(named, traced[n_args:], strict=False)))
                outputs = _flatten_results(result, leaves, listed, builder)
                graph = builder.finish([x._each if isinstance(x, StackedTracer) else x for x in leaves])
            finally:
                state.builder, state.training, tape.is_aside, flags.traced = None, before, is_aside, False
        finally:
            # Again: Ctrl-C may have come before.
            state.builder, state.training, tape.is_aside, flags.traced = None, before, is_aside, False
        if inside and any(cells[k].cell_contents is not x for k, x in zip(inside, traced[-len(inside) :], strict=True)):
            raise self._changes_what_it_reads()
        if not are_unchanged(built):
            raise self._changes_what_it_reads("a list or dict that it is given")
        if any(builder.draws.values()):
            data += "ii"
        results, types_ = [], []
        for x, i in zip(leaves, graph.outputs, strict=True):
            node = graph.nodes[i]
            results.append(_result(x, node.type, node.level, slots))
            types_.append(node.type)
        frozen = is_frozen() or not any(t.dtype.kind == "f" for t in types_)
        signature = Signature(
            name=self.name,
            kind=KERNEL,
            slots=tuple(slots),
            results=tuple(results),
            graph=graph,
            shared=tuple(builder.shared),
            data=data,
            frozen=frozen,
            draws=any(builder.draws.values()),
        )
        objects = (*flat.objects, owner)
        read = guard((self.fn,), objects, skip=self._is_argument)
        for what in read.unseen:
            warnings.warn(
                f"cell {self.name} reads {what}: a change in place is not noticed; make it an ab.constant or nn.Buffer",
                RuntimeWarning,
                stacklevel=5,
            )
        return Traced(
            signature,
            read,
            self.fn,
            tuple(map(weakly, objects)),
            outputs,
            tuple(types_),
            tuple(listed),
            tuple(builder.bounds),
            dict(builder.draws),
            flat.held,
        )

    def _write(
        self, tape: Recording, entry: Traced, flat: Flat, owner: Any, args: tuple[Any, ...], fast: bool = True
    ) -> Any:
        for k, lowest, n in entry.bounds:
            index = flat.numbers[k]
            if not lowest <= index < n:
                raise user_error(OpIndexError, f"{self.name}: {not_in_range(index, n, lowest)}")
        ids: list[int] = []
        lengths: list[int] = []
        for slot in flat.slots:
            if isinstance(slot, RecordedTensor):
                ids.append(value_number(slot, tape))
            else:
                ids.append(len(slot))
                ids.extend(value_number(t, tape) for t in slot)
        for k in entry.signature.lists:
            slot = flat.slots[k]
            lengths.append(len(slot))
        _sync()
        number = tape.signature_number(entry.signature)
        data = list(zip(flat.numbers, entry.signature.data, strict=False))
        ints, floats = [x for x, c in data if c == "i"], [x for x, c in data if c == "f"]
        draws = sum(n * (lengths[k - 1] if k else 1) for k, n in entry.draws.items())
        if any(entry.draws.values()):
            ints += (signed(state.stream), state.draws)
        types = list(entry.types)
        for k, (type, result) in enumerate(zip(entry.types, entry.signature.results, strict=True)):
            if result.rule == PER_ELEMENT:
                length = lengths[entry.signature.lists.index(result.ref)]
                shape = (length * type.rows, type.width) if k in entry.listed else (length, *type.shape)
                types[k] = tensor_type(type.dtype, shape)
        tensors: list[Any] = write(tape, number, ids, types, ints=ints, floats=floats)
        state.draws += draws
        for k in entry.listed:
            type = entry.types[k]
            length = lengths[entry.signature.lists.index(entry.signature.results[k].ref)]
            tensors[k] = [_element(tensors[k], type, e) for e in range(length)]
        if fast:
            self._install_fast(tape, entry, flat, owner, args, number)
        return _assemble(entry.outputs, tensors)

    def _install_fast(
        self, tape: Recording, entry: Traced, flat: Flat, owner: Any, args: tuple[Any, ...], number: int
    ) -> None:
        """Remember the entry on this tape for the generated door, and generate the door if it is new."""
        if any(entry.draws.values()) or entry.listed or flat.lifted:
            return
        if any(r.rule == PER_ELEMENT for r in entry.signature.results):
            return
        read = entry.guard
        if read.checked != epoch[0]:
            return  # something changed meanwhile
        self.entry.watch(read.lasting)
        token = self.entry.door(flat.structure, entry.outputs, len(args))
        if token is None:
            return
        owners = (owner,) if self.is_method else ()
        tape.cache[token] = tape.cache[token, *map(id, owners), *flat.fast_key] = (
            number,
            epoch[0],
            (read.facts, read.contents) if read.facts or read.contents else None,
            limits(entry.bounds, len(flat.numbers)),
            state.training,
            *owners,
            *(key[1] if isinstance(key, tuple) else key for key in flat.fast_key),
            *entry.types,
        )


def _entries_of(fn: Callable[..., Any]) -> dict[Any, list[Tied[Traced]]]:
    """Entries are kept by code object, so that a function defined anew for each example is traced once."""
    if "<locals>" not in fn.__qualname__ or fn.__closure__ is None:
        return {}
    return _by_code.setdefault(fn.__code__, {})


_by_code: dict[Any, dict[Any, list[Tied[Traced]]]] = {}


def _element(whole: RecordedTensor, type: Type, e: int) -> RecordedTensor:
    if type.ndim == 1:
        return view_rows(whole, e, 1, 1, "pick", type.shape)
    if type.ndim == 0:
        return view_rows(whole, e, 1, 1, "pick", ())
    return view_rows(whole, e * type.rows, 1, type.rows, "slice", type.shape)


def _result(x: Any, type: Type, level: int, slots: Sequence[Slot]) -> Result:
    if level <= NODE:
        return Result(type.width, type.dtype, rows=type.rows)
    ref = next(k for k, slot in enumerate(slots) if slot.kind in (LIST, EACH) and slot.list == level)
    if isinstance(x, StackedTracer):
        if type.ndim == 0:
            raise op_error(
                "cell",
                "a stack of numbers over a varying list cannot leave the cell",
                repair="return the list, or stack vectors of length 1",
            )
        width = type.width * (type.rows if type.ndim > 1 else 1)
        return Result(width, type.dtype, PER_ELEMENT, ref, 1)
    return Result(type.width, type.dtype, PER_ELEMENT, ref, type.rows)


def _flatten_results(x: Any, leaves: list[Any], listed: list[int], builder: Builder, element: bool = False) -> Any:
    """Structure of the results; leaves are collected in order. `element`: inside one element of a varying list."""
    if isinstance(x, list) and len(x) == 2 and _levels(x[0]) and _levels(x[1]):
        mark = len(leaves)
        inner = _flatten_results(x[0], leaves, listed, builder, element=True)
        shadow: list[Any] = []
        _flatten_results(x[1], shadow, [], builder, element=True)
        for a, b in zip(leaves[mark:], shadow, strict=True):
            if builder._twin.get(b._id) != a._id:
                raise user_error(CellError, "cell: a list is returned whose elements are not treated alike")
        listed.extend(range(mark, len(leaves)))
        return ("each", inner)
    if isinstance(x, tuple | list):
        parts = tuple(_flatten_results(e, leaves, listed, builder, element) for e in x)
        kind = type(x) if isinstance(x, tuple) and hasattr(x, "_fields") else tuple if isinstance(x, tuple) else list
        return ("seq", kind, parts)
    if isinstance(x, dict):
        return ("dict", tuple(x), tuple(_flatten_results(e, leaves, listed, builder, element) for e in x.values()))
    if x is None or isinstance(x, str):
        return ("static", x)
    if not element and isinstance(x, Tracer) and x.level > NODE:
        raise user_error(
            CellError,
            "cell: a single element of a varying list is returned",
            repair="return a list of all elements, or reduce it",
        )
    leaves.append(x if isinstance(x, StackedTracer) else builder._lift(x) if not isinstance(x, Tracer) else x)
    return ("leaf", len(leaves) - 1)


def _levels(x: Any) -> bool:
    """Whether a result is one element of a varying list."""
    stack = [x]
    while stack:
        y = stack.pop()
        if isinstance(y, tuple | list):
            stack.extend(y)
        elif isinstance(y, Tracer):
            return y.level > NODE
        else:
            return False
    return False


def _assemble(structure: Any, tensors: Sequence[Any]) -> Any:
    kind = structure[0]
    if kind == "leaf":
        return tensors[structure[1]]
    if kind == "static":
        return structure[1]
    if kind == "dict":
        return dict(zip(structure[1], (_assemble(p, tensors) for p in structure[2]), strict=True))
    if kind == "each":
        length = len(tensors[_first_leaf(structure[1])])
        return [_assemble(structure[1], [t[e] if isinstance(t, list) else t for t in tensors]) for e in range(length)]
    parts = [_assemble(p, tensors) for p in structure[2]]
    if hasattr(structure[1], "_fields"):
        return structure[1](*parts)
    return structure[1](parts)


def _first_leaf(structure: Any) -> int:
    while structure[0] != "leaf":
        structure = structure[2][0]
    return int(structure[1])


@overload
def cell(fn: F, *, static: Sequence[str] = ()) -> F: ...
@overload
def cell(*, static: Sequence[str] = ()) -> Callable[[F], F]: ...
def cell(fn: Any = None, *, static: Sequence[str] = ()) -> Any:
    """Trace a function once per signature; a call is then one node of the recording.

    Any callable will do: functions, methods of all kinds, `functools.partial`; a module is returned itself, with a
    cell as its `forward`. Arguments: tensors, arrays, nested tuples, lists and dicts of them, modules. A list of
    same-shaped values is one operand of any length. Python numbers are data of the call; strings, bools, enums, None
    and what is named in `static`, arguments or variables of the enclosing function, belong to the signature. Tensors
    caught by closure become operands. What `self` holds is guarded, and what the code reads through the user's own
    functions that it calls: globals, closures, attributes of objects and classes; a change traces anew. Results are
    the same with and without the decorator. What differs each time that it is read (random numbers of Python and
    NumPy, the time, an iterator) is read once, when the function is traced: use `ab.uniform`, `ab.normal` and
    `ab.dropout`, or pass it as an argument. Not noticed are attributes and globals whose names are worked out at run
    time, classes registered with an ABC, and what changes inside the elements of a container of more than 64.

    Raises `CellError` for a value forced inside, for a number used as shape, axis, bound, index or condition, and where
    the function changes what it reads.

    >>> import autobatch as ab
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
    if not isinstance(fn, types.FunctionType):
        return _cell_of_callable(fn, static)
    inner = fn.__dict__["cell"].fn if "cell" in fn.__dict__ else fn
    made = Cell(inner, static)
    call = made.entry.call
    call.__name__, call.__qualname__, call.__doc__, call.__module__ = (
        inner.__name__,
        inner.__qualname__,
        inner.__doc__,
        inner.__module__,
    )
    call.__wrapped__ = inner
    call.cell = made
    return call


def _cell_of_callable(fn: Any, static: Sequence[str]) -> Any:
    if not callable(fn):
        raise user_error(
            CellError,
            "cell: what is decorated cannot be called",
            got=type(fn).__name__,
            repair="decorate a function, a method or a module",
        )
    method = None if isinstance(fn, type) else type(fn).__call__
    if isinstance(method, types.FunctionType):
        return types.MethodType(cell(method, static=static), fn)

    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    call.__name__ = getattr(fn, "__name__", type(fn).__name__)
    return cell(call, static=static)


@contextlib.contextmanager
def disable_cells() -> Iterator[None]:
    """Within this block the Python of every cell runs, op by op: for debuggers, and to compare.

    >>> import autobatch as ab
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
    changed()  # what the generated doors know is out of date
    try:
        yield
    finally:
        without_cells.set(before)
