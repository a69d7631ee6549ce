"""`checkpoint`: a function whose intermediate values are computed again in the backward pass.

A call records the function without gradients, and forces its results: what it computed on the way has been written over
by then, as after `no_grad`. The results are marked in their recording as those of the call (`replays`); gradients that
come back to them go on through the function, which the backward pass calls once more (`engine.replay`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from ..base.types import is_float
from ..ops.value import Tensor
from .context import flags, is_frozen
from .differentiation import leaves_of, mapped
from .forcing import engine
from .links import shared_row
from .modes import no_grad
from .shared import Shared
from .tape import current_tape, state
from .tensor import RecordedTensor

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(slots=True, eq=False)
class Replay:
    """A call that can be made again: with the same random draws, and in the same mode."""

    call: Callable[[], Any]
    random: tuple[int, int, int] = dataclasses.field(init=False)
    training: bool = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.random = state.stream, state.draws, state.maps
        self.training = state.training

    def again(self) -> list[RecordedTensor]:
        """The floating results of the call, recorded with gradients."""
        before = state.stream, state.draws, state.maps, state.training
        try:
            (state.stream, state.draws, state.maps), state.training = self.random, self.training
            return results_of(self.call())
        finally:
            state.stream, state.draws, state.maps, state.training = before


def checkpoint(fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`fn(*args, **kwargs)`, whose intermediate values are not kept for the backward pass but computed again in it.

    Memory for time: one more forward pass of `fn`, with the same random draws (Chen et al. 2016, "Training deep nets
    with sublinear memory cost"). As `torch.utils.checkpoint.checkpoint(use_reentrant=False)`: `fn` may read tensors,
    parameters and modules by closure, and return nested containers; it must do the same when it is called again.

    The call forces its results. Inside `ab.map` an example waits there, as for any value, so that calls of all examples
    run together, forwards and backwards; call it for parts that are worth that. In cells, under `ab.no_grad()`, in
    `ab.map(..., reuse=True)`, and in a function that is being differentiated (`ab.grad`), whose values are all kept, it
    is a plain call.

    Raises `RecordingError` in the backward pass where `fn` gives other results than before, and where parameters have
    changed.

    >>> w = ab.Parameter([0.5, 1.0])
    >>> y = ab.checkpoint(lambda x: ab.tanh(ab.tanh(x * w)), ab.ones(2))
    >>> y.sum().backward(); w.grad.round(3)
    array([0.64 , 0.247], dtype=float32)
    """
    if state.builder is not None or is_frozen() or flags.kept or state.unbatched or current_tape().sweeps:
        return fn(*args, **kwargs)
    replay = Replay(lambda: fn(*args, **kwargs))
    with no_grad():
        result = mapped(_as_row, fn(*args, **kwargs))
    rows = results_of(result)
    for k, y in enumerate(rows):
        y._tape.replays = y._tape.replays or {}
        y._tape.replays[y._id] = replay, k
    if rows:
        engine.compute(rows[0])
    return result


def results_of(tree: Any) -> list[RecordedTensor]:
    """The floating results of a call, in order, as values of the example."""
    return [_as_row(x, False) for x in leaves_of(tree) if isinstance(x, Tensor) and is_float(x.dtype)]


def _as_row(x: Any, is_new: bool = True) -> Any:
    """A floating result as a value of the example, which nothing else has if it is to be new; all else as it is."""
    if not isinstance(x, Tensor) or not is_float(x.dtype):
        return x
    row: Any = shared_row(x, current_tape()) if isinstance(x, Shared) else x
    return row.detach() if is_new else row
