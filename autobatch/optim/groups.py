"""Parameter groups: settings by name, checked whenever one is set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..base.errors import key_error, message
from ..record.parameter import Parameter

Setting = Callable[[str, Any], Any]
"""(name, as it stands in messages; value) → the value in the form it is kept in; ValueError if it cannot be."""


Kind = Any
"""The class of an optimiser, with its `settings`, `state_of` and `check`."""


class Group(dict[str, Any]):
    """Parameters and how they are trained: `params`, a list, and the settings of their optimiser by name.

    A setting may be changed at any time, and holds from the next step on. Raises ValueError where it cannot be, and
    where the optimiser would keep other arrays with it; KeyError for a name that is none of the optimiser's.

    >>> optimizer = optim.SGD([{"params": [ab.Parameter([1.0])]}, {"params": [ab.Parameter([2.0])], "lr": 0.5}], lr=0.1)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.1, 0.5]
    >>> optimizer.param_groups[0]["lr"] = 0.2
    """

    initial_lr: float | None = None
    """Learning rate that schedules start from."""

    def __init__(self, kind: Kind, params: list[Parameter], settings: Mapping[str, Any]) -> None:
        checked = {name: kind.settings[name](f"{kind.__name__}: {name}", settings[name]) for name in kind.settings}
        kind.check(checked)
        super().__init__(params=params, **checked)
        self._kind = kind

    def __setitem__(self, name: str, value: Any) -> None:
        kind = self._kind.__name__
        if name not in self._kind.settings:
            known = ", ".join(self._kind.settings)
            raise key_error(f"{kind}: a group has no such setting", expected=known, got=name)
        changed = {**self, name: self._kind.settings[name](f"{kind}: {name}", value)}
        self._kind.check(changed)
        if self._kind.state_of(changed).keys() != self._kind.state_of(self).keys():
            what = f"{kind}: with this {name} other arrays would be kept"
            raise ValueError(message(what, got=f"{name}={value}", repair="make a new optimiser with it"))
        super().__setitem__(name, changed[name])

    def update(self, *settings: Any, **more: Any) -> None:
        """Set several, one after the other."""
        for name, value in dict(*settings, **more).items():
            self[name] = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _same_group, (self._kind, dict(self), self.initial_lr)


def _same_group(kind: Kind, items: dict[str, Any], initial_lr: float | None) -> Group:
    group = Group(kind, items["params"], items)
    group.initial_lr = initial_lr
    return group


def parameters_of(kind: str, params: Any) -> list[Parameter]:
    """The parameters in what was given as such, each once. TypeError for anything else, ValueError if there is none."""
    listed = params if isinstance(params, Iterable) and not isinstance(params, Parameter) else [params]
    found = list({id(parameter): parameter for parameter in listed}.values())
    if not found:
        raise ValueError(f"{kind}: there is no parameter to train")
    for parameter in found:
        if not isinstance(parameter, Parameter):
            what = f"{kind}: only parameters can be trained"
            got, repair = type(parameter).__name__, "pass model.parameters()"
            raise TypeError(message(what, expected="ab.Parameter", got=got, repair=repair))
    return found


# Settings.


def _refused(name: str, expected: str, value: Any) -> ValueError:
    return ValueError(message(f"{name} out of range", expected=expected, got=f"{value}"))


def not_negative(name: str, value: Any) -> float:
    """A finite number, 0 or more.

    >>> not_negative("SGD: lr", 1)
    1.0
    """
    number = float(value)
    if not 0 <= number < math.inf:
        raise _refused(name, f"0 <= {name.split()[-1]} < inf", number)
    return number


def fraction(name: str, value: Any) -> float:
    """From 0 to 1, not 1 itself."""
    number = float(value)
    if not 0 <= number < 1:
        raise _refused(name, f"0 <= {name.split()[-1]} < 1", number)
    return number


def fractions(name: str, value: Any) -> tuple[float, float]:
    """Two such numbers."""
    first, second = map(float, value)
    if not (0 <= first < 1 and 0 <= second < 1):
        raise _refused(name, "0 <= beta < 1", (first, second))
    return first, second


def flag(name: str, value: Any) -> bool:
    """True or False."""
    return bool(value)


def count(name: str, value: Any) -> int:
    """A whole number, 1 or more."""
    if int(value) != value or value < 1:
        raise _refused(name, f"a whole number {name.split()[-1]} >= 1", value)
    return int(value)
