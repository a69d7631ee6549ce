"""The functions of the library: elementwise ones, nonlinearities and losses. Each case has several values."""

from __future__ import annotations

import functools
from typing import Any

import autobatch as ab

from .cases import function

# Elementwise functions, which have the same names in both: `s` is one of the two.


def trigonometry(s: Any, x: Any, y: Any) -> list[Any]:
    z = s.tanh(x)
    return [
        *(s.sin(x), s.cos(x), s.tan(z), s.arcsin(z), s.arccos(z), s.arctan(x), s.arctan2(x, y), s.hypot(x, y)),
        *(s.sinh(x), s.cosh(x), s.arcsinh(x), s.arccosh(1.5 + x * x), s.arctanh(z)),
    ]


def special(s: Any, x: Any, y: Any) -> list[Any]:
    z = s.tanh(x)
    return [
        *(s.erf(x), s.erfc(x * 3.0), s.erfinv(z), s.lgamma(x * x + 0.1), s.digamma(x * 4.0), s.expm1(x)),
        *(s.log1p(x * x), s.logaddexp(x * 9.0, y), s.xlogy(x, y * y)),
    ]


def numbers(s: Any, x: Any, y: Any) -> list[Any]:
    return [
        *(s.square(x), s.rsqrt(x * x + 0.5), s.reciprocal(x + 9.0), s.sign(x) * x, s.floor(x * 5.0) + x),
        *(s.ceil(x * 5.0) - x, s.trunc(x * 5.0) * x, s.round(x * 5.0), s.clip(x, -0.7, 0.7), s.clip(x, min=0.1)),
        *(s.clip(x, y - 0.5, y + 0.5), s.nan_to_num(x)),
    ]


def units(s: Any, x: Any, y: Any) -> list[Any]:
    x = x * 3.0
    return [
        *(s.leaky_relu(x), s.leaky_relu(x, 0.2), s.prelu(x, y[:1]), s.elu(x), s.elu(x, alpha=0.7), s.celu(x, 1.3)),
        *(s.selu(x), s.gelu(x), s.gelu(x, approximate="tanh"), s.silu(x), s.mish(x), s.softsign(x), s.hardtanh(x)),
        *(s.hardtanh(x, -0.5, 2.0), s.relu6(x * 2.0), s.hardsigmoid(x), s.hardswish(x), s.log_sigmoid(x), s.isru(x)),
    ]


# Of an axis: what PyTorch does not have is written in it here.


def gates(s: Any, x: Any, y: Any) -> list[Any]:
    return [s.glu(x, -1), s.glu(x, 0), s.swiglu(x), s.maxout(x, 2), s.maxout(x, 2, 0)]


def sparse(s: Any, x: Any, y: Any) -> list[Any]:
    z = y * 0.0
    return [*(s.sparsemax(x), s.sparsemax(y * 2.0, 0), s.entmax(x), s.entmax(y * 0.3, axis=0), s.sparsemax(z))]


def matrices(s: Any, x: Any, y: Any) -> list[Any]:
    return [
        *(
            s.tril(x),
            s.tril(x, 1),
            s.triu(x, -1),
            s.trace(x @ y),
            s.outer(x[0], y[1]),
            s.cdist(x, y),
            s.cdist(x, y, 1.0),
        ),
        *(s.norm(x), s.norm(x, 1, axis=0), s.norm(x, 3, axis=-1), s.norm(x, float("inf")), s.bmm(x[None], y[None])),
        *(s.cosine_similarity(x, y), s.cosine_similarity(x, y, axis=0), s.dot(x[0], y[1]), s.kron(x[:2], y[:, :3])),
        *(s.diagonal(x), s.diagonal(x, -2), s.einsum("ij,kj->ki", x, y), s.einsum("ij,ij,k->ik", x, y, x[0])),
        *(s.einsum("ii,ji", x, y), s.cumprod(x, 0), s.cumprod(x * (x > 0.0), 1), s.tile(x, (2, 3))),
    ]


def chosen(s: Any, x: Any, y: Any) -> list[Any]:
    index = s.argsort(y, 0)
    return [
        *(s.sort(x, 0), s.sort(x, 1, descending=True), s.topk(x, 3, 1)[0], s.topk(x, 2, 0, largest=False)[0]),
        *(s.median(x), s.median(x, 1), s.median(x[:3], 0, True), s.take(x, index[:2] * 3), s.gather(x, 0, index)),
        *(s.gather(x, 1, index[:3]), s.scatter_add(x, 0, index, y), s.scatter_add(x, 1, index[:, :2], y[:, :2])),
    ]


