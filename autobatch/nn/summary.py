"""A table of a model's parts."""

from __future__ import annotations

import math
from typing import Any

import autobatch as ab

from ..base.types import short_dtype
from .functional_call import copied
from .module import Module


def summary(module: Module, *args: Any, **kwargs: Any) -> str:
    """A table of the modules in a model: their classes, their own parameters and, if the model is called with
    `args` and `kwargs`, what each of them gives. Nothing is computed by this, unless the model asks for a value.

    A module that is called several times shows its last result; one that is not called, none. What is tied counts
    where it is found first.

    >>> print(nn.summary(nn.MLP([3, 8, 2]), ab.ones(3)))
    module      class          output   parameters
                MLP            f32[2]            0
    layers      ModuleList                       0
    layers.0    Linear         f32[8]           32
    layers.1    Linear         f32[2]           18
    activation  Lambda         f32[8]            0
    dropout     Dropout        f32[8]            0
    50 parameters, of which 50 are trained
    """
    given = _outputs(module, args, kwargs) if args or kwargs else {}
    names = [name for name, _ in module.named_modules()]
    counts = dict.fromkeys(names, 0)
    for name, x in (*module.named_parameters(), *module.named_buffers()):
        counts[max((n for n in names if not n or name.startswith(n + ".")), key=len)] += math.prod(x.shape)
    rows = [("module", "class", "output", "parameters")]
    for name, part in module.named_modules():
        rows.append((name, type(part).__name__, given.get(name, ""), f"{counts[name]:,}"))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>{widths[3]}}" for row in rows
    ]
    n_trained = sum(math.prod(p.shape) for p in module.parameters())
    return "\n".join([*lines, f"{sum(counts.values()):,} parameters, of which {n_trained:,} are trained"])


def _outputs(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, str]:
    """What each module gives, by name, where the model is called with this."""
    seen: dict[str, str] = {}
    watched = copied(module, {})
    for name, part in list(watched.named_modules()):
        forward = part.forward

        def noting(*args: Any, _name: str = name, _forward: Any = forward, **kwargs: Any) -> Any:
            result = _forward(*args, **kwargs)
            seen[_name] = _described(result)
            return result

        object.__setattr__(part, "forward", noting)
    with ab.no_grad(), ab.disable_cells():
        watched(*args, **kwargs)
    return seen


def _described(x: Any) -> str:
    if isinstance(x, ab.Tensor):
        return f"{short_dtype(x.dtype)}[{', '.join(map(str, x.shape))}]"
    if isinstance(x, list | tuple):
        return f"({', '.join(map(_described, x))})"
    return type(x).__name__
