"""Modules with other weights than their own: without changing the module."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import autobatch as ab

from ..base.errors import message
from .module import Module, attributes


def functional_call(module: Module, weights: Mapping[str, Any], *args: Any, strict: bool = False, **kwargs: Any) -> Any:
    """What a module gives with these weights in place of its own.

    The weights may be computed: gradients flow to what they were computed from, through a step of gradient descent,
    too (`ab.grad` gives one). Examples inside of `ab.map` may each have their own, and are batched all the same. The
    module is not changed; what its `forward` sets on itself is lost. Cells in it are run op by op.

    Arguments:
        module: any module.
        weights: tensors by the names of its parameters and buffers, of their shapes. What is tied is replaced under
            all its names by the one given. Those not named stay.
        args, kwargs: what the module is called with.
        strict: whether all names have to be there.

    Raises ValueError for names that the module does not have or, if `strict`, that are missing; TypeError for arrays
    of another shape. As `torch.func.functional_call`.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> nn.functional_call(layer, {"weight": ab.tensor([[1.0, 2.0]])}, ab.ones(2)).numpy()
    array([3.], dtype=float32)
    """
    own = module.named_state()
    unknown = [name for name in weights if name not in own]
    given = {id(own[name]): weight for name, weight in weights.items() if name in own}
    held = (*module.named_parameters(), *module.named_buffers()) if strict else ()
    missing = [name for name, kept in held if id(kept) not in given]
    if unknown or missing:
        listed = "".join([*(f"\n  {n}: unexpected" for n in unknown), *(f"\n  {n}: missing" for n in missing)])
        raise ValueError(f"functional_call: the weights do not fit {type(module).__name__}{listed}")
    for name, weight in weights.items():
        weight = ab.tensor(weight) if not isinstance(weight, ab.Tensor) else weight
        if weight.shape != own[name].shape:
            what, expected = f"functional_call: {name} has another shape", str(own[name].shape)
            raise TypeError(message(what, expected=expected, got=str(weight.shape)))
        given[id(own[name])] = weight
    with ab.disable_cells():
        return copied(module, given)(*args, **kwargs)


def copied(module: Module, instead: Mapping[int, Any]) -> Module:
    """A module with copies of the modules and containers in it, and what is `instead`, by `id`, in place of parameters
    and buffers. All else is shared."""
    made: dict[int, Any] = dict(instead)

    def of(x: Any) -> Any:
        if id(x) in made:
            return made[id(x)]
        if isinstance(x, Module):
            new: Any = copy.copy(x)
            made[id(x)] = new
            for name, value in attributes(x).items():
                object.__setattr__(new, name, of(value))
            return new
        if isinstance(x, list):
            made[id(x)] = new = copy.copy(x)
            new[:] = map(of, x)
            return new
        if isinstance(x, dict):
            made[id(x)] = new = copy.copy(x)
            for key, value in x.items():
                new[key] = of(value)
            return new
        if isinstance(x, tuple):
            parts = [of(value) for value in x]
            changed = any(a is not b for a, b in zip(parts, x, strict=True))
            return (type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)) if changed else x
        return x

    result: Module = of(module)
    return result
