"""Base class of optimisers: one step, all or nothing.

A step has two halves. The first checks every gradient and makes a `Move` for each parameter (`moves`): whatever can
fail, fails here, and nothing has changed. The second half only runs the moves, in place.

An optimiser declares its settings, the arrays it keeps for each parameter, its rule (`rules`) and the scalars that
depend on the step; the rule is all that there is of it on the host and on a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..backends.transfer import is_on_device, to_device, to_host
from ..base.errors import message
from ..base.interrupts import passing_on
from ..base.types import short_dtype
from ..record.parameter import Parameter, SparseRows, forget_gradients, update
from .clip import clip_grad_norm
from .groups import Group, Setting, parameters_of
from .moves import Move, changing, move_of
from .moves import numbers as numbers_in
from .rules import rule_of

Array = np.ndarray[Any, Any]

Params = Iterable[Parameter] | Iterable[Mapping[str, Any]]
"""Parameters, or groups of them: mappings with `params` and the settings of the group."""


class Optimizer:
    """Base of the optimisers.

    Arguments:
        params: the parameters to train, or groups of them, as PyTorch's: mappings with `params` and with settings that
            hold for these alone. A parameter that is listed twice in one group is one parameter.

    Attributes:
        param_groups: list of groups. Their settings may be changed at any time (`Group`).
        params: list of all parameters, group after group. State dicts number them by their place in it.

    Settings are attributes, too: read from the first group, and set in all.

    Raises TypeError for what is no `ab.Parameter`; ValueError if there is none, if one is in two groups, or if a
    setting is out of range.

    An optimiser is a subclass that declares at least `settings` and `rule`:

    >>> class SignSGD(optim.Optimizer):
    ...     settings = {"lr": optim.groups.not_negative}
    ...
    ...     def rule(self, group, step):
    ...         return "w = w - lr * sign(g)"
    >>> w = ab.Parameter([1.0, -2.0])
    >>> optimizer = SignSGD([w], lr=0.25)
    >>> ab.sum(w * w).backward()
    >>> optimizer.step()
    >>> w.value
    array([ 0.75, -1.75], dtype=float32)
    """

    # What an optimiser declares.

    settings: ClassVar[Mapping[str, Setting]]
    """Settings of a group, with their checks."""

    numbers: ClassVar[Mapping[str, float]] = {}
    """Numbers kept for each parameter beside the count of its steps, and what they start with. Each is one of the
    scalars, and afterwards what `scalars_of` said."""

    @classmethod
    def state_of(cls, group: Mapping[str, Any]) -> Mapping[str, float]:
        """Names of the arrays that are kept for each parameter, and what they are filled with at first."""
        return {}

    @classmethod
    def check(cls, group: Mapping[str, Any]) -> None:
        """Raise ValueError for settings that do not go together."""
        return

    def takes_rows(self, group: Group) -> bool:
        """Whether of a sparse gradient only the rows it has are visited; otherwise its dense form is taken."""
        return False

    def rule(self, group: Group, step: int) -> str:
        """The rule of a step, which is counted from 1; see `rules`. Settings that are numbers are scalars of it."""
        raise TypeError(message(f"{self._name} has no rule", repair=f"define {self._name}.rule(self, group, step)"))

    def scalars_of(self, group: Group, step: int, **numbers: float) -> dict[str, float]:
        """Further scalars, and the `numbers` as they are to be after the step."""
        return {}

    # What all have in common.

    def __init__(self, params: Params, **defaults: Any) -> None:
        self._defaults = defaults
        self.param_groups: list[Group] = []
        self.params: list[Parameter] = []
        self._group_of: list[Group] = []
        self._state: list[dict[str, Array]] = []
        self._steps = np.zeros(0, np.int64)
        self._numbers = {name: np.zeros(0) for name in self.numbers}
        listed = list(params) if isinstance(params, Iterable) and not isinstance(params, Parameter) else [params]
        groups = listed if listed and isinstance(listed[0], Mapping) else [{"params": listed}]
        for group in groups:
            if not isinstance(group, Mapping):
                what, expected = f"{self._name}: groups are mappings", "{'params': ..., setting: value}"
                raise TypeError(message(what, expected=expected, got=type(group).__name__))
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Train more parameters, with settings of their own; what the group does not say is as in the constructor.

        >>> optimizer = optim.Lion([ab.Parameter([1.0])], lr=0.1)
        >>> optimizer.add_param_group({"params": [ab.Parameter([2.0])], "lr": 0.01})
        >>> optimizer
        Lion(2 parameters, lr=[0.1, 0.01], betas=(0.9, 0.99), weight_decay=0.0, maximize=False)
        """
        unknown = group.keys() - {"params", *self.settings}
        if unknown or "params" not in group:
            expected, got = f"params, {', '.join(self.settings)}", ", ".join(sorted(map(str, group)))
            raise ValueError(message(f"{self._name}: a group has other names", expected=expected, got=got))
        params = parameters_of(self._name, group["params"])
        if {*map(id, params)} & {*map(id, self.params)}:
            raise ValueError(message(f"{self._name}: a parameter is in two groups", repair="list it in one of them"))
        made = Group(type(self), params, {**self._defaults, **group})
        fill = self.state_of(made)
        n = len(params)
        added = {
            "_state": self._state + [{name: np.full(p.shape, x, p.dtype) for name, x in fill.items()} for p in params],
            "_steps": np.append(self._steps, np.zeros(n, np.int64)),
            "_numbers": {name: np.append(self._numbers[name], np.full(n, x)) for name, x in self.numbers.items()},
            "_group_of": self._group_of + [made] * n,
            "params": self.params + params,
            "param_groups": [*self.param_groups, made],
        }
        self.__dict__.update(added)  # one call: Ctrl-C comes before or after

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            if name in type(self).settings and "param_groups" in self.__dict__:
                return self.param_groups[0][name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).settings:
            for group in self.param_groups:
                group[name] = value
        else:
            super().__setattr__(name, value)

    if TYPE_CHECKING:
        lr: float

    @property
    def _name(self) -> str:
        return type(self).__name__

    # One step.

    @passing_on
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient; the others, and their state, stay as they are.

        Recordings that still wait run first, with the parameters as they were. All parameters, moments and counts
        move, or none: Ctrl-C, and what other signal handlers or threads raise, takes effect before or after.

        Arguments:
            closure: called first, to compute the gradients; what it returns, the loss, is returned.

        Raises ValueError, listing all of them, where gradients do not fit their parameters.
        """
        loss = None if closure is None else closure()
        chosen = [index for index, parameter in enumerate(self.params) if parameter.grad is not None]
        gradients = self._gradients(chosen)
        steps, numbers = self._steps.copy(), {name: array.copy() for name, array in self._numbers.items()}
        steps[chosen] += 1
        moves: list[Move] = []
        known: dict[tuple[Any, ...], tuple[str, dict[str, float], dict[str, Any]]] = {}
        for index, gradient in zip(chosen, gradients, strict=True):
            group, step, dtype = self._group_of[index], int(steps[index]), self.params[index].dtype
            kept = {name: float(array[index]) for name, array in numbers.items()} if numbers else {}
            key = id(group), step, dtype, *kept.values()
            if key not in known:
                scalars = _numbers_in(group) | self.scalars_of(group, step, **kept)
                known[key] = self.rule(group, step), scalars, numbers_in(scalars, dtype)
            text, scalars, typed = known[key]
            for name, array in numbers.items():
                array[index] = scalars[name]
            moves.append(self._move(index, gradient, text, typed))
        change = changing(moves)

        def action(arrays: Any) -> None:
            change(arrays)
            self._steps, self._numbers = steps, numbers

        update([self.params[index] for index in chosen], action)
        return loss

    def step_if_finite(self) -> bool:
        """Make a step unless a gradient holds NaN or an infinity; whether it was made.

        Nothing changes where it is not, counts included. Waits for a device.

        >>> w = ab.Parameter([1.0])
        >>> optimizer = optim.SGD([w], lr=0.1)
        >>> w.grad = np.array([np.nan])
        >>> optimizer.step_if_finite(), w.value
        (False, array([1.], dtype=float32))
        """
        if not math.isfinite(clip_grad_norm(self.params, math.inf)):
            return False
        self.step()
        return True

    def _move(self, index: int, gradient: Array | SparseRows, text: str, scalars: dict[str, Any]) -> Move:
        """The move of one parameter, where it is; its state is moved there."""
        parameter, state, group = self.params[index], self._state[index], self._group_of[index]
        if isinstance(gradient, SparseRows) and not self.takes_rows(group):
            gradient = gradient.to_dense()
        for name, array in state.items():
            if is_on_device(array) is not parameter.on_device:
                state[name] = to_device(array) if parameter.on_device else to_host(array)
        return move_of(rule_of(text, "w", "g", *state), parameter.value, gradient, state, scalars)

    def _gradients(self, chosen: list[int]) -> list[Array | SparseRows]:
        """Gradients of the chosen parameters, as arrays that the compiled loops take."""
        gradients: list[Array | SparseRows] = []
        faults: list[str] = []
        for index in chosen:
            gradient: Any = self.params[index].grad
            if fault := self._fault(index, gradient):
                faults.append(f"\n  parameter {index}: {fault}")
            elif isinstance(gradient, SparseRows):
                values = gradient.values.reshape(gradient.rows.size, math.prod(gradient.shape[1:]))
                rows, values = _plain(gradient.rows), _plain(values)
                gradients.append(SparseRows(rows=rows, values=values, shape=gradient.shape))
            elif gradient is not None:
                gradients.append(_plain(gradient))
        if faults:
            what = f"{self._name}.step: gradients do not fit, no parameter was changed"
            raise ValueError(what + "".join(faults))
        return gradients

    def _fault(self, index: int, gradient: Any) -> str:
        """What is wrong with the gradient of parameter `index`; empty if it fits."""
        parameter = self.params[index]
        sparse = isinstance(gradient, SparseRows)
        wanted = parameter.dtype, parameter.shape
        got = (gradient.values if sparse else gradient).dtype, gradient.shape
        if got != wanted:
            return f"expected a gradient {_text(*wanted)}, got {_text(*got)}"
        for array in self._state[index].values():
            if (kept := (array.dtype, array.shape)) != wanted:
                return f"expected {_text(*kept)} as when the optimiser was made, got {_text(*wanted)}"
        return _fault_of_rows(gradient) if sparse else ""

    # State.

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        forget_gradients(self.params)

    def state_dict(self) -> dict[str, Array]:
        """Copies of settings, counts and moments by name, in the flat form that `ab.save` takes.

        Settings stand under their names (`lr`, …), those of several groups as `groups.0.lr` and so on; counts as
        `0.step`, moments as `0.exp_avg` and so on, numbered as in `params`.
        """
        state = {name: _number(group[setting]) for name, group, setting in self._named_settings()}
        for index, kept in enumerate(self._state):
            state[f"{index}.step"] = np.array(self._steps[index])
            state |= {f"{index}.{name}": np.array(numbers[index]) for name, numbers in self._numbers.items()}
            state |= {f"{index}.{name}": np.array(to_host(array)) for name, array in kept.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, settings too: training goes on as if it had never stopped.

        Raises ValueError with every name that is missing, unexpected or of another shape, and for settings that
        cannot be. The whole state changes, or nothing.
        """
        taken = fitting(f"{self._name}.load_state_dict", self.state_dict(), state)
        settings: list[dict[str, Any]] = [{} for _ in self.param_groups]
        for name, group, setting in self._named_settings():
            place = next(k for k, other in enumerate(self.param_groups) if other is group)
            settings[place][setting] = taken[name].tolist()
        groups = [Group(type(self), g["params"], s) for g, s in zip(self.param_groups, settings, strict=True)]
        for new, old in zip(groups, self.param_groups, strict=True):
            new.initial_lr = old.initial_lr
        count = range(len(self.params))
        replacement = {
            "param_groups": groups,
            "_group_of": [group for group in groups for _ in group["params"]],
            "_steps": np.array([taken[f"{index}.step"] for index in count], np.int64),
            "_numbers": {name: np.array([taken[f"{index}.{name}"] for index in count]) for name in self.numbers},
            "_state": [{name: taken[f"{index}.{name}"] for name in self._state[index]} for index in count],
        }
        self.__dict__.update(replacement)  # one call: Ctrl-C comes before or after

    def _named_settings(self) -> Iterator[tuple[str, Group, str]]:
        """Name in the state, group and name there of each setting."""
        for k, group in enumerate(self.param_groups):
            for setting in self.settings:
                yield (setting if len(self.param_groups) == 1 else f"groups.{k}.{setting}"), group, setting

    def __repr__(self) -> str:
        texts = []
        for name in self.settings:
            values = [group[name] for group in self.param_groups]
            texts.append(f"{name}={values if any(x != values[0] for x in values) else values[0]}")
        return f"{self._name}({len(self.params)} parameter{'s' * (len(self.params) > 1)}, {', '.join(texts)})"


