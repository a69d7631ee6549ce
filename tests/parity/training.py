"""Optimisers over several steps, here and on PyTorch: each `Run` gives the parameters after every step, and the norm
of gradients that are clipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn, optim
from autobatch.record.parameter import SparseRows
from tests.requested import host

from .cases import Array, Arrays, Shapes

STEPS = 12


@dataclass(frozen=True)
class Run:
    """Steps of one optimiser.

    sparse: gradients are rows of a table
    trained: gradients are those of a small network, clipped, and not given
    dtype: of parameters and gradients
    """

    name: str
    optimizer: str
    settings: dict[str, Any]
    dtype: str = "float64"
    sparse: bool = False
    trained: bool = False

    def __str__(self) -> str:
        return self.name

    def shapes(self) -> Shapes:
        """Of all numbers that go in."""
        if self.trained:
            return {"weight": (4, 3), "bias": (4,), "out": (4,), "x": (STEPS, 3), "y": (STEPS,)}
        if self.sparse:
            return {"start": (6, 3), "gradients": (STEPS, 6, 3)}
        return {
            f"{what} {k}": (*n, *shape) for what, n in (("start", ()), ("gradients", (STEPS,))) for k, shape in SHAPES
        }

    def by_us(self, given: Arrays) -> Arrays:
        """What is there after each step, by this library."""
        if self.trained:
            net = Net()
            net.load_state_dict({name: given[name] for name in ("weight", "bias", "out")})
            optimizer = getattr(optim, self.optimizer)(net.parameters(), **self.settings)
            after = []
            for step in range(STEPS):
                net.zero_grad()
                losses = ab.map(lambda k: ab.squared_error(net(given["x"][k]), given["y"][k]), batch(step))
                ab.mean(losses).backward()
                norm = optim.clip_grad_norm(net.parameters(), CLIPPED)
                optimizer.step()
                after.append([*(p.numpy().copy() for p in net.parameters()), np.array(host(norm))])
            return named(after)
        starts, gradients = self.parts(given)
        parameters = [ab.Parameter(start, dtype=self.dtype) for start in starts]
        optimizer = getattr(optim, self.optimizer)(parameters, **self.settings)
        after = []
        for step in range(STEPS):
            for k, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
                if self.sparse:
                    rows = touched(step)
                    p.grad = SparseRows(rows=rows, values=g[step][rows], shape=p.shape)
                else:
                    p.grad = g[step] if is_reached(step, k) else None
            optimizer.step()
            after.append([p.numpy().copy() for p in parameters])
        return named(after)

    def by_them(self, torch: Any, given: Arrays) -> Arrays:
        """The same by PyTorch."""
        if self.trained:
            return self._trained_by_them(torch, given)
        starts, gradients = self.parts(given)
        parameters = [torch.tensor(start, requires_grad=True) for start in starts]
        settings = dict(self.settings)
        kind = "SparseAdam" if self.sparse and self.optimizer == "Adam" else self.optimizer
        if kind == "SparseAdam":
            settings["eps"] = 1e-300  # added before the bias is corrected, here after it: without it both are the same
        optimizer = getattr(torch.optim, kind)(parameters, **settings)
        after = []
        for step in range(STEPS):
            for k, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
                if self.sparse:
                    rows = touched(step)
                    at, values = torch.tensor(rows[None]), torch.tensor(g[step][rows])
                    p.grad = torch.sparse_coo_tensor(at, values, p.shape, check_invariants=True).coalesce()
                else:
                    p.grad = torch.tensor(g[step]) if is_reached(step, k) else None
            with torch.sparse.check_sparse_tensor_invariants(True):
                optimizer.step()
            after.append([p.detach().numpy().copy() for p in parameters])
        return named(after)

    def _trained_by_them(self, torch: Any, given: Arrays) -> Arrays:
        weight, bias, out = (torch.tensor(given[name], requires_grad=True) for name in ("weight", "bias", "out"))
        optimizer = getattr(torch.optim, self.optimizer)([weight, bias, out], **self.settings)
        after = []
        for step in range(STEPS):
            optimizer.zero_grad()
            x, y = torch.tensor(given["x"][batch(step)]), torch.tensor(given["y"][batch(step)])
            ((torch.tanh(x @ weight.T + bias) @ out - y) ** 2).mean().backward()
            # Clipped as PyTorch's does, which adds 1e-6 to the norm, without that.
            norm = torch.sqrt(sum((p.grad**2).sum() for p in (weight, bias, out)))
            for p in (weight, bias, out):
                p.grad *= torch.clamp(CLIPPED / norm, max=1.0)
            optimizer.step()
            after.append([p.detach().numpy().copy() for p in (weight, bias, out, norm)])
        return named(after)

    def parts(self, given: Arrays) -> tuple[list[Array], list[Array]]:
        """Starts and gradients, in the dtype of the run."""
        starts = [x.astype(self.dtype) for name, x in given.items() if name.startswith("start")]
        gradients = [x.astype(self.dtype) for name, x in given.items() if name.startswith("gradients")]
        return starts, gradients


class Net(nn.Module):
    """A network of one hidden layer."""

    def __init__(self) -> None:
        self.weight, self.bias, self.out = (ab.Parameter(np.zeros(shape)) for shape in ((4, 3), (4,), (4,)))

    def forward(self, x: Array) -> Any:
        return ab.tanh(self.weight @ ab.tensor(x) + self.bias) @ self.out


SHAPES = list(enumerate([(3, 4), (5,), ()]))
CLIPPED = 0.5


def batch(step: int) -> list[int]:
    """Examples of a step."""
    return [(step * 5 + k) % STEPS for k in range(4)]


def is_reached(step: int, parameter: int) -> bool:
    """A parameter that is not reached now and then keeps its moments and its count."""
    return not (parameter == 1 and step % 5 == 2)


def touched(step: int) -> Array:
    """Rows of a table that have a gradient."""
    return np.array([[2], [0, 3, 5], list(range(6)), [1, 2]][step % 4])


def named(after: list[list[Array]]) -> Arrays:
    """Parameters after each step, and the norm of what was clipped, by name."""
    return {f"number {k} after step {step + 1}": x for step, xs in enumerate(after) for k, x in enumerate(xs)}


def _runs() -> Iterator[Run]:
    for name, optimizer, settings in (
        ("SGD", "SGD", {"lr": 0.1}),
        ("SGD with momentum", "SGD", {"lr": 0.1, "momentum": 0.9}),
        ("SGD with decay", "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
        ("SGD by Nesterov", "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": True}),
        ("Adam", "Adam", {}),
        ("AMSGrad", "Adam", {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.6)}),
        ("Adam with decay", "Adam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.05}),
    ):
        for dtype in ("float32", "float64"):
            yield Run(f"{name} in {dtype}", optimizer, settings, dtype)
    for name, optimizer, settings in (
        ("SGD with dampening", "SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
        ("AdamW", "AdamW", {"lr": 0.1, "weight_decay": 0.5}),
        ("NAdam", "NAdam", {"lr": 0.1, "weight_decay": 0.05, "decoupled_weight_decay": True}),
        ("RAdam", "RAdam", {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.05}),
        ("RMSprop", "RMSprop", {"lr": 0.1, "weight_decay": 0.05}),
        ("RMSprop, centred", "RMSprop", {"lr": 0.1, "alpha": 0.8, "momentum": 0.5, "centered": True}),
        ("Adagrad", "Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.05}),
        ("Adadelta", "Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3}),
    ):
        yield Run(name, optimizer, settings)
    yield Run("Adagrad on rows", "Adagrad", {"lr": 0.1, "lr_decay": 0.1}, sparse=True)
    yield Run("Adam on rows", "Adam", {"lr": 0.1, "eps": 0.0}, sparse=True)
    yield Run("training by SGD", "SGD", {"lr": 0.2, "momentum": 0.5}, trained=True)
    yield Run("training by Adam", "Adam", {"lr": 0.05}, trained=True)


RUNS = list(_runs())
