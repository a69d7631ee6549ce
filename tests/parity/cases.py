"""What is compared with PyTorch: each case is one function, written once on this library and once on PyTorch.

Both compute it for `EXAMPLES` examples, here as one minibatch, there one by one, with the same parameters. Results are
the values of all examples and the gradients, of parameters and of what each example has of its own, of a weighted sum
of the values. PyTorch's are kept in `reference.npz`, with the numbers that went in:

    python -m tests.parity.make      recomputes them; needs PyTorch
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn
from tests.requested import host

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]

REFERENCE = Path(__file__).parent / "reference.npz"
EXAMPLES = 4


class Given(nn.Module):
    """A module that has nothing but parameters."""

    def __init__(self, shapes: Shapes) -> None:
        for name, shape in shapes.items():
            setattr(self, name, ab.Parameter(np.zeros(shape)))


@dataclass(frozen=True)
class Case:
    """One function.

    make: the module whose parameters it reads; their names and shapes are those of PyTorch's
    own: shapes of what each example has of its own
    ours: (module, operands) → value or values; operands has what is `own`, `label` from 0 to 2, and `n` from 1 up
    theirs: (torch, parameters, operands) → the same
    """

    name: str
    make: Callable[[], nn.Module]
    own: Shapes
    ours: Callable[[Any, Any], Any]
    theirs: Callable[[Any, Any, Any], Any]

    def __str__(self) -> str:
        return self.name

    def shapes(self) -> Shapes:
        """Of all numbers that go in: those of the examples have one axis more."""
        own = {name: (EXAMPLES, *shape) for name, shape in self.own.items()}
        return {**{name: p.shape for name, p in self.make().named_parameters()}, **own}

    def by_us(self, given: Arrays) -> Arrays:
        """Results of this library, on the backend in use."""
        module = self.make()
        module.load_state_dict({name: given[name] for name, _ in module.named_parameters()})
        own = {name: ab.Parameter(given[name]) for name in self.own}

        def one(i: int) -> list[Any]:
            return listed(self.ours(module, operands({name: p[i] for name, p in own.items()}, i)))

        made = ab.map(one, range(EXAMPLES))
        weighted = [
            (y * ab.tensor(weights(y.shape, i, k))).sum() for i, ys in enumerate(made) for k, y in enumerate(ys)
        ]
        ab.sum(weighted).backward()
        named = {**dict(module.named_parameters()), **own}
        gradients = {name: host(p.grad) if p.grad is not None else np.zeros(p.shape) for name, p in named.items()}
        return results([[np.asarray(y) for y in ys] for ys in ab.evaluate(made)], gradients)

    def by_them(self, torch: Any, given: Arrays) -> Arrays:
        """Results of PyTorch."""
        named = {name: torch.tensor(x, requires_grad=True) for name, x in given.items()}
        parameters = SimpleNamespace(**{name: named[name] for name, _ in self.make().named_parameters()})
        made = []
        for i in range(EXAMPLES):
            made.append(listed(self.theirs(torch, parameters, operands({n: named[n][i] for n in self.own}, i))))
        weighted = [
            (y * torch.tensor(weights(tuple(y.shape), i, k))).sum()
            for i, ys in enumerate(made)
            for k, y in enumerate(ys)
        ]
        sum(weighted).backward()
        gradients = {n: np.zeros(x.shape) if x.grad is None else x.grad.to_dense().numpy() for n, x in named.items()}
        return results([[y.detach().numpy() for y in ys] for ys in made], gradients)


def operands(own: dict[str, Any], i: int) -> SimpleNamespace:
    """What example i is computed from."""
    return SimpleNamespace(**own, label=i % 3, n=i + 1)


def listed(made: Any) -> list[Any]:
    """One value or a nesting of several, as a list."""
    return [y for part in made for y in listed(part)] if isinstance(made, list | tuple) else [made]


def numbered(made: list[list[Any]]) -> list[tuple[int, int, Any]]:
    """All values, with the number of the example and of the value."""
    return [(i, k, y) for i, ys in enumerate(made) for k, y in enumerate(ys)]


def weights(shape: tuple[int, ...], i: int, k: int) -> Array:
    """By what value k of example i is multiplied before all are summed: no two elements by the same."""
    return np.cos(np.arange(np.prod(shape, dtype=int)) + 0.7 * i + 0.3 * k).reshape(shape)


def results(values: list[list[Array]], gradients: Arrays) -> Arrays:
    """All results by name."""
    found = {f"value {k} of example {i}": y for i, ys in enumerate(values) for k, y in enumerate(ys)}
    return found | {f"the gradient of {name}": g for name, g in gradients.items()}


def function(name: str, own: Shapes, ours: Any, theirs: Any, **parameters: tuple[int, ...]) -> Case:
    """A case of ops alone: `ours(operands)` and `theirs(torch, operands)`; operands have the parameters, too."""

    def both(p: Any, x: Any) -> SimpleNamespace:
        return SimpleNamespace(**vars(x), **{name: getattr(p, name) for name in parameters})

    return Case(
        name, lambda: Given(parameters), own, lambda m, x: ours(both(m, x)), lambda t, p, x: theirs(t, both(p, x))
    )


def call(torch: Any, module: Any, parameters: Any, *args: Any) -> Any:
    """A module of PyTorch on the parameters of a case, which have the names and shapes of its own."""
    assert {n: p.shape for n, p in vars(parameters).items()} == {n: p.shape for n, p in module.named_parameters()}
    return torch.func.functional_call(module, vars(parameters), args, strict=True)
