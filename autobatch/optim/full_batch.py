"""Optimisers that evaluate the loss several times in a step: what they have in common.

The parameters are one vector, f64[n] on the host. An exception that reaches a step, one of the closure too, leaves
parameters and state as they were.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from ..backends.transfer import to_host
from ..base.errors import message
from ..record.parameter import SparseRows
from ..record.parameter import replace as write
from .groups import Group
from .line_search import Point, Vector, strong_wolfe
from .optimizer import Array, Optimizer, Params, fitting


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of earlier iterations.

    Attributes:
        n_iter, func_evals: iterations and evaluations so far.
        d, t: the last direction and how far it was followed; d is empty before the first iteration.
        prev_flat_grad, prev_loss: where that began.
        old_stps, old_dirs: the last steps, and how they changed the gradient; f64[k, n].
    """

    n_iter: int = 0
    func_evals: int = 0
    t: float = 0.0
    prev_loss: float = 0.0
    d: Vector = field(default_factory=lambda: np.empty(0))
    prev_flat_grad: Vector = field(default_factory=lambda: np.empty(0))
    old_stps: Vector = field(default_factory=lambda: np.empty((0, 0)))
    old_dirs: Vector = field(default_factory=lambda: np.empty((0, 0)))


class FullBatch(Optimizer):
    """Base of these optimisers; they have one group."""

    def __init__(self, params: Params, **settings: Any) -> None:
        super().__init__(params, **settings)
        self._memory = Memory()

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        if self.param_groups:
            what = f"{self._name}: all parameters are one vector"
            raise ValueError(message(what, expected="one group", repair="pass model.parameters()"))
        super().add_param_group(group)

    @abstractmethod
    def remember(self, memory: Memory, gradient: Vector) -> Memory:
        """The memory with the direction to follow from a point with this gradient."""

    @abstractmethod
    def first_length(self, memory: Memory, loss: float, slope: float) -> float:
        """How far to go first along a direction."""

    def flatness(self) -> float | None:
        """c₂ of the Wolfe conditions; None where directions are not searched, but followed for the first length."""
        return None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Some iterations, from the parameters as they are; the loss before them is returned, as `closure` gave it.

        Parameters without gradient stay. All parameters and the state change, or none, whatever exception comes from
        the closure or elsewhere; gradients are those of the last evaluation.

        Arguments:
            closure: forgets the gradients, computes the loss, calls `backward`, returns the loss.

        Raises TypeError without a closure.
        """
        if closure is None:
            what = f"{self._name}.step: the loss is evaluated several times"
            raise TypeError(message(what, expected="step(closure)", got="step()"))
        before = [(p, p.numpy().copy()) for p in self.params]
        memory: Memory | None = None
        try:
            loss, memory = self._iterate(closure)
            self._memory = memory
        except BaseException:
            if self._memory is not memory:
                write(before)
            raise
        return loss

    def _iterate(self, closure: Callable[[], Any]) -> tuple[Any, Memory]:
        group, memory = self.param_groups[0], self._memory
        most = _evaluations(group)
        returned = closure()
        loss, gradient = float(returned), self._flat_gradient()
        n_evaluated = 1
        x = np.concatenate([p.numpy().ravel().astype(np.float64) for p in self.params])
        if np.abs(gradient).max(initial=0.0) <= group["tolerance_grad"]:
            return returned, replace(memory, func_evals=memory.func_evals + 1)

        def evaluate(x: Vector) -> tuple[float, Vector]:
            self._put(x)
            return float(closure()), self._flat_gradient()

        n_before = memory.func_evals
        for n in range(1, group["max_iter"] + 1):
            memory = self.remember(replace(memory, n_iter=memory.n_iter + 1), gradient)
            slope = float(gradient @ memory.d)
            t = self.first_length(memory, loss, slope) if memory.n_iter > 1 else group["lr"]
            t = t * min(1.0, 1.0 / float(np.abs(gradient).sum())) if memory.n_iter == 1 else t
            memory = replace(memory, t=t, prev_flat_grad=gradient, prev_loss=loss)
            if slope > -group["tolerance_change"]:
                break
            flatness = self.flatness()
            if flatness is not None:
                start, tolerance = Point(0.0, loss, gradient, slope), group["tolerance_change"]
                found, count = strong_wolfe(
                    evaluate, x, memory.d, start, t, flatness, tolerance, max(most - n_evaluated, 0)
                )
                n_evaluated += count
                memory, loss, gradient = replace(memory, t=found.t), found.loss, found.gradient
            elif n < group["max_iter"]:  # after the last iteration nobody asks for the loss
                loss, gradient = evaluate(x + t * memory.d)
                n_evaluated += 1
            x = x + memory.t * memory.d
            is_flat = np.abs(gradient).max() <= group["tolerance_grad"]
            moved = float(np.abs(memory.t * memory.d).max())
            is_still = moved <= group["tolerance_change"] or abs(loss - memory.prev_loss) < group["tolerance_change"]
            if n_evaluated >= most or is_flat or is_still:
                break
        self._put(x)
        return returned, replace(memory, func_evals=n_before + n_evaluated)

    def _put(self, x: Vector) -> None:
        """Write a vector over the parameters."""
        ends = np.cumsum([math.prod(p.shape) for p in self.params])
        parts = np.split(x, ends[:-1])
        write([(p, part.reshape(p.shape)) for p, part in zip(self.params, parts, strict=True)])

    def _flat_gradient(self) -> Vector:
        parts = []
        for p in self.params:
            g = p.grad.to_dense() if isinstance(p.grad, SparseRows) else p.grad
            parts.append(np.zeros(p.shape) if g is None else to_host(g))
        return np.concatenate([part.ravel().astype(np.float64) for part in parts])

    # State.

    def state_dict(self) -> dict[str, Array]:
        """Copies of settings and of the memory by name, in the flat form that `ab.save` takes."""
        state = {name: x for name, x in super().state_dict().items() if name in self.settings}
        return state | {f.name: np.array(getattr(self._memory, f.name)) for f in fields(Memory)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own = self.state_dict()
        n = sum(math.prod(p.shape) for p in self.params)
        for name in ("d", "prev_flat_grad", "old_stps", "old_dirs"):
            given = np.shape(state.get(name, ()))
            rank = 1 + name.startswith("old")
            if len(given) == rank and given[-1] in (0, n):
                own[name] = np.empty(given)
        taken = fitting(f"{self._name}.load_state_dict", own, state)
        group = Group(type(self), self.params, {name: taken.pop(name).tolist() for name in self.settings})
        group.initial_lr = self.param_groups[0].initial_lr
        values: dict[str, Any] = {name: x if x.ndim else x.item() for name, x in taken.items()}
        memory = Memory(**values)
        self.__dict__.update(param_groups=[group], _memory=memory)


def _evaluations(group: Group) -> int:
    """Most evaluations of the loss in a step."""
    given = group.get("max_eval", 0)
    return int(given) if given else group["max_iter"] * 5 // 4
