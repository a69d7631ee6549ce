"""Networks: recurrent ones, transformers and what else PyTorch has as a module of many parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import autobatch as ab
from autobatch import nn
from autobatch.structured import ctc_loss

from .cases import EXAMPLES, Case, call, function
from .formulas import FORMULAS


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


LABELS = [1, 1, 2]
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
        "transformer encoder", lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 3, 0.0), 2),
        lambda t: t.nn.TransformerEncoder(
            t.nn.TransformerEncoderLayer(4, 2, 3, 0.0), 2, enable_nested_tensor=False
        ), (4,),
    ),
    Case(
        "transformer decoder",
        lambda: nn.TransformerDecoder(
            nn.TransformerDecoderLayer(4, 2, 3, 0.0, "gelu", 1e-3, True, False), 1, nn.LayerNorm(4)
        ),
        {"x": (EXAMPLES, 4), "y": (2, 4)},
        lambda m, x: m(x.x[: x.n], x.y, causal=True),
        lambda t, p, x: call(
            t,
            t.nn.TransformerDecoder(
                t.nn.TransformerDecoderLayer(4, 2, 3, 0.0, "gelu", 1e-3, False, True, False), 1, t.nn.LayerNorm(4)
            ),
            p, x.x[: x.n], x.y, t.full((x.n, x.n), -float("inf")).triu(1),
        ),
    ),
    function(
        "CTC", {"x": (EXAMPLES + 1, 3)},
        lambda x: ctc_loss(ab.log_softmax(x.x[: x.n + 1]), LABELS[: x.n]),
        lambda t, x: t.nn.functional.ctc_loss(
            x.x[: x.n + 1].log_softmax(-1)[:, None], t.tensor([LABELS[: x.n]]), [x.n + 1], [min(x.n, 3)],
            reduction="sum",
        ),
    ),
    Case(
        "bilinear", lambda: nn.Bilinear(3, 4, 2), {"x": (EXAMPLES, 3), "y": (EXAMPLES, 4)},
        lambda m, x: [m(x.x[: x.n], x.y[: x.n]), m(x.x[0], x.y[1])],
        lambda t, p, x: [
            call(t, t.nn.Bilinear(3, 4, 2), p, *pair) for pair in ((x.x[: x.n], x.y[: x.n]), (x.x[0], x.y[1]))
        ],
    ),
    *(
        Case(
            f"embedding bag, {mode}", lambda mode=mode: nn.EmbeddingBag(5, 3, mode), {},
            lambda m, x: m([3, x.label, 3][: x.n]),
            lambda t, p, x, mode=mode: call(
                t, t.nn.EmbeddingBag(5, 3, mode=mode), p, t.tensor([[3, x.label, 3][: x.n]])
            )[0],
        )
        for mode in ("sum", "mean", "max")
    ),
    network("RMS norm", lambda: nn.RMSNorm(4), lambda t: t.nn.RMSNorm(4), (4,)),
    Case(
        "group norm", lambda: nn.GroupNorm(2, 4), {"x": (EXAMPLES, 4)},
        lambda m, x: [m(x.x[: x.n]), m(x.x[0])],
        lambda t, p, x: [
            call(t, t.nn.GroupNorm(2, 4), p, x.x[: x.n].T[None])[0].T, call(t, t.nn.GroupNorm(2, 4), p, x.x[:1])[0]
        ],
    ),
    network(
        "Sequential", lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        lambda t: t.nn.Sequential(t.nn.Linear(3, 4), t.nn.LayerNorm(4), t.nn.Linear(4, 2)), (3,),
    ),
    *FORMULAS,
]  # fmt: skip