def descent(group: Group, decoupled: bool = False) -> str:
    """The first lines of most rules: the direction of the gradient, and weight decay, by the gradient of the L2 penalty
    or, decoupled from it (Loshchilov & Hutter, "Decoupled weight decay regularization", 2019), by itself."""
    lines = ["g = -g"] if group["maximize"] else []
    if group["weight_decay"]:
        lines.append("w = w - lr * weight_decay * w" if decoupled else "g = g + weight_decay * w")
    return "".join(f"{line}\n" for line in lines)


def fitting(what: str, own: Mapping[str, Array], state: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of a state in the dtypes of `own`; ValueError with all that is missing, unexpected or does not fit."""
    given = {name: np.asarray(value) for name, value in state.items()}
    faults = [f"{name}: missing" for name in own if name not in given]
    faults += [f"{name}: unexpected" for name in given if name not in own]
    for name in own.keys() & given.keys():
        if own[name].shape != given[name].shape:
            faults.append(f"{name}: expected shape {own[name].shape}, got {given[name].shape}")
        elif not np.can_cast(given[name].dtype, own[name].dtype, "same_kind"):
            faults.append(f"{name}: expected dtype {own[name].dtype}, got {given[name].dtype}")
    if faults:
        raise ValueError(f"{what}: the state does not fit" + "".join(f"\n  {fault}" for fault in sorted(faults)))
    return {name: given[name].astype(own[name].dtype, order="C") for name in own}


def _numbers_in(group: Group) -> dict[str, float]:
    """The settings that are numbers; the two betas as beta1 and beta2."""
    found = {name: float(value) for name, value in group.items() if isinstance(value, (int, float))}
    if "betas" in group:
        found["beta1"], found["beta2"] = group["betas"]
    return found


def _number(value: Any) -> Array:
    """A setting in the form of states; a text counts as 1, None as 0."""
    return np.array(value is not None if value is None or isinstance(value, str) else value, np.float64)


def _text(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"{short_dtype(dtype)}[{', '.join(map(str, shape))}]"


def _plain(array: Array) -> Array:
    """The array, or a copy if the compiled loops would need another version for it."""
    if is_on_device(array) or array.flags.carray:
        return array
    return np.require(array, requirements=["C", "A", "W"])


def _fault_of_rows(gradient: SparseRows) -> str:
    """What is wrong with the row numbers of a sparse gradient; a wrong one would write outside its table."""
    rows, values = gradient.rows, gradient.values
    width = math.prod(gradient.shape[1:])
    fits = values.shape in ((rows.size, width), (rows.size, *gradient.shape[1:]))
    if rows.ndim != 1 or rows.dtype != np.int64 or not fits:
        return f"expected rows int64[k] and values [k, {width}], got {rows.dtype}{rows.shape} and {values.shape}"
    if rows.size and (rows[0] < 0 or rows[-1] >= gradient.shape[0] or not (rows[1:] > rows[:-1]).all()):
        return f"expected sorted row numbers from 0 to {gradient.shape[0] - 1}, each once, got {rows}"
    return ""