def segments(s: Any, x: Any, y: Any) -> list[Any]:
    index = [2, 0, 2, 2]
    return [
        *(
            s.segment_sum(x, index),
            s.segment_mean(x, index, 4),
            s.segment_softmax(x, index),
            s.segment_sum(x[0], index),
        ),
        *(s.segment_max(x, index)[::2], s.segment_min(x, index)[::2], s.segment_logsumexp(x * 9.0, index)[::2]),
    ]


def decompositions(s: Any, x: Any, y: Any) -> list[Any]:
    u, d, vh = s.svd(x)
    _, _, v_wide = s.svd(y[:2])
    symmetric = x @ x.T + y * y.T
    w, v = s.eigh(symmetric)
    (q, r), (q_wide, r_wide) = s.qr(x[:, :3]), s.qr(y[:3])
    return [
        *(s.inverse(x), s.solve(x, y), s.solve(x, y[0]), s.triangular_solve(x, y), s.det(x), s.slogdet(x)[1]),
        *(s.triangular_solve(x, y[1], upper=True, unitriangular=True), s.cholesky(x @ x.T + s.eye(4)), w),
        *(v @ (w * v).T, s.norm(v[:, 0] * y[0]), u @ (d[:, None] * vh), d, q, r, q_wide, r_wide),
        *((u[:, 1] @ y[0]) * vh[1], (v_wide[0] @ x) ** 2),
    ]


def losses(s: Any, x: Any, y: Any) -> list[Any]:
    fixed, z, p, q = s.sigmoid(y).detach(), x * 2.0, s.sigmoid(x), s.sigmoid(y)
    side = s.where(y > 0.0, y * 0.0 + 1.0, y * 0.0 - 1.0).detach()
    return [
        *(s.absolute_error(x, y), s.huber_loss(z, y), s.huber_loss(z, y, delta=0.5), s.smooth_l1_loss(z, y, beta=0.7)),
        *(s.log_cosh(z, y), s.epsilon_insensitive(x, y, 0.3), s.binary_cross_entropy(p, q)),
        *(s.binary_cross_entropy(p, q, weight=fixed), s.binary_cross_entropy_with_logits(z, q, pos_weight=fixed)),
        *(s.binary_cross_entropy_with_logits(x, q, weight=fixed), s.focal_loss(x, q), s.focal_loss(x, q, -1.0, 1.5)),
        *(s.hinge_loss(x, side), s.perceptron_loss(x, side), s.soft_margin_loss(x, side)),
        *(s.hinge_embedding_loss(x, side), s.margin_ranking_loss(x, z * y, side, 0.1)),
        *(s.kl_div(s.log_softmax(x, -1), s.softmax(y, -1)), s.kl_div(x, y, log_target=True)),
        *(s.poisson_nll_loss(x, q), s.poisson_nll_loss(p, q * 4.0, log_input=False, full=True)),
        *(s.gaussian_nll_loss(x, y, p), s.gaussian_nll_loss(x, y, p, full=True, eps=0.6)),
        *(s.cosine_embedding_loss(x, y, 1), s.cosine_embedding_loss(x, y, -1, margin=-0.5)),
        *(s.triplet_margin_loss(x, y, z), s.triplet_margin_loss(z, x, y, margin=2.0, p=3.0, swap=True)),
        *(s.nll_loss(s.log_softmax(x, -1), 2), s.nll_loss(s.log_softmax(x, -1), 1, weight=fixed)),
        *(s.multi_margin_loss(x, 2), s.multi_margin_loss(x, 1, p=2, margin=0.8, weight=fixed)),
        *(s.softmax_margin_loss(x, 2, q), s.expected_cost(x, q), s.cross_entropy(x, 1, weight=fixed)),
        *(s.cross_entropy(x, 3, label_smoothing=0.1), s.cross_entropy(x, 2, fixed, label_smoothing=0.2)),
    ]


