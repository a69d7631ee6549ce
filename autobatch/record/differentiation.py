"""One call of a function that is differentiated: what its arguments are replaced by, and walks backwards over it.

The function runs once with each differentiated argument replaced by a value of its own, so that derivatives taken
inside derivatives cannot mix. What it recorded is then walked backwards (`derivatives`), any number of times: from its
results to its arguments, or from what such a walk found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from ..base.errors import OpTypeError, RecordingError, user_error
from ..base.types import default_dtype, is_float
from ..ops.value import Tensor
from .containers import made_like, parts_of
from .context import is_frozen
from .derivatives import Start, Sweep
from .links import shared_row
from .modes import freeze
from .parameter import before_change
from .recorder import tensor
from .shared import Expression, Shared, SharedExpression, alias
from .tape import OPEN, Recording, current_tape, interrupted, is_under_way, refuse_inside, state
from .tensor import RecordedTensor

R = TypeVar("R")

_changes = [0]
"""How often parameters were changed."""


def _note_change() -> None:
    _changes[0] += 1


before_change.append(_note_change)


class Differentiation:
    """A function that ran with values of its own in place of the arguments at `places`.

    replaced: the arguments; value: what the function gave; aux: what it gave beside that
    """

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        args: Sequence[Any],
        places: Sequence[int] | None = None,
        has_aux: bool = False,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        refuse_inside(name, "take the derivative of the function that calls the cell", of_maps=False)
        self.name = name
        self.places = range(len(args)) if places is None else places
        self.is_constant = is_frozen()  # an outer no_grad makes the results constant; the function is differentiated
        self._call = fn, tuple(args), has_aux, kwargs or {}
        self._random = state.stream, state.draws, state.maps
        self._changed = _changes[0]
        self._run()

    def _run(self) -> None:
        fn, args, has_aux, kwargs = self._call
        self.tape: Recording = current_tape()
        self.start = Start.of(self.tape)  # what was recorded before the call is constant to it
        self.sources: list[RecordedTensor] = []
        self.parameters: list[Shared] = []
        self.aliases: dict[Shared, SharedExpression] = {}
        self.aux: Any = None

        def call() -> Any:
            self.replaced = [self._replace(a) if k in self.places else a for k, a in enumerate(args)]
            return fn(*self.replaced, **kwargs)

        value = self.within(call)
        if has_aux:
            if not isinstance(value, tuple) or len(value) != 2:
                got = type(value).__name__
                raise user_error(OpTypeError, f"{self.name}: the function must return (value, aux)", got=got)
            value, self.aux = value
        self.value = value
        self._check_tape()
        self.stop = Start.of(self.tape)

    def within(self, action: Callable[[], R]) -> R:
        """Run an action whose values have gradients, and in which no example waits for others."""
        tape, constant, sweeps, aliases = self.tape, is_frozen(), self.tape.sweeps, state.aliases
        try:
            try:
                freeze(False)
                tape.sweeps = sweeps + 1
                return action()
            finally:
                tape.sweeps, state.aliases = sweeps, aliases
                freeze(constant)
        finally:
            tape.sweeps, state.aliases = sweeps, aliases  # again: Ctrl-C may have cut the first one short
            freeze(constant)

    def _check_tape(self) -> None:
        if self.tape.is_interrupted:
            raise interrupted()
        if self.tape.state != OPEN:
            what = f"{self.name}: pending work was run inside the function"
            repair = "change parameters, call backward and evaluate many values before or after it, not inside"
            raise user_error(RecordingError, what, repair=repair)

    # Arguments.

    def _replace(self, x: Any) -> Any:
        """The argument with fresh values in place of tensors, numbers and arrays."""
        if isinstance(x, Shared) and x.trainable and x.operand is not None:
            return self._alias(x.operand)
        if isinstance(x, RecordedTensor | Shared):
            if not is_float(x.dtype):
                what = f"{self.name}: only floating values can be differentiated"
                raise user_error(OpTypeError, what, got=str(x._type))
            return self._fresh(shared_row(x, self.tape) if isinstance(x, Shared) else x)
        if isinstance(x, bool | str | None):
            return x
        if isinstance(x, int | float | np.ndarray | np.number):
            array = np.asarray(x)
            return self._fresh(tensor(array if array.dtype.kind == "f" else array.astype(default_dtype())))
        if hasattr(x, "named_parameters"):
            self.parameters += (p for _, p in x.named_parameters() if p not in self.parameters)
            return x
        if isinstance(x, list | tuple | dict):
            return made_like(x, map(self._replace, parts_of(x)))
        what = f"{self.name}: an argument cannot be differentiated"
        raise user_error(OpTypeError, what, got=type(x).__name__, repair="choose others by argnums")

    def _alias(self, x: Shared) -> Shared:
        """A shared value as an argument: no other value is the same one, and batches share it all the same."""
        number = state.aliases.get(x, 0)
        found: Expression = alias(x, number)
        state.aliases = {**state.aliases, x: number + 1}
        op = found.operand
        assert isinstance(op, SharedExpression)
        self.aliases[found] = op
        self.parameters.append(op)
        return found

    def _fresh(self, source: Tensor) -> Any:
        fresh: Any = source * 1.0
        self.sources.append(fresh)
        return fresh

    # Results.

    def scalar(self) -> RecordedTensor:
        """The result, which must be a floating scalar, as a value of the recording."""
        value = self.value
        if not isinstance(value, RecordedTensor | Shared) or value.shape or not is_float(value.dtype):
            got = str(getattr(value, "_type", type(value).__name__))
            what = f"{self.name}: the function must return a floating scalar"
            raise user_error(OpTypeError, what, expected="f[]", got=got)
        return self.row(value)

    def row(self, x: RecordedTensor | Shared) -> RecordedTensor:
        """A result as a value of the recording."""
        found: RecordedTensor = self.within(lambda: shared_row(x, self.tape)) if isinstance(x, Shared) else x
        return found

    def results(self) -> list[RecordedTensor | Shared]:
        """The floating tensors of the result, in order."""
        return [x for x in leaves_of(self.value) if isinstance(x, RecordedTensor | Shared) and is_float(x.dtype)]

    # Walks.

    def pull(
        self, ends: Sequence[tuple[RecordedTensor, Any]], of_cotangents: bool = False, is_forwards: bool = False
    ) -> dict[Any, Any]:
        """The cotangents of the arguments, by what replaced them, for cotangents of some results; or of values that
        were recorded after the function, as cotangents are. `is_forwards`: it is half of a walk forwards."""
        stop = None if of_cotangents else self.stop
        sweep = Sweep(self.tape, self.start, self.sources, self.parameters, stop, is_forwards)
        found = self.within(lambda: sweep.run(ends))
        return found | {x: found[op] for x, op in self.aliases.items()}

    def push(self, tangents: dict[Any, Any]) -> list[Any]:
        """The tangents of `results`, for tangents of the arguments by what replaced them.

        A walk backwards is linear in the cotangents that it begins with, and a walk backwards over it, from what it
        found to these cotangents, is the walk forwards.
        """

        def walk() -> list[Any]:
            rows = [self.row(y) for y in self.results()]
            start = Start.of(self.tape)
            seeds: list[Any] = [tensor(np.zeros(y.shape), y.dtype) * 1.0 for y in rows]
            found = self.pull(list(zip(rows, seeds, strict=True)), is_forwards=True)
            ends = [(found[x], t) for x, t in tangents.items()]
            back = Sweep(self.tape, start, seeds, ()).run(ends)
            return [back[u] for u in seeds]

        return self.within(walk)

    def argument(self, k: int, found: dict[Any, Any]) -> Any:
        """What was found of argument k, in its structure; of a module a dict by names of parameters."""
        return _rebuild(self.replaced[k], found)

    def arguments(self, found: dict[Any, Any]) -> tuple[Any, ...]:
        """What was found of all differentiated arguments."""
        return tuple(self.argument(k, found) for k in self.places)

    def given(self, values: Sequence[Any]) -> dict[Any, Any]:
        """Values for the differentiated arguments, in their structure, by what replaced these."""
        pairs: dict[Any, Any] = {}
        if not isinstance(values, list | tuple) or len(values) != len(self.places):
            what = f"{self.name}: one tangent is needed for each argument"
            got = f"{len(values)} for {len(self.places)}" if isinstance(values, list | tuple) else type(values).__name__
            raise user_error(OpTypeError, what, expected="a tuple", got=got)
        for k, v in zip(self.places, values, strict=True):
            for x, part in self._matched(self.replaced[k], v):
                pairs[x] = part
        return pairs

    def _matched(self, x: Any, v: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(x, Tensor):
            yield x, self.like(x, v)
        elif hasattr(x, "named_parameters"):
            for name, p in x.named_parameters():
                if name in v:
                    yield p, self.like(p, v[name])
        elif isinstance(x, list | tuple | dict):
            parts = [v[key] for key in x] if isinstance(x, dict) and isinstance(v, dict) else parts_of(v)
            if len(parts) != len(x):
                what = f"{self.name}: a tangent has not the structure of its argument"
                raise user_error(OpTypeError, what, expected=f"{len(x)} parts", got=f"{len(parts)}")
            for one, part in zip(parts_of(x), parts, strict=True):
                yield from self._matched(one, part)

    def like(self, x: Tensor, v: Any) -> Any:
        """A tangent or cotangent of a value, as a value of the recording."""
        found = v if isinstance(v, Tensor) else np.asarray(v)
        if tuple(found.shape) != x.shape:
            what = f"{self.name}: a tangent or cotangent has not the shape of its value"
            raise user_error(OpTypeError, what, expected=str(x.shape), got=str(tuple(found.shape)))
        if not isinstance(found, Tensor):
            return tensor(found, x.dtype)
        if found.dtype != x.dtype:
            found = found.astype(x.dtype)
        is_here = isinstance(found, RecordedTensor) and found._tape is self.tape
        return found if is_here else self.within(lambda: self.row(found) * 1.0)  # type: ignore[arg-type]

    def settled(self, tree: Any) -> Any:
        """Results as the caller gets them: constants under its `no_grad`."""
        return _detached(tree) if self.is_constant else tree

    # Later.

    def again(self) -> Differentiation:
        """This call while its recording is open, else the same call once more: with the same random draws."""
        if self.tape.state == OPEN and is_under_way(self.tape) and not self.tape.is_interrupted:
            return self
        if _changes[0] != self._changed:
            what = f"{self.name}: parameters have changed since the function was called"
            raise user_error(RecordingError, what, repair=f"call ab.{self.name} once more")
        fn, args, has_aux, kwargs = self._call
        before = state.stream, state.draws, state.maps
        try:
            state.stream, state.draws, state.maps = self._random
            return Differentiation(self.name, fn, args, self.places, has_aux, kwargs)
        finally:
            state.stream, state.draws, state.maps = before


def leaves_of(tree: Any) -> Iterator[Any]:
    """What is no container in nested lists, tuples and dicts, in order."""
    if isinstance(tree, list | tuple | dict):
        for part in parts_of(tree):
            yield from leaves_of(part)
    else:
        yield tree


def mapped(fn: Callable[[Any], Any], tree: Any) -> Any:
    """The same nesting of what a function gives for each part that is no container."""
    if isinstance(tree, list | tuple | dict):
        return made_like(tree, [mapped(fn, part) for part in parts_of(tree)])
    return fn(tree)


def _detached(tree: Any) -> Any:
    return mapped(lambda x: x.detach() if isinstance(x, Tensor) else x, tree)


def _rebuild(x: Any, found: dict[Any, Any]) -> Any:
    if isinstance(x, Tensor):
        return found[x]
    if hasattr(x, "named_parameters"):
        return {name: found[p] for name, p in x.named_parameters()}
    if isinstance(x, list | tuple | dict):
        return made_like(x, (_rebuild(e, found) for e in parts_of(x)))
    return None
