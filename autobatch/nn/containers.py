"""Modules that hold others: in a row, in a list, by name; and the multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from itertools import pairwise
from typing import Any, overload

import autobatch as ab

from ..base.errors import key_error, message
from .dropout import Dropout
from .linear import Linear
from .module import Module

Layer = Module | Callable[..., Any]
"""A module, or a function such as `ab.tanh`."""


class Lambda(Module):
    """A function `fn` as a module, for containers, which make one of each function that they are given.

    >>> nn.Lambda(ab.tanh)
    Lambda(tanh)
    >>> nn.Lambda(lambda x: x * 2)(3)
    6
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives."""
        return self.fn(*args, **kwargs)

    def extra_repr(self) -> str:
        return str(getattr(self.fn, "__name__", self.fn))


def _as_module(layer: Any, holder: Module) -> Module:
    if isinstance(layer, Module):
        return layer
    if not callable(layer):
        what = f"{type(holder).__name__}: it holds modules and functions"
        raise TypeError(message(what, got=type(layer).__name__))
    return Lambda(layer)


class _Holder(Module):
    """Modules that are attributes under these names, as PyTorch's containers have them."""

    _names: tuple[str, ...] = ()

    def _held(self) -> list[Module]:
        held = vars(self)
        return [held[name] for name in self._names]

    def _hold(self, named: Mapping[str, Layer]) -> None:
        """Hold these modules, and no others."""
        made = {name: _as_module(layer, self) for name, layer in named.items()}
        others = vars(self).keys() - set(self._names)
        for name in made:
            if not isinstance(name, str) or not name or "." in name or name in others or hasattr(type(self), name):
                what = f"{type(self).__name__}: {name!r} cannot be the name of a module"
                raise key_error(what, expected="a string without dots that is no attribute")
        for name in self._names:
            delattr(self, name)
        self._names = tuple(made)
        for name, layer in made.items():
            setattr(self, name, layer)

    def __len__(self) -> int:
        return len(self._names)


def _numbered(layers: Iterable[Layer]) -> dict[str, Layer]:
    return {str(k): layer for k, layer in enumerate(layers)}


class ModuleList(_Holder, MutableSequence[Any]):
    """A list of modules, with all that lists do. A plain list held by an attribute is found as well; this one is for
    those used to PyTorch's, whose names are the same: `0.weight`.

    Arguments:
        modules: modules, or functions such as `ab.tanh`, which become `Lambda`s; others raise TypeError.

    >>> layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
    >>> layers.append(nn.Linear(3, 1))
    >>> len(layers), layers[-1].out_features, [name for name, _ in layers[1:].named_parameters()][:2]
    (3, 1, ['0.weight', '0.bias'])
    """

    def __init__(self, modules: Iterable[Layer] = ()) -> None:
        self._hold(_numbered(modules))

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Any:
        found = self._held()[index]
        return ModuleList(found) if isinstance(found, list) else found

    def __setitem__(self, index: Any, value: Any) -> None:
        held: list[Any] = self._held()
        held[index] = value
        self._hold(_numbered(held))

    def __delitem__(self, index: int | slice) -> None:
        held = self._held()
        del held[index]
        self._hold(_numbered(held))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._held())

    def insert(self, index: int, value: Layer) -> None:
        """Put a module before the one at `index`."""
        held: list[Layer] = list(self._held())
        held.insert(index, value)
        self._hold(_numbered(held))


class ModuleDict(_Holder, MutableMapping[str, Any]):
    """Modules by name, with all that dicts do. A plain dict held by an attribute is found as well; this one is for
    those used to PyTorch's, whose names are the same: `left.weight`.

    Arguments:
        modules: modules, or functions such as `ab.tanh`, by name. A name is a string without dots that is no attribute
            of a dict; others raise KeyError.

    >>> sides = nn.ModuleDict({"left": nn.Linear(3, 2), "right": nn.Linear(3, 2)})
    >>> list(sides), sides["left"](ab.ones(3)).shape
    (['left', 'right'], (2,))
    """

    def __init__(self, modules: Mapping[str, Layer] | Iterable[tuple[str, Layer]] = ()) -> None:
        self._hold(dict(modules))

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return vars(self)[name]

    def __setitem__(self, name: str, module: Layer) -> None:
        self._hold({**dict(self), name: module})

    def __delitem__(self, name: str) -> None:
        self[name]
        self._hold({n: module for n, module in self.items() if n != name})

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    # A module is itself, as a key, too.

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Sequential(_Holder):
    """Modules one after the other: each is called with what the one before gives.

    Arguments:
        layers: modules, or functions such as `ab.tanh`, which become `Lambda`s; or one dict of them by name.

    Names of parameters as in `torch.nn.Sequential`: `0.weight`.

    >>> model = nn.Sequential(nn.Linear(3, 5), ab.tanh, nn.Linear(5, 2))
    >>> model(ab.ones(3)).shape, model[-1].out_features
    ((2,), 2)
    >>> model
    Sequential(
      (0): Linear(in_features=3, out_features=5, bias=True)
      (1): Lambda(tanh)
      (2): Linear(in_features=5, out_features=2, bias=True)
    )
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        named: dict[str, Any] = {str(k): layer for k, layer in enumerate(layers)}
        if len(layers) == 1 and isinstance(layers[0], Mapping) and not isinstance(layers[0], Module):
            named = dict(layers[0])
        self._hold(named)

    def forward(self, x: Any) -> Any:
        """What the last layer gives; x itself where there is none."""
        for layer in self._held():
            x = layer(x)
        return x

    def __getitem__(self, index: int | slice) -> Any:
        found = self._held()[index]
        return Sequential(dict(zip(self._names[index], found, strict=True))) if isinstance(found, list) else found

    def __iter__(self) -> Iterator[Any]:
        return iter(self._held())

    def append(self, layer: Layer) -> Sequential:
        """Put a layer after the last one; returns the module."""
        self._hold({**dict(zip(self._names, self._held(), strict=True)), str(len(self)): layer})
        return self


class MLP(Module):
    """A multilayer perceptron: linear layers with a nonlinearity, and dropout, between them.

    Arguments:
        sizes: widths, from that of x to that of the result: at least two.
        activation: what comes after each layer but the last.
        dropout: probability with which an element of a hidden layer is dropped in training.
        bias: whether the layers have biases.

    Parameters: `layers.{k}.weight: f[sizes[k + 1], sizes[k]]`, `layers.{k}.bias: f[sizes[k + 1]]`.

    >>> model = nn.MLP([3, 8, 8, 2], activation=ab.tanh)
    >>> model(ab.ones(3)).shape, model(ab.ones((4, 3))).shape, len(model.layers)
    ((2,), (4, 2), 3)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable[[ab.Tensor], ab.Tensor] = ab.relu,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        if len(sizes) < 2:
            raise ValueError(message("MLP: there is no layer", expected="two widths or more", got=str(list(sizes))))
        self.layers = ModuleList(Linear(n, m, bias) for n, m in pairwise(sizes))
        self.activation = _as_module(activation, self)
        self.dropout = Dropout(dropout)

    def forward(self, x: ab.Tensor) -> ab.Tensor:
        """x: f[sizes[0]] or f[n, sizes[0]] → f[sizes[-1]] or f[n, sizes[-1]]."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.dropout(self.activation(layer(x)))
        return last(x)
