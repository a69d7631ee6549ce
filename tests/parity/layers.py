"""Layers: those of PyTorch by its own modules, tree cells by the formulas of their papers."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from autobatch import nn

from .cases import EXAMPLES, Case, call


def their_leaf(t: Any, p: Any, x: Any) -> Any:
    i, g, o = (p.weight_ih @ x + p.bias_ih).chunk(3)
    c = t.sigmoid(i) * t.tanh(g)
    return t.sigmoid(o) * t.tanh(c), c


def their_binary(t: Any, p: Any, left: Any, right: Any) -> Any:
    i, f1, f2, g, o = (p.weight_hh @ t.cat([left[0], right[0]]) + p.bias_hh).chunk(5)
    c = t.sigmoid(f1) * left[1] + t.sigmoid(f2) * right[1] + t.sigmoid(i) * t.tanh(g)
    return t.sigmoid(o) * t.tanh(c), c


def their_child_sum(t: Any, p: Any, x: Any, children: list[Any]) -> Any:
    i, f, g, o = (p.weight_ih @ x + p.bias_ih).chunk(4)
    h = sum((child[0] for child in children), t.zeros(f.shape))
    ui, ug, uo = (p.weight_hh @ h).chunk(3)
    c = t.sigmoid(i + ui) * t.tanh(g + ug) + sum(t.sigmoid(f + p.weight_fh @ h) * c for h, c in children)
    return t.sigmoid(o + uo) * t.tanh(c), c


def lstm_sequence(m: Any, x: Any) -> Any:
    state = None
    for step in range(x.n):
        state = m(x.x[step], state)
    return state


def gru_sequence(m: Any, x: Any) -> Any:
    h = None
    for step in range(x.n):
        h = m(x.x[step], h)
    return h


def their_sequence(t: Any, p: Any, x: Any, name: str) -> Any:
    layer = getattr(t.nn, name)(3, 4)
    parameters = {f"{name}_l0": value for name, value in vars(p).items()}
    _, last = call(t, layer, SimpleNamespace(**parameters), x.x[: x.n])
    return tuple(part[0] for part in last) if name == "LSTM" else last[0]


def tree(node: Any, x: Any, i: int) -> Any:
    """A child-sum tree whose shape depends on the example: i + 1 leaves under a node that has one more above it."""
    leaves = [node(x.x[k], []) for k in range(i)]
    return node(x.x[4], [node(x.x[3], leaves), *leaves[:1]])


H, I = 4, 3
LAYERS = [
    *(
        Case(
            f"linear{'' if bias else ' without bias'} on {'rows' if len(shape) == 2 else 'a vector'}",
            partial(nn.Linear, 4, 5, bias),
            {"x": shape},
            lambda m, x: m(x.x),
            lambda t, p, x: call(t, t.nn.Linear(4, 5, hasattr(p, "bias")), p, x.x),
        )
        for bias in (True, False)
        for shape in ((4,), (3, 4))
    ),
    *(
        Case(
            f"layer norm on {'rows' if len(shape) == 2 else 'a vector'}",
            lambda: nn.LayerNorm(5, eps=1e-3),
            {"x": shape},
            lambda m, x: m(x.x),
            lambda t, p, x: call(t, t.nn.LayerNorm(5, eps=1e-3), p, x.x),
        )
        for shape in ((5,), (3, 5))
    ),
    Case(
        "embedding, one word", lambda: nn.Embedding(5, 3), {},
        lambda m, x: m[x.label], lambda t, p, x: call(t, t.nn.Embedding(5, 3), p, t.tensor(x.label)),
    ),
    Case(
        "embedding, equal words", lambda: nn.Embedding(5, 3), {},
        lambda m, x: m([3, x.label, 3, 0, 3]),
        lambda t, p, x: call(t, t.nn.Embedding(5, 3), p, t.tensor([3, x.label, 3, 0, 3])),
    ),
    *(
        Case(
            f"LSTM cell{'' if bias else ' without bias'}",
            partial(nn.LSTMCell, I, H, bias),
            {"x": (I,), "h": (H,), "c": (H,)},
            lambda m, x: m(x.x, (x.h, x.c)),
            lambda t, p, x: call(t, t.nn.LSTMCell(I, H, hasattr(p, "bias_ih")), p, x.x, (x.h, x.c)),
        )
        for bias in (True, False)
    ),
    *(
        Case(
            f"GRU cell{'' if bias else ' without bias'}",
            partial(nn.GRUCell, I, H, bias),
            {"x": (I,), "h": (H,)},
            lambda m, x: m(x.x, x.h),
            lambda t, p, x: call(t, t.nn.GRUCell(I, H, hasattr(p, "bias_ih")), p, x.x, x.h),
        )
        for bias in (True, False)
    ),
    Case(
        "LSTM cell without a state", lambda: nn.LSTMCell(I, H), {"x": (I,)},
        lambda m, x: m(x.x), lambda t, p, x: call(t, t.nn.LSTMCell(I, H), p, x.x),
    ),
    Case(
        "GRU cell without a state", lambda: nn.GRUCell(I, H), {"x": (I,)},
        lambda m, x: m(x.x), lambda t, p, x: call(t, t.nn.GRUCell(I, H), p, x.x),
    ),
    Case(
        "LSTM on sequences", lambda: nn.LSTMCell(I, H), {"x": (EXAMPLES, I)},
        lstm_sequence, partial(their_sequence, name="LSTM"),
    ),
    Case(
        "GRU on sequences", lambda: nn.GRUCell(I, H), {"x": (EXAMPLES, I)},
        gru_sequence, partial(their_sequence, name="GRU"),
    ),
    Case(
        "leaf of a Tree-LSTM", lambda: nn.TreeLSTMLeaf(I, H), {"x": (I,)},
        lambda m, x: m(x.x), lambda t, p, x: their_leaf(t, p, x.x),
    ),
    Case(
        "node of a binary Tree-LSTM", lambda: nn.BinaryTreeLSTMCell(H), {"h": (2, H), "c": (2, H)},
        lambda m, x: m(m((x.h[0], x.c[0]), (x.h[1], x.c[1])), (x.h[0], x.c[1])),
        lambda t, p, x: their_binary(
            t, p, their_binary(t, p, (x.h[0], x.c[0]), (x.h[1], x.c[1])), (x.h[0], x.c[1])
        ),
    ),
    Case(
        "trees of a child-sum Tree-LSTM", lambda: nn.ChildSumTreeLSTMCell(I, H), {"x": (5, I)},
        lambda m, x: tree(m, x, x.n - 1), lambda t, p, x: tree(partial(their_child_sum, t, p), x, x.n - 1),
    ),
]  # fmt: skip
