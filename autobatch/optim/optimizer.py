"""Base class of optimisers: one step, all or nothing.

A step has two halves. The first checks every gradient and makes for each parameter a `Move`: a compiled loop with all
its arguments, scratch included. Whatever can fail, fails here, and nothing has changed. The second half only runs the
loops, in place. Each of them counts the rows that it has taken, so that one that an exception broke off between two
instructions can be run again, and does what is left.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..backends.host.parts import ALONE, SHARED, rows_of_a_part, share_counted
from ..backends.transfer import is_on_device, to_device, to_host
from ..base.errors import BackendError, message
from ..base.interrupts import passing_on
from ..base.jit import njit
from ..base.types import short_dtype
from ..record.parameter import Parameter, SparseRows, forget_gradients, update
from .on_device import DeviceMove

Array = np.ndarray[Any, Any]

#: Decorator of the loops that change parameters: vectorised, NaN and infinities kept, no exceptions, no lock held.
compiled_loop = njit(error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz", "afn"}, nogil=True)


@dataclass(slots=True)
class Move:
    """What a step does to one parameter: `kernel(n, width, view, *arguments, parts)`.

    `view` is the parameter's array as `shape`. The first argument is the gradient: n numbers, of width 1, or n rows.
    They are cut into parts (`backends.parts`), which threads may share; none is met twice.
    """

    kernel: Callable[..., int]
    shape: tuple[int, ...]
    arguments: tuple[Any, ...]

    def view(self, array: Array) -> Array:
        """The parameter's array as `run` takes it."""
        return flat(array) if len(self.shape) == 1 else np.reshape(array, self.shape, copy=False)

    def part(self) -> int:
        """How many rows are one part; all of them where threads would not help."""
        n, width = len(self.arguments[0]), math.prod(self.shape[1:])
        if n * width * 2 * len(self.arguments) < SHARED:
            return n
        return rows_of_a_part(n, width, 2 * sum(isinstance(x, np.ndarray) for x in self.arguments) * width)

    def run(self, view: Array, counter: Array, address: int) -> None:
        """Change the parameter; rows taken according to the counter at the address are left out."""
        arguments = len(self.arguments[0]), math.prod(self.shape[1:]), view, *self.arguments
        if counter[2] < arguments[0]:
            share_counted(self.kernel, arguments, counter)
        else:
            self.kernel(*arguments, address)

    def compile(self) -> None:
        """Compile the kernel, or load it, by a call on no numbers."""
        nothing = np.empty((0, *self.shape[1:]), self.arguments[0].dtype)
        none = (x[:0] if isinstance(x, np.ndarray) else x for x in self.arguments)
        self.kernel(0, 1, nothing, *none, ALONE)


