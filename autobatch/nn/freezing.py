"""Which parameters are trained, and in which groups."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from ..base.errors import message
from ..record.parameter import Buffer, Parameter, replace
from .module import Module, attributes

M = TypeVar("M", bound=Module)


class Frozen(Buffer):
    """A buffer in place of a parameter, which it holds until `unfreeze`."""

    __slots__ = ("parameter",)

    def __init__(self, parameter: Parameter) -> None:
        super().__init__(parameter.numpy(), parameter.dtype)
        self.parameter = parameter

    def __getstate__(self) -> Any:
        return super().__getstate__(), self.parameter

    def __setstate__(self, state: Any) -> None:
        held, self.parameter = state
        super().__setstate__(held)


def freeze(module: M, names: str = "*") -> M:
    """Take parameters out of training: each becomes a buffer of the same name and numbers. Returns the module.

    Nothing is differentiated with respect to it, `module.parameters()` leaves it out, and the state dict stays the
    same. An optimiser that has the parameter leaves it as it is, since it gets no gradient. What is tied is frozen
    under all its names.

    Arguments:
        names: which, as in a shell: "embed.*"; ValueError where no parameter has such a name.

    >>> model = nn.freeze(nn.MLP([2, 3, 1]), "layers.0.*")
    >>> [name for name, _ in model.named_parameters()]
    ['layers.1.weight', 'layers.1.bias']
    """
    own = module.named_state()
    chosen = {id(x): x for name, x in own.items() if fnmatchcase(name, names) and isinstance(x, Parameter | Frozen)}
    if not chosen:
        raise ValueError(_unmatched("freeze", module, names))
    _put(module, {key: Frozen(x) for key, x in chosen.items() if isinstance(x, Parameter)})
    return module


def unfreeze(module: M, names: str = "*") -> M:
    """Put the parameters back that `freeze` took out, the same ones, with the numbers that they have now.

    Arguments:
        names: which, as in `freeze`; those that are not frozen stay as they are.

    >>> len(list(nn.unfreeze(nn.freeze(nn.Linear(2, 3))).parameters()))
    2
    """
    found = {id(x): x for name, x in module.named_state().items() if isinstance(x, Frozen) and fnmatchcase(name, names)}
    replace([(x.parameter, x.numpy()) for x in found.values()])
    _put(module, {key: x.parameter for key, x in found.items()})
    return module


def _put(module: Module, instead: Mapping[int, Parameter | Buffer]) -> None:
    """Put other arrays in place of some, by `id`, wherever a module in this one holds them."""

    def of(x: Any) -> Any:
        if id(x) in instead:
            return instead[id(x)]
        if isinstance(x, list):
            x[:] = map(of, x)
        elif isinstance(x, dict):
            x.update({key: of(value) for key, value in x.items()})
        elif isinstance(x, tuple):
            parts = [of(value) for value in x]
            if any(a is not b for a, b in zip(parts, x, strict=True)):
                return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
        return x

    for part in list(module.modules()):
        for name, value in list(attributes(part).items()):
            setattr(part, name, of(value))


def parameter_groups(module: Module, settings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Groups of the parameters of `module` for an optimiser, by their names.

    Arguments:
        settings: for names as in a shell, such as "*.bias", settings of the optimiser. A parameter belongs to the first
            that fits; those that none fits are the last group, without settings of its own.

    Raises ValueError where no parameter has such a name. One that an earlier pattern took still counts.

    >>> model = nn.MLP([2, 3, 1])
    >>> groups = nn.parameter_groups(model, {"*.bias": {"weight_decay": 0.0}})
    >>> [len(group["params"]) for group in groups]
    [2, 2]
    >>> optimizer = optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
    """
    named = dict(module.named_parameters())
    for pattern in settings:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise ValueError(_unmatched("parameter_groups", module, pattern))
    groups: dict[str, list[Parameter]] = {pattern: [] for pattern in (*settings, "")}
    for name, parameter in named.items():
        groups[next((pattern for pattern in settings if fnmatchcase(name, pattern)), "")].append(parameter)
    return [{"params": held, **settings.get(pattern, {})} for pattern, held in groups.items() if held]


def _unmatched(what: str, module: Module, pattern: str) -> str:
    names = ", ".join(name for name, _ in module.named_parameters())
    return message(f"{what}: no parameter of {type(module).__name__} has a name like {pattern!r}", expected=names)
