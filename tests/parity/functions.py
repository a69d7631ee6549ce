"""Losses, the family of softmax, products, derivatives of derivatives, and chains of ops."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import autobatch as ab

from .cases import function

# Losses.

LOSSES = [
    function(
        "cross entropy", {"x": (5,)},
        lambda x: ab.cross_entropy(x.x, x.label),
        lambda t, x: t.nn.functional.cross_entropy(x.x, t.tensor(x.label)),
    ),
    function(
        "cross entropy of large logits", {"x": (5,)},
        lambda x: ab.cross_entropy(x.x * 300.0, x.label),
        lambda t, x: t.nn.functional.cross_entropy(x.x * 300.0, t.tensor(x.label)),
    ),
    function(
        "negative log likelihood", {"x": (5,)},
        lambda x: -ab.log_softmax(x.x)[x.label],
        lambda t, x: t.nn.functional.nll_loss(t.log_softmax(x.x, 0), t.tensor(x.label)),
    ),
    function(
        "squared error", {"x": (2, 3), "y": (2, 3)},
        lambda x: ab.squared_error(x.x, x.y),
        lambda t, x: t.nn.functional.mse_loss(x.x, x.y, reduction="sum"),
    ),
    function(
        "absolute error", {"x": (4,), "y": (4,)},
        lambda x: ab.abs(x.x - x.y).mean(),
        lambda t, x: t.nn.functional.l1_loss(x.x, x.y),
    ),
    function(
        "Huber's loss", {"x": (6,), "y": (6,)},
        lambda x: ab.where(ab.abs(x.x - x.y) < 1.0, (x.x - x.y) ** 2 * 0.5, ab.abs(x.x - x.y) - 0.5).sum(),
        lambda t, x: t.nn.functional.huber_loss(x.x, x.y, reduction="sum"),
    ),
    function(
        "logistic loss", {"x": (4,), "y": (4,)},
        lambda x: (ab.softplus(x.x * 20.0) - x.x * 20.0 * ab.sigmoid(x.y)).mean(),
        lambda t, x: t.nn.functional.binary_cross_entropy_with_logits(x.x * 20.0, t.sigmoid(x.y)),
    ),
    function(
        "divergence", {"x": (4,), "y": (4,)},
        lambda x: (ab.softmax(x.y) * (ab.log_softmax(x.y) - ab.log_softmax(x.x))).sum(),
        lambda t, x: t.nn.functional.kl_div(t.log_softmax(x.x, 0), t.softmax(x.y, 0), reduction="sum"),
    ),
    function(
        "cosine", {"x": (4,), "y": (4,)},
        lambda x: (x.x * x.y).sum() / (ab.sqrt((x.x**2).sum()) * ab.sqrt((x.y**2).sum())),
        lambda t, x: t.nn.functional.cosine_similarity(x.x, x.y, 0, eps=0.0),
    ),
]  # fmt: skip

# The family of softmax, and products.

FAMILY = [
    function(
        f"{name} of {'×'.join(map(str, shape))} along {axis}", {"x": shape},
        lambda x, name=name, axis=axis: getattr(ab, name)(x.x, axis),
        lambda t, x, name=name, axis=axis: getattr(t, name)(x.x, axis),
    )
    for name in ("softmax", "log_softmax", "logsumexp")
    for shape, axis in (((4,), -1), ((3, 4), 0), ((3, 4), -1), ((2, 3, 4), 1))
]  # fmt: skip
PRODUCTS = [
    function(
        "attention", {"q": (4,), "keys": (5, 4), "values": (5, 3)},
        lambda x: ab.softmax(x.keys @ x.q * 0.5) @ x.values,
        lambda t, x: t.nn.functional.scaled_dot_product_attention(x.q[None], x.keys, x.values)[0],
    ),
    function(
        "attention over rows that vary in number", {"q": (4,), "keys": (4, 4), "values": (4, 3)},
        lambda x: ab.softmax(x.keys[: x.n] @ x.q * 0.5) @ x.values[: x.n],
        lambda t, x: t.nn.functional.scaled_dot_product_attention(x.q[None], x.keys[: x.n], x.values[: x.n])[0],
    ),
    function(
        "products of all ranks", {"x": (3,), "a": (3, 3), "b": (2, 3, 3)},
        lambda x: [x.w @ x.x, x.x @ x.w, x.a @ x.w.T, x.w @ x.a, x.b @ x.w, x.b @ x.a, x.b @ x.b, x.x @ x.x],
        lambda t, x: [x.w @ x.x, x.x @ x.w, x.a @ x.w.T, x.w @ x.a, x.b @ x.w, x.b @ x.a, x.b @ x.b, x.x @ x.x],
        w=(3, 3),
    ),
]  # fmt: skip

# Derivatives of derivatives.


def energy(lib: Any, x: Any, w: Any, v: Any) -> Any:
    return (lib.tanh(w @ x) * v).sum() + (lib.exp(lib.tanh(x)) * v * v).sum()


def their_slope(t: Any, f: Callable[[Any], Any], x: Any) -> Any:
    (slope,) = t.autograd.grad(f(x), x, create_graph=True)
    return slope


DERIVATIVES = [
    function(
        "a gradient inside", {"x": (3,)},
        lambda x: ab.grad(lambda y: energy(ab, y, x.w, x.v))(x.x),
        lambda t, x: their_slope(t, lambda y: energy(t, y, x.w, x.v), x.x),
        w=(3, 3), v=(3,),
    ),
    function(
        "a gradient of a gradient inside", {"x": (3,)},
        lambda x: ab.grad(lambda z: (ab.grad(lambda y: energy(ab, y, x.w, x.v))(z) ** 2).sum())(x.x),
        lambda t, x: their_slope(
            t, lambda z: (their_slope(t, lambda y: energy(t, y, x.w, x.v), z) ** 2).sum(), x.x
        ),
        w=(3, 3), v=(3,),
    ),
    function(
        "one step of descent inside", {"x": (3,)},
        lambda x: energy(ab, x.x - ab.grad(lambda y: energy(ab, y, x.w, x.v))(x.x) * 0.1, x.w, x.v),
        lambda t, x: energy(
            t, x.x - their_slope(t, lambda y: energy(t, y, x.w, x.v), x.x) * 0.1, x.w, x.v
        ),
        w=(3, 3), v=(3,),
    ),
]  # fmt: skip

# Chains of ops, drawn at random: each op makes a vector of three from those before. `s` is what the two libraries call
# by different names.

US = SimpleNamespace(
    tanh=ab.tanh, sigmoid=ab.sigmoid, softplus=ab.softplus, exp=ab.exp, log=ab.log, sqrt=ab.sqrt, relu=ab.relu,
    abs=ab.abs, where=ab.where, maximum=ab.maximum, minimum=ab.minimum, softmax=ab.softmax,
    log_softmax=ab.log_softmax, logsumexp=ab.logsumexp, stack=ab.stack, cat=ab.concat, largest=lambda x: x.max(0),
    sum=lambda x, axis: x.sum(axis), mean=lambda x, axis: x.mean(axis),
)  # fmt: skip


def them(torch: Any) -> SimpleNamespace:
    """The same names on PyTorch."""
    same = {name: getattr(torch, name) for name in vars(US) if hasattr(torch, name)}
    return SimpleNamespace(**same, softplus=torch.nn.functional.softplus, largest=lambda x: x.amax(0))


CHAINED: list[Callable[[Any, Any, Any, Any], Any]] = [  # (names, x, y, matrix)
    lambda s, x, y, w: s.tanh(x),
    lambda s, x, y, w: s.sigmoid(x * 3.0),
    lambda s, x, y, w: s.softplus(x) - y,
    lambda s, x, y, w: s.exp(s.tanh(x)) * 0.5,
    lambda s, x, y, w: s.log(x * x + 0.5),
    lambda s, x, y, w: s.sqrt(y * y + 1.0) * x,
    lambda s, x, y, w: s.relu(x + 0.3) + y * 0.1,
    lambda s, x, y, w: s.abs(x) - 0.4,
    lambda s, x, y, w: s.where(x > y, x * 2.0, y),
    lambda s, x, y, w: s.maximum(x, y * 0.7),
    lambda s, x, y, w: s.minimum(x, y * -0.7),
    lambda s, x, y, w: x * y,
    lambda s, x, y, w: x / (y * y + 1.0),
    lambda s, x, y, w: s.tanh(x) ** 3,
    lambda s, x, y, w: (s.sigmoid(x) + 1.0) ** -1.5,
    lambda s, x, y, w: s.tanh(w @ x),
    lambda s, x, y, w: s.tanh(x @ w.T),
    lambda s, x, y, w: s.softmax(x, 0),
    lambda s, x, y, w: s.log_softmax(x, -1) * 0.5,
    lambda s, x, y, w: x - s.logsumexp(s.stack([x, y], 0), 0),
    lambda s, x, y, w: s.cat([x, y], 0)[2:5],
    lambda s, x, y, w: s.cat([y, x], 0)[1::2],
    lambda s, x, y, w: s.mean(s.stack([x, y, x * y], 1), 1),
    lambda s, x, y, w: s.largest(s.stack([x, y], 0) + w[:2]),
    lambda s, x, y, w: s.sum(w * x, 0) * 0.5,
    lambda s, x, y, w: x - x.mean(),
    lambda s, x, y, w: x.reshape(1, 3)[0] + (w * y).sum() * 0.1,
]
CHAINS = 24
LENGTH = 9


def chain(number: int, s: Any, x: Any, y: Any, w: Any) -> list[Any]:
    """The vectors that one chain makes last. `random` draws the same everywhere: which op, and on which two vectors."""
    draw = Random(f"chain {number}").random
    made = [x, y]
    for _ in range(LENGTH):
        op = CHAINED[int(draw() * len(CHAINED))]
        other = made[int(draw() * len(made))]
        made.append(op(s, made[-1], other, w))
    return made[-2:]


CHAINED_CASES = [
    function(
        f"chain {k}", {"x": (3,), "y": (3,)},
        lambda x, k=k: chain(k, US, x.x, x.y, x.w), lambda t, x, k=k: chain(k, them(t), x.x, x.y, x.w),
        w=(3, 3),
    )
    for k in range(CHAINS)
]  # fmt: skip

FUNCTIONS = [*LOSSES, *FAMILY, *PRODUCTS, *DERIVATIVES, *CHAINED_CASES]
