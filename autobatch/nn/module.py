"""Base class of layers and models: finds their parameters, saves, loads, and switches between train and eval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, Self, TypeVar

import numpy as np

from ..base.errors import message
from ..base.module_epoch import Noted, changed
from ..base.notebooks import card, table
from ..record.layers import called_by_forward
from ..record.parameter import Buffer, Parameter, forget_gradients, move, replace
from .saving import as_array

P = ParamSpec("P")
R = TypeVar("R", covariant=True)

_CONTAINERS = (list, tuple, dict)


class _HasForward(Protocol[P, R]):
    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


@called_by_forward
class Module(metaclass=Noted):
    """Something that holds parameters and other modules: a layer, or a whole model.

    Parameters, buffers and modules are found in attributes, in `__slots__` too, and in lists, tuples and dicts held by
    attributes, at any depth, in the order in which they were set, those in slots first. A parameter met twice is one
    parameter, known by the name it was met under first; references back to a module that holds this one do no harm. A
    subclass need not call `super().__init__()`. Calling the module calls its `forward`.

    Attributes:
        training: True until `eval()`; what `Dropout` follows.

    >>> class Scorer(nn.Module):
    ...     def __init__(self, dim):
    ...         self.layers = [nn.Linear(dim, dim), nn.Linear(dim, 1)]
    ...
    ...     def forward(self, x):
    ...         hidden, out = self.layers
    ...         return out(ab.tanh(hidden(x)))
    >>> model = Scorer(3)
    >>> {name: p.shape for name, p in model.named_parameters()}
    {'layers.0.weight': (3, 3), 'layers.0.bias': (3,), 'layers.1.weight': (1, 3), 'layers.1.bias': (1,)}
    >>> model
    Scorer(
      (layers.0): Linear(in_features=3, out_features=3, bias=True)
      (layers.1): Linear(in_features=3, out_features=1, bias=True)
    )
    """

    training: bool = True

    if TYPE_CHECKING:
        forward: Callable[..., Any]

        def __call__(self: _HasForward[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...

    else:

        def forward(self, *args, **kwargs):
            name = type(self).__name__
            raise TypeError(
                message(f"{name} cannot be called: it has no forward", repair=f"define {name}.forward(self, ...)")
            )

        # Compiled cells guard on what modules hold, and check again only after some module has changed.

        def __setattr__(self, name, value):
            object.__setattr__(self, name, value)
            changed()

        def __delattr__(self, name):
            object.__delattr__(self, name)
            changed()

    # What the module holds.

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with the name it is met under first."""
        return ((name, held) for name, held in _walk(self) if isinstance(held, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once, tied ones too.

        >>> sum(p.value.size for p in nn.Linear(3, 4).parameters())
        16
        """
        return (held for _, held in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer once, with the name it is met under first."""
        return ((name, held) for name, held in _walk(self) if isinstance(held, Buffer))

    def buffers(self) -> Iterator[Buffer]:
        """Every buffer once."""
        return (held for _, held in self.named_buffers())

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Every module once with the name it is met under first, this one before all others as `""`."""
        return ((name, held) for name, held in _walk(self) if isinstance(held, Module))

    def modules(self) -> Iterator[Module]:
        """Every module once, this one first."""
        return (held for _, held in self.named_modules())

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call `fn` with every module in this one, and then with this one; returns the module. As PyTorch's.

        >>> def without_bias(module):
        ...     if isinstance(module, nn.Linear):
        ...         nn.init.zeros_(module.bias)
        >>> nn.MLP([2, 3, 1]).apply(without_bias).layers[0].bias.value
        array([0., 0., 0.], dtype=float32)
        """
        for module in reversed(list(self.modules())):
            fn(module)
        return self

    # Training.

    def train(self, mode: bool = True) -> Self:
        """Set `training` of this module and of all modules in it; returns the module."""
        for module in list(self.modules()):
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """The same as `train(False)`.

        >>> nn.Dropout(0.5).eval().training
        False
        """
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        forget_gradients(list(self.parameters()))

    # Places.

    def to(self, backend: str) -> Self:
        """Move all parameters and buffers, with their gradients, to where a backend has its arrays: "cupy" for the GPU,
        "numba" or "numpy" for the host. Returns the module; all move, or none.

        >>> layer = nn.Linear(2, 3).to("numba")
        """
        move([*self.parameters(), *self.buffers()], backend)
        return self

    # State.

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters and buffers by name; what is tied stands under each of its names, as in PyTorch.

        A module that refers back to one that holds it is named once. Raises ValueError where two parameters have the
        same name, such as keys `1` and `"1"` of one dict.
        """
        return {name: held.numpy() for name, held in self.named_state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Take over the values of a state dict: of this library, of `ab.load`, or of a PyTorch module.

        Arguments:
            state: arrays by name; NumPy arrays or PyTorch tensors. Of a tied parameter one name is enough.
            strict: whether missing and unexpected names are errors. Shapes always have to agree. Floating values are
                rounded to the parameter's dtype; floats do not load into integers.

        Returns the names that were missing and those that were not expected; both empty if `strict`.

        Raises ValueError with everything that does not fit. All values change, or none.

        >>> layer, other = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> _ = other.load_state_dict(layer.state_dict())
        >>> bool((layer.weight.value == other.weight.value).all())
        True
        """
        held = self.named_state()
        faults: list[str] = []
        chosen: dict[int, tuple[str, Parameter | Buffer, np.ndarray]] = {}
        for name, target in held.items():
            if name not in state:
                continue
            try:
                value = _fitting(state[name], target)
            except (TypeError, ValueError) as fault:
                faults.append(f"{name}: {fault}")
                continue
            first, _, before = chosen.setdefault(id(target), (name, target, value))
            if not np.array_equal(before, value, equal_nan=True):
                faults.append(f"{name}: tied to {first}, but their values differ")
        given = {id(target) for name, target in held.items() if name in state}
        keys = IncompatibleKeys(
            missing=[name for name, target in held.items() if id(target) not in given],
            unexpected=[name for name in state if name not in held],
        )
        if strict:
            faults += [f"{name}: missing" for name in keys.missing]
            faults += [f"{name}: unexpected" for name in keys.unexpected]
        if faults:
            listed = "".join(f"\n  {fault}" for fault in faults)
            raise ValueError(f"load_state_dict: the state does not fit {type(self).__name__}{listed}")
        replace([(target, value) for _, target, value in chosen.values()])
        return keys

    def named_state(self) -> dict[str, Parameter | Buffer]:
        """Parameters and buffers under all their names: what is tied under each, as in a state dict."""
        named: dict[str, Parameter | Buffer] = {}
        for name, held in _walk(self, every_name=True):
            if isinstance(held, (Parameter, Buffer)) and named.setdefault(name, held) is not held:
                raise ValueError(f"state_dict: two parameters of {type(self).__name__} have the name {name!r}")
        return named

    # Text.

    def extra_repr(self) -> str:
        """What stands between the brackets of a layer's text; empty for a module that is described by its parts."""
        return ""

    def __repr__(self) -> str:
        return _described(self, frozenset())

    def _repr_html_(self) -> str:
        """What a notebook shows: parameters and buffers by name, and how many numbers they have."""
        rows: list[tuple[object, ...]] = []
        for name, held in _walk(self):
            if isinstance(held, (Parameter, Buffer)):
                extents = ", ".join(map(str, held.shape))
                rows.append((name, f"{type(held).__name__} {held.dtype}[{extents}]", f"{math.prod(held.shape):,}"))
        total = sum(math.prod(p.shape) for p in self.parameters())
        lines = [f"{total:,} numbers are trained; {'training' if self.training else 'evaluation'} mode"]
        return card(type(self).__name__, lines, None) + table(rows, ("name", "type", "numbers"), numbers=2)


class IncompatibleKeys(NamedTuple):
    """Names that a state dict lacked, and names it had too many."""

    missing: list[str]
    unexpected: list[str]


def _walk(root: Module, every_name: bool = False) -> Iterator[tuple[str, object]]:
    """Names and values of all modules, parameters and buffers below `root`, depth first, in the order they were set.

    Each once; with `every_name` again under each further name, except names that lead round a cycle.
    """
    seen: dict[int, object] = {}
    waiting: list[tuple[str, object, object]] = [("", root, None)]
    while waiting:
        name, held, holder = waiting.pop()
        if id(held) in seen and (not every_name or _reaches(held, holder)):
            continue
        seen[id(held)] = held
        if not isinstance(held, _CONTAINERS):
            yield name, held
        dot = name and name + "."
        waiting += [(dot + key, value, held) for key, value in reversed(_parts(held))]


def _parts(held: object) -> list[tuple[str, object]]:
    """What `held` holds that can be, or can lead to, a parameter, a buffer or a module."""
    if isinstance(held, (Module, dict)):
        items = (held if isinstance(held, dict) else attributes(held)).items()
        return [(str(key), value) for key, value in items if isinstance(value, _FOLLOWED)]
    if isinstance(held, (list, tuple)):
        return [(str(key), value) for key, value in enumerate(held) if isinstance(value, _FOLLOWED)]
    return []


def attributes(module: Module) -> dict[str, object]:
    """Attributes by name: those in slots, base classes first, then those in the order in which they were set."""
    slots = _slots(type(module))
    return {**{s: getattr(module, s) for s in slots if hasattr(module, s)}, **vars(module)} if slots else vars(module)


def _slots(kind: type) -> list[str]:
    """Names of the slots of a class, those of its bases first."""
    with_slots = (vars(c) for c in reversed(kind.__mro__) if "__slots__" in vars(c))
    return [name for own in with_slots for name, held in own.items() if isinstance(held, MemberDescriptorType)]


def _reaches(start: object, goal: object) -> bool:
    """Whether `goal` is `start`, or held by it at any depth."""
    seen = {id(start)}
    waiting = [start]
    while waiting:
        held = waiting.pop()
        if held is goal:
            return True
        for _, value in _parts(held):
            if id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
    return False


def _fitting(value: Any, target: Parameter | Buffer) -> np.ndarray:
    """A copy of `value`, in the dtype of `target`."""
    array = as_array(value)
    if array.shape != target.shape:
        raise ValueError(f"expected shape {target.shape}, got {array.shape}")
    if not np.can_cast(array.dtype, target.dtype, "same_kind"):
        raise TypeError(f"expected dtype {target.dtype}, got {array.dtype}")
    return array.astype(target.dtype)


def _described(module: Module, above: frozenset[int]) -> str:
    """Text of `module`, one line for each of its parts; `above` are the modules whose text it stands in."""
    name = type(module).__name__
    if id(module) in above:
        return f"{name}(...)"
    if extra := module.extra_repr():
        return f"{name}({extra})"
    above = above | {id(module)}
    lines = []
    waiting = list(reversed(_parts(module)))
    while waiting:
        key, held = waiting.pop()
        if isinstance(held, Module):
            lines.append(f"({key}): {_described(held, above)}")
        elif isinstance(held, (Parameter, Buffer)):
            extents = ", ".join(map(str, held.shape))
            lines.append(f"({key}): {type(held).__name__}({held.dtype}[{extents}])")
        elif id(held) not in above:
            above = above | {id(held)}
            waiting += [(f"{key}.{inner}", value) for inner, value in reversed(_parts(held))]
    body = "".join("\n  " + line.replace("\n", "\n  ") for line in lines)
    return f"{name}({body}\n)" if lines else f"{name}()"


_FOLLOWED = (Module, Parameter, Buffer, *_CONTAINERS)
