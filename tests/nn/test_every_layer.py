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


def rotated(layer: nn.TransformerEncoderLayer) -> nn.TransformerEncoderLayer:
    layer.self_attn.rotary = nn.RotaryEncoding(2)
    return layer


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