def losses_of_rows(s: Any, x: Any, y: Any) -> list[Any]:
    labels, weight = [2, 0, 3, 2], s.sigmoid(y[0]).detach()
    return [
        *(s.cross_entropy(x, labels), s.cross_entropy(x, labels, reduction="sum")),
        *(s.cross_entropy(x, labels, reduction="none"), s.cross_entropy(x, labels, weight)),
        *(s.cross_entropy(x, labels, ignore_index=2), s.cross_entropy(x, labels, weight, ignore_index=0)),
        *(s.cross_entropy(x, labels, label_smoothing=0.1), s.cross_entropy(y, labels, weight, 3, 0.2)),
        *(s.cross_entropy(y, labels, weight, 2, 0.2, red) for red in ("none", "sum")),
    ]


SUMMED = {
    *("huber_loss", "smooth_l1_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss"),
    *("hinge_embedding_loss", "margin_ranking_loss", "kl_div", "poisson_nll_loss", "gaussian_nll_loss"),
    "triplet_margin_loss",
}
"""Losses that PyTorch has by the same name."""

OF_LINALG = {"cholesky", "det", "eigh", "qr", "slogdet", "solve"}
"""Functions that PyTorch has by the same name in `torch.linalg`."""


class Them:
    """PyTorch, with what it lacks, and with `axis` for `dim`."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def __getattr__(self, name: str) -> Any:
        places = (self.torch.linalg if name in OF_LINALG else self.torch, self.torch.nn.functional)
        found = getattr(next(place for place in places if hasattr(place, name)), name)
        return functools.partial(self.loss, getattr(self.torch.nn.functional, name)) if name in SUMMED else found

    def loss(self, fn: Any, *args: Any, **options: Any) -> Any:
        """A loss of one example, which has no leading axis: summed."""
        return fn(*args, **options, reduction="sum")

    def absolute_error(self, x: Any, y: Any) -> Any:
        return (x - y).abs().sum()

    def norm(self, x: Any, ord: float = 2, axis: Any = None) -> Any:
        return self.torch.linalg.vector_norm(x, ord, axis)

    def cosine_similarity(self, x: Any, y: Any, axis: int = -1) -> Any:
        return self.torch.nn.functional.cosine_similarity(x, y, axis)

    def median(self, x: Any, axis: Any = None, keepdim: bool = False) -> Any:
        return self.torch.quantile(x, 0.5, axis, keepdim)

    def argsort(self, x: Any, axis: int = -1) -> Any:
        return self.torch.argsort(x, axis)

    def sort(self, x: Any, axis: int, descending: bool = False) -> Any:
        return self.torch.sort(x, axis, descending)[0]

    def segment_sum(self, x: Any, index: Any, n: int = 3) -> Any:
        return self.torch.zeros(n, *x.shape[1:]).index_add(0, self.torch.tensor(index), x)

    def segment_mean(self, x: Any, index: Any, n: int) -> Any:
        return self.segment_sum(x, index, n) / self.segment_sum(self.torch.ones(len(x), 1), index, n).clamp(1)

    def segment_max(self, x: Any, index: Any) -> Any:
        places = self.torch.tensor(index)[:, None].expand(x.shape)
        return self.torch.zeros(3, x.shape[1]).scatter_reduce(0, places, x, "amax", include_self=False)

    def segment_min(self, x: Any, index: Any) -> Any:
        return -self.segment_max(-x, index)

    def segment_softmax(self, x: Any, index: Any) -> Any:
        return x.exp() / self.segment_sum(x.exp(), index)[index]

    def segment_logsumexp(self, x: Any, index: Any) -> Any:
        return self.segment_sum(x.exp(), index).log()

    def inverse(self, x: Any) -> Any:
        return self.torch.linalg.inv(x)

    def triangular_solve(self, a: Any, b: Any, upper: bool = False, unitriangular: bool = False) -> Any:
        b = b if b.ndim == 2 else b[:, None]
        found = self.torch.linalg.solve_triangular(a, b, upper=upper, unitriangular=unitriangular)
        return found if found.shape[1] > 1 else found[:, 0]

    def svd(self, x: Any) -> Any:
        return self.torch.linalg.svd(x, full_matrices=False)

    def log_cosh(self, x: Any, y: Any) -> Any:
        return self.torch.log(self.torch.cosh(x - y)).sum()

    def epsilon_insensitive(self, x: Any, y: Any, epsilon: float) -> Any:
        return self.torch.relu((x - y).abs() - epsilon).sum()

    def focal_loss(self, x: Any, target: Any, alpha: float = 0.25, gamma: float = 2.0) -> Any:
        p = self.torch.sigmoid(x)
        loss = self.torch.nn.functional.binary_cross_entropy_with_logits(x, target, reduction="none")
        loss = loss * (1 - (p * target + (1 - p) * (1 - target))) ** gamma
        return ((alpha * target + (1 - alpha) * (1 - target)) * loss if alpha >= 0 else loss).sum()

    def hinge_loss(self, x: Any, target: Any) -> Any:
        return self.torch.relu(1 - target * x).sum()

    def perceptron_loss(self, x: Any, target: Any) -> Any:
        return self.torch.relu(-target * x).sum()

    def cosine_embedding_loss(self, x: Any, y: Any, target: int, margin: float = 0.0) -> Any:
        side = self.torch.tensor(target)
        return self.torch.nn.functional.cosine_embedding_loss(x, y, side, margin)

    def nll_loss(self, x: Any, index: int, weight: Any = None) -> Any:
        return -x[index] * (1 if weight is None else weight[index])

    def multi_margin_loss(self, x: Any, index: int, **options: Any) -> Any:
        return self.torch.nn.functional.multi_margin_loss(x, self.torch.tensor(index), **options)

    def softmax_margin_loss(self, x: Any, index: int, cost: Any) -> Any:
        return self.torch.logsumexp(x + cost, -1) - x[index]

    def expected_cost(self, x: Any, cost: Any) -> Any:
        return (self.torch.softmax(x, -1) * cost).sum()

    def cross_entropy(
        self, x: Any, index: Any, weight: Any = None, ignore_index: int = -100, label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Any:  # fmt: skip
        return self.torch.nn.functional.cross_entropy(
            x, self.torch.tensor(index), weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
            reduction="sum" if x.ndim == 1 else reduction,
        )  # fmt: skip

    def prelu(self, x: Any, weight: Any) -> Any:
        return self.torch.where(x > 0, x, weight * x)

    def gelu(self, x: Any, approximate: str = "none") -> Any:
        return self.torch.nn.functional.gelu(x, approximate=approximate)

    def log_sigmoid(self, x: Any) -> Any:
        return self.torch.nn.functional.logsigmoid(x)

    def isru(self, x: Any) -> Any:
        return x / (1 + x * x).sqrt()

    def swiglu(self, x: Any) -> Any:
        a, b = x.chunk(2, -1)
        return a * self.torch.sigmoid(a) * b

    def maxout(self, x: Any, pieces: int, axis: int = -1) -> Any:
        return self.torch.stack([part.amax(axis) for part in x.split(pieces, axis)], axis)

    def sparsemax(self, x: Any, axis: int = -1) -> Any:
        z = x.sort(axis, descending=True).values
        k = self.ranks(z, axis)
        total = z.cumsum(axis)
        n = (1 + k * z > total).sum(axis, keepdim=True)
        return (x - (total.gather(axis, n - 1) - 1) / n).clamp(min=0)

    def entmax(self, x: Any, axis: int = -1) -> Any:
        x = x / 2
        z = x.sort(axis, descending=True).values
        k = self.ranks(z, axis)
        mean, square = z.cumsum(axis) / k, (z * z).cumsum(axis) / k
        threshold = mean - ((1 - k * (square - mean * mean)) / k).clamp(min=0).sqrt()
        n = (threshold <= z).sum(axis, keepdim=True)
        return (x - threshold.gather(axis, n - 1)).clamp(min=0) ** 2

    def ranks(self, z: Any, axis: int) -> Any:
        assert z.ndim == 1
        return self.torch.arange(1, len(z) + 1)


def cases(shape: tuple[int, ...], *groups: Any) -> list[Any]:
    """A case for each group of functions of two operands of this shape."""
    return [
        function(
            made.__name__, {"x": shape, "y": shape},
            lambda x, made=made: made(ab, x.x, x.y), lambda t, x, made=made: made(Them(t), x.x, x.y),
        )
        for made in groups
    ]  # fmt: skip


LIBRARY = [
    *cases((5,), trigonometry, special, numbers, units),
    *cases((4, 4), gates, matrices, chosen, segments, decompositions, losses_of_rows),
    *cases((4,), sparse, losses),
]