class Optimizer(ABC):
    """Base of the optimisers.

    Arguments:
        params: the parameters to train; one that is listed twice is one parameter.
        lr: learning rate.

    Attributes:
        params: list of the parameters. State dicts number them by their place in it.
        lr: learning rate; may be set at any time.

    Raises TypeError for what is no `ab.Parameter`, ValueError if there is none or `lr` is negative or not finite.
    """

    #: Settings that are part of the state, by the name of the attribute.
    settings: ClassVar[tuple[str, ...]] = ("lr",)

    def __init__(self, params: Iterable[Parameter], lr: float) -> None:
        listed = params if isinstance(params, Iterable) else [params]
        self.params = list({id(parameter): parameter for parameter in listed}.values())
        if not self.params:
            raise ValueError(f"{self._name}: there is no parameter to train")
        for parameter in self.params:
            if not isinstance(parameter, Parameter):
                raise TypeError(
                    message(
                        f"{self._name}: only parameters can be trained",
                        expected="ab.Parameter",
                        got=type(parameter).__name__,
                        repair="pass model.parameters()",
                    )
                )
        self.lr = lr
        self._steps = np.zeros(len(self.params), np.int64)
        self._moments: dict[str, list[Array]] = {}
        self._compiled: set[tuple[Callable[..., int], np.dtype[Any]]] = set()

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = self._checked("lr", value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.settings and name != "lr" and name in self.__dict__:
            repair = "make a new optimiser, or load a state dict with it; only lr may change"
            raise AttributeError(message(f"{self._name}: {name} is fixed once the optimiser is made", repair=repair))
        super().__setattr__(name, value)

    @property
    def _name(self) -> str:
        return type(self).__name__

    # One step.

    @passing_on
    def step(self) -> None:
        """Change every parameter that has a gradient; the others, and their state, stay as they are.

        Recordings that still wait run first, with the parameters as they were. All parameters, moments and counts
        move, or none: Ctrl-C, and what other signal handlers or threads raise, takes effect before or after.

        Raises ValueError, listing all of them, where gradients do not fit their parameters.
        """
        chosen = [index for index, parameter in enumerate(self.params) if parameter.grad is not None]
        gradients = self._gradients(chosen)
        moves = [self._move_of(index, gradient) for index, gradient in zip(chosen, gradients, strict=True)]
        self._compile([move for move in moves if isinstance(move, Move)])
        steps = self._steps.copy()
        steps[chosen] += 1
        counters = np.array([(0, 0, move.part()) for move in moves], np.int64).reshape(-1, 3)
        address = counters.__array_interface__["data"][0]

        def change(arrays: Sequence[Any]) -> None:
            views = [move.view(array) for array, move in zip(arrays, moves, strict=True)]
            for k, (view, move) in enumerate(zip(views, moves, strict=True)):
                move.run(view, counters[k], address + k * counters.strides[0])
            self._steps = steps

        update([self.params[index] for index in chosen], change)

    def _move_of(self, index: int, gradient: Array | SparseRows) -> Move | DeviceMove:
        """The move of one parameter, on its device; moments are moved there."""
        on_device = self.params[index].on_device
        for moments in self._moments.values():
            if is_on_device(moments[index]) is not on_device:
                moments[index] = to_device(moments[index]) if on_device else to_host(moments[index])
        return self._move_on_device(index, gradient) if on_device else self._move(index, gradient)

    @abstractmethod
    def _move(self, index: int, gradient: Array | SparseRows) -> Move:
        """What the step does to parameter `index`; changes nothing. This step is number `self._steps[index] + 1`."""

    def _move_on_device(self, index: int, gradient: Any) -> DeviceMove:
        """The same as `_move` for a parameter on a device."""
        raise BackendError(f"{self._name}: it has no kernels for parameters on a device")

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
        for moments in self._moments.values():
            if (kept := (moments[index].dtype, moments[index].shape)) != wanted:
                return f"expected {_text(*kept)} as when the optimiser was made, got {_text(*wanted)}"
        return _fault_of_rows(gradient) if sparse else ""

    def _compile(self, moves: list[Move]) -> None:
        """Compile what has not run yet, by calls on no elements: nothing is left to compile once parameters change."""
        for move in moves:
            dtype = move.arguments[0].dtype
            key = (move.kernel, dtype)
            if key not in self._compiled:
                move.compile()
                self._compiled.add(key)

    # State.

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        forget_gradients(self.params)

    def state_dict(self) -> dict[str, Array]:
        """Copies of settings, counts and moments by name, in the flat form that `ab.save` takes.

        Settings stand under their names (`lr`, …), counts as `0.step`, moments as `0.exp_avg` and so on, numbered
        as in `params`.
        """
        state = {name: np.array(getattr(self, name), np.float64) for name in self.settings}
        for index in range(len(self.params)):
            state[f"{index}.step"] = np.array(self._steps[index])
            state |= {f"{index}.{name}": np.array(to_host(m[index])) for name, m in self._moments.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, settings too: training goes on as if it had never stopped.

        Raises ValueError with every name that is missing, unexpected or of another shape, and for settings that
        cannot be. The whole state changes, or nothing.
        """
        own = {name: np.asarray(value) for name, value in self.state_dict().items()}
        given = {name: np.asarray(value) for name, value in state.items()}
        faults = [f"{name}: missing" for name in own if name not in given]
        faults += [f"{name}: unexpected" for name in given if name not in own]
        for name in own.keys() & given.keys():
            if own[name].shape != given[name].shape:
                faults.append(f"{name}: expected shape {own[name].shape}, got {given[name].shape}")
            elif not np.can_cast(given[name].dtype, own[name].dtype, "same_kind"):
                faults.append(f"{name}: expected dtype {own[name].dtype}, got {given[name].dtype}")
        if faults:
            listed = "".join(f"\n  {fault}" for fault in sorted(faults))
            raise ValueError(f"{self._name}.load_state_dict: the state does not fit{listed}")
        taken = {name: given[name].astype(own[name].dtype) for name in own}
        replacement: dict[str, Any] = {name: self._checked(name, taken[name].tolist()) for name in self.settings}
        replacement["_lr"] = replacement.pop("lr")
        count = range(len(self.params))
        replacement["_steps"] = np.array([taken[f"{index}.step"] for index in count], np.int64)
        replacement["_moments"] = {name: [taken[f"{index}.{name}"] for index in count] for name in self._moments}
        self.__dict__.update(replacement)  # one call: Ctrl-C comes before or after

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: what has been compiled stays here."""
        return {**self.__dict__, "_compiled": set()}

    def _checked(self, name: str, value: Any) -> Any:
        """A setting in the form it is kept in; ValueError if it cannot be."""
        value = float(value)
        if not 0 <= value < np.inf:
            raise ValueError(f"{self._name}: {name} out of range\n  expected 0 <= {name} < inf, got {value}")
        return value

    def _zeros(self) -> list[Array]:
        """One array of zeros for each parameter."""
        return [np.zeros(parameter.shape, parameter.dtype) for parameter in self.params]

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in self.settings)
        return f"{self._name}({len(self.params)} parameters, {settings})"


def with_decay(gradient: Array, value: Array, decay: float) -> Array:
    """`gradient + decay · value`."""
    return gradient + value.dtype.type(decay) * value if decay else gradient


def table_shape(gradient: SparseRows) -> tuple[int, int]:
    """Rows and row width of the table that a sparse gradient belongs to."""
    return gradient.shape[0], gradient.values.shape[1]


def flat(array: Array) -> Array:
    """All elements in one axis, without a copy."""
    return array.reshape(-1) if array.flags.c_contiguous else np.reshape(array, -1, copy=False)


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
