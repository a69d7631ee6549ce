"""Every layer, over examples of different lengths: a minibatch has the values and gradients of the one-by-one loop, and
as many launches as the longest example alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from tests.requested import host

LONGEST = 1
RNG = np.random.default_rng(11)


def rows(width: int, lengths: tuple[int, ...] = (2, 5, 1, 4)) -> list[Any]:
    """Matrices of different lengths; the longest is second."""
    return [RNG.normal(size=(n, width)) for n in lengths]


@dataclass(frozen=True)
class Layer:
    """run: (module, example) → a tensor or several; more: launches that a minibatch may have beyond those of the
    longest example, which is `examples[LONGEST]`"""

    make: Callable[[], nn.Module]
    run: Callable[[Any, Any], Any]
    examples: list[Any]
    more: int = 0


def actions(module: nn.StackLSTM, example: list[Any]) -> Any:
    """Pushes of vectors, and a pop for each None."""
    stack = module.empty()
    for x in example:
        stack = module.pop(stack) if x is None else module.push(stack, ab.tensor(x))
    return stack.h


def scored() -> nn.Biaffine:
    layer = nn.Biaffine(3, 3, 2)
    nn.init.normal_(layer.weight)
    return layer


def rotated(layer: nn.TransformerEncoderLayer) -> nn.TransformerEncoderLayer:
    layer.self_attn.rotary = nn.RotaryEncoding(2)
    return layer


def graphs(width: int) -> list[Any]:
    """Rows and edges, as many as there are rows; the largest graph is second."""
    return [(x, RNG.integers(len(x), size=(2, len(x)))) for x in rows(width)]


def on_graph(module: Any, example: Any) -> Any:
    x, edges = example
    return module(ab.tensor(x), edges)


def folded(module: Any, depth: int) -> Any:
    """A tree of one child on each level but the lowest."""
    x = ab.tensor(np.cos(np.arange(3.0)))
    state = module(x, [None, None] if hasattr(module, "n_children") else [])
    for _ in range(depth):
        state = module(x, [state, None] if hasattr(module, "n_children") else [state])
    return state


def composed(module: Any, pairs: list[Any]) -> Any:
    """The nodes of a chain of composition."""
    state = pairs[0]
    for other in pairs[1:]:
        state = module(state, other)
    return state


def matrices(example: Any) -> list[Any]:
    return [(ab.tensor(x), ab.tensor(np.outer(x, x[::-1]))) for x in example]


def in_lattice(module: Any, x: Any) -> Any:
    return module(ab.tensor(x), [(0, k, ab.tensor(x[k, :2])) for k in range(1, len(x))])


def left_to_right(module: Any, x: Any) -> Any:
    return module(ab.tensor(x), ["shift", *["shift", "reduce"] * (len(x) - 1)])


WORDS = [[3, 1], [1, 4, 1, 5, 2], [6], [2, 2, 5]]
a, b, c, d = RNG.normal(size=(4, 3))
LAYERS: dict[str, Layer] = {
    "RNN": Layer(lambda: nn.RNN(3, 4, nonlinearity="relu"), lambda m, x: m(ab.tensor(x)), rows(3)),
    "GRU": Layer(
        lambda: nn.GRU(3, 4, num_layers=2, bidirectional=True, dropout=0.2), lambda m, x: m(ab.tensor(x)), rows(3), 3
    ),
    "LSTM": Layer(
        lambda: nn.LSTM(3, 4, num_layers=2, variational_dropout=0.3, zoneout=0.2),
        lambda m, x: m([ab.tensor(row) for row in x]), rows(3), 2,
    ),
    "StackLSTM": Layer(
        lambda: nn.StackLSTM(3, 4), actions, [[a, b, None, c], [a, None, c, d, a, None], [b], []], 2
    ),
    "TransformerEncoder": Layer(
        lambda: nn.Sequential(
            nn.PositionalEncoding(4, 9), nn.TransformerEncoder(rotated(nn.TransformerEncoderLayer(4, 2, 3, 0.0)), 2)
        ),
        lambda m, x: m(ab.tensor(x)), rows(4), 25,
    ),
    "TransformerDecoder": Layer(
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 3, 0.0), 1),
        lambda m, x: m(ab.tensor(x), ab.tensor(x[:1] * 2), causal=True), rows(4), 12,
    ),
    "AdditiveAttention": Layer(
        lambda: nn.AdditiveAttention(3, 3, 4), lambda m, x: m(ab.tensor(x[0]), ab.tensor(x), mask=x[:, 0] < 9), rows(3)
    ),
    "Pointer": Layer(
        lambda: nn.Pointer(3, 3, 4),
        lambda m, x: ab.cross_entropy(m(ab.tensor(x[0]), ab.tensor(x)), len(x) - 1), rows(3),
    ),
    "DotAttention": Layer(lambda: nn.DotAttention(3, 3), lambda m, x: m(ab.tensor(x), ab.tensor(x * 2)), rows(3)),
    "Bilinear": Layer(lambda: nn.Bilinear(3, 3, 2), lambda m, x: m(ab.tensor(x), ab.tensor(x)), rows(3), 3),
    "Biaffine": Layer(scored, lambda m, x: m(ab.tensor(x), ab.tensor(x[::-1] + 1)), rows(3), 8),
    "Highway": Layer(lambda: nn.Highway(3), lambda m, x: m(ab.tensor(x)), rows(3)),
    "EmbeddingBag": Layer(lambda: nn.EmbeddingBag(7, 3), lambda m, x: m(x), [*WORDS, []], 2),
    "CharBiLSTM": Layer(lambda: nn.CharBiLSTM(7, 3, 2), lambda m, x: m(x), WORDS, 2),
    "CharCNN": Layer(lambda: nn.CharCNN(7, 3, 2, (2, 3)), lambda m, x: m(x), [*WORDS, []], 3),
    "RMSNorm": Layer(lambda: nn.RMSNorm(3), lambda m, x: m(ab.tensor(x)), rows(3)),
    "GroupNorm": Layer(lambda: nn.GroupNorm(2, 4), lambda m, x: m(ab.tensor(x)), rows(4)),
    "NaryTreeLSTMCell": Layer(lambda: nn.NaryTreeLSTMCell(3, 4, 2), folded, [1, 4, 0, 2]),
    "NaryTreeGRUCell": Layer(lambda: nn.NaryTreeGRUCell(3, 4, 2), folded, [1, 4, 0, 2]),
    "ChildSumTreeGRUCell": Layer(lambda: nn.ChildSumTreeGRUCell(3, 4), folded, [1, 4, 0, 2]),
    "MVRNNCell": Layer(lambda: nn.MVRNNCell(3), lambda m, x: composed(m, matrices(x)), rows(3, (2, 5, 3)), 2),
    "RNTNCell": Layer(lambda: nn.RNTNCell(3), lambda m, x: composed(m, list(map(ab.tensor, x))), rows(3, (2, 5, 3))),
    "LatticeLSTM": Layer(lambda: nn.LatticeLSTM(3, 2, 4), in_lattice, rows(3), 2),
    "SPINN": Layer(lambda: nn.SPINN(3, 4, 2), left_to_right, rows(3), 3),
    "GraphConv": Layer(lambda: nn.GraphConv(3, 4), on_graph, graphs(3), 3),
    "GIN": Layer(lambda: nn.GIN(nn.MLP([3, 4, 2]), train_eps=True), on_graph, graphs(3), 3),
    "GatedGraph": Layer(lambda: nn.GatedGraph(3, 2), on_graph, graphs(3), 5),
    "GAT": Layer(lambda: nn.GAT(3, 4, heads=2), on_graph, graphs(3), 5),
    "CFConv": Layer(
        lambda: nn.CFConv(3, 4, 5, 2.0),
        lambda m, x: m(ab.tensor(x[0]), x[1], ab.tensor(np.arange(len(x[0])) / 3)), graphs(3), 5,
    ),
    "Sequential": Layer(
        lambda: nn.Sequential(nn.Linear(3, 4), ab.tanh, nn.MLP([4, 5, 2])), lambda m, x: m(ab.tensor(x)), rows(3)
    ),
}  # fmt: skip


def total(made: Any) -> Any:
    """A number that every element of a result has another share in."""
    parts = [total(part) for part in made] if isinstance(made, list | tuple) else None
    if parts is not None:
        return ab.sum(parts)
    weights = np.cos(np.arange(np.prod(made.shape, dtype=int))).reshape(made.shape)
    return (made * ab.tensor(weights)).sum()


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_batched_equals_one_by_one_in_as_many_launches_as_the_longest(layer: Layer) -> None:
    module = layer.make()

    def run(examples: list[Any], batched: bool = True) -> tuple[list[Any], int]:
        ab.seed(1)
        module.zero_grad()
        with ab.profile() as profile:
            found = ab.map(lambda x: total(layer.run(module, x)), examples, batched=batched)
            ab.sum(found).backward()
        gradients = [np.zeros(p.shape) if p.grad is None else host(p.grad) for p in module.parameters()]
        return [np.array(ab.evaluate(found)), *gradients], profile.launches

    together, _ = run(layer.examples)
    apart, _ = run(layer.examples, batched=False)
    for k, (ours, theirs) in enumerate(zip(together, apart, strict=True)):
        assert np.isfinite(ours).all() and ours.any()
        bound = (1e-8 if k else 1e-10) * (1 + np.abs(theirs).max(initial=0.0))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)
    n_launches, longest = run(layer.examples)[1], run([layer.examples[LONGEST]])[1]  # all lengths are known now
    assert n_launches <= longest + 1 + layer.more  # one for the sum over examples
    assert repr(module)
