"""Networks: recurrent ones, transformers and what else PyTorch has as a module of many parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobatch import nn

from .cases import EXAMPLES, Case, call


def network(
    name: str,
    make: Callable[[], Any],
    theirs: Callable[[Any], Any],
    shape: tuple[int, ...],
    state: int = 0,
    outputs: Callable[[Any], Any] = lambda y: y,
) -> Case:
    """A module on a sequence that has as many rows as the number of the example, beginning with 1.

    theirs: from PyTorch to its module, whose parameters have the same names; state: how many first states it is given
    """
    own = {"x": (EXAMPLES, *shape), **{f"s{k}": (make().num_layers * 2, 4) for k in range(state)}}

    def given(x: Any) -> list[Any]:
        states = tuple(getattr(x, f"s{k}") for k in range(state))
        return [x.x[: x.n], *([states[0] if state == 1 else states] if state else [])]

    return Case(
        name, make, own,
        lambda m, x: outputs(m(*given(x))), lambda t, p, x: outputs(call(t, theirs(t), p, *given(x))),
    )  # fmt: skip


NETWORKS = [
    network(
        "RNN of relus", lambda: nn.RNN(3, 4, nonlinearity="relu"),
        lambda t: t.nn.RNN(3, 4, nonlinearity="relu"), (3,),
    ),
    network(
        "GRU, two layers and directions, with a state", lambda: nn.GRU(3, 4, 2, bidirectional=True),
        lambda t: t.nn.GRU(3, 4, 2, bidirectional=True), (3,), 1,
    ),
    network(
        "LSTM, two layers and directions, with a state", lambda: nn.LSTM(3, 4, 2, bidirectional=True),
        lambda t: t.nn.LSTM(3, 4, 2, bidirectional=True), (3,), 2,
    ),
    network(
        "LSTM without bias", lambda: nn.LSTM(3, 4, bias=False), lambda t: t.nn.LSTM(3, 4, bias=False), (3,)
    ),
    network(
        "Sequential", lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        lambda t: t.nn.Sequential(t.nn.Linear(3, 4), t.nn.LayerNorm(4), t.nn.Linear(4, 2)), (3,),
    ),
]  # fmt: skip
