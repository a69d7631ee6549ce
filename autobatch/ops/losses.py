"""Losses of one example, each a scalar: those of elements are summed, as `squared_error`.

Parameters, their defaults and derivatives at kinks are PyTorch's where it has the loss. An operand called `target` has
the shape of the others, or one that broadcasts; `index` is a label, an integer or an integer value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from ..base.errors import OpIndexError, op_error, user_error
from .composing import composite, normal, uniform
from .composite import logsumexp, softmax
from .cross_entropy import of_classes
from .declare import apply, as_value, lifted
from .elementwise import STOP_GRADIENT, absolute, maximum, minimum, where
from .functions import exp, log, power, relu, sigmoid, softplus, sqrt
from .index import BOUNDED, check_whole, not_in_range
from .numbers import rsqrt
from .reduce import reduction
from .special import log1p, xlogy
from .trigonometry import sinh

if TYPE_CHECKING:
    from .value import Tensor, TensorLike


def _summed(y: Any) -> Any:
    return reduction("sum", y, None, False)


def _check_given(name: str, called: str, x: Any, fits: Callable[[Any], Any], expected: str) -> None:
    """Raise unless an operand of numbers that the caller gave fits; values, which are computed later, pass."""
    if hasattr(x, "_record") or (isinstance(x, list | tuple) and any(hasattr(e, "_record") for e in x)):
        return
    given = np.asarray(x)
    if given.dtype.kind in "biuf" and not np.all(fits(given)):
        raise op_error(name, f"{called} is out of range", expected=expected, got=repr(x)[:60])


def _probabilities(x: Any, target: Any, *_: Any) -> None:
    for called, given in (("a probability", x), ("a target", target)):  # NaN passes, and gives NaN
        _check_given("binary_cross_entropy", called, given, lambda p: ~((p < 0) | (p > 1)), "from 0 to 1")


def _sides(name: str, at: int = 1) -> Callable[..., None]:
    """A check that the target, operand number `at`, is on one side or the other."""
    return lambda *args: _check_given(name, "a target", args[at], lambda x: np.isin(x, (-1, 1)), "-1 or 1")


# Of differences.


@composite(normal((3, 2), (3, 2)), then=_summed)
def absolute_error(x: TensorLike, y: TensorLike) -> Tensor:
    """Sum of |x - y|, a scalar (PyTorch's `l1_loss`); the derivative where they are equal is 0.

    >>> float(ab.absolute_error(ab.tensor([1.0, 2.0]), [0.0, 4.0]))
    3.0
    """
    x, y = as_value(x), as_value(y)
    return absolute(x - y)


@composite(normal((3, 2), (3, 2), attrs=(0.8,)), then=_summed)
def huber_loss(x: TensorLike, y: TensorLike, delta: float = 1.0) -> Tensor:
    """Sum of d²/2 where |d| < delta, else delta (|d| - delta/2), with d = x - y; a scalar (Huber 1964).

    >>> float(ab.huber_loss(ab.tensor([1.0, 2.0]), [0.5, 5.0]))
    2.625
    """
    x, y = as_value(x), as_value(y)
    d = x - y
    size = absolute(d)
    return where(size < delta, d * d * 0.5, (size - 0.5 * delta) * delta)


@composite(normal((3, 2), (3, 2), attrs=(0.8,)), then=_summed)
def smooth_l1_loss(x: TensorLike, y: TensorLike, beta: float = 1.0) -> Tensor:
    """Sum of d²/(2 beta) where |d| < beta, else |d| - beta/2, with d = x - y; a scalar (Girshick 2015).

    >>> float(ab.smooth_l1_loss(ab.tensor([1.0, 2.0]), [0.5, 5.0]))
    2.625
    """
    x, y = as_value(x), as_value(y)
    d = x - y
    size = absolute(d)
    return size if beta == 0 else where(size < beta, d * d * (0.5 / beta), size - 0.5 * beta)


@composite(normal((3, 2), (3, 2)), then=_summed)
def log_cosh(x: TensorLike, y: TensorLike) -> Tensor:
    """Sum of log(cosh(x - y)), without overflow; a scalar.

    >>> round(float(ab.log_cosh(ab.tensor([1.0, 2.0]), [0.0, 2.0])), 4)
    0.4338
    """
    x, y = as_value(x), as_value(y)
    d = x - y
    size = absolute(d)
    is_small = size < 1.0
    s = sinh(where(is_small, d, 0.0))
    return where(is_small, log1p(s * s) * 0.5, size + softplus(size * -2.0) - math.log(2.0))


@composite(normal((3, 2), (3, 2), attrs=(0.1,)), then=_summed)
def epsilon_insensitive(x: TensorLike, y: TensorLike, epsilon: float = 0.1) -> Tensor:
    """Sum of max(|x - y| - epsilon, 0), the loss of support vector regression (Vapnik 1995).

    >>> float(ab.epsilon_insensitive(ab.tensor([1.0, 2.0]), [1.25, 2.5], epsilon=0.25))
    0.25
    """
    x, y = as_value(x), as_value(y)
    return relu(absolute(x - y) - epsilon)


# Of two classes: `target` is from 0 to 1, or -1 and 1 for margins. Other numbers that are given raise `OpTypeError`.


def _log(x: Any, of_x: Any) -> Any:
    """`of_x(x)`, the logarithm of a probability x, not below -100; the derivative is at most 1e12, as PyTorch's."""
    is_safe = x > 1e-12
    constant = apply(STOP_GRADIENT, (x,))
    low = apply(STOP_GRADIENT, (maximum(log(constant), -100.0),)) + (x - constant) * 1e12
    return where(is_safe, of_x(is_safe), low)


@composite(uniform(0.2, 0.8, (3, 2), (3, 2), (2,), attrs=((),)), then=_summed, check=_probabilities)
def binary_cross_entropy(x: TensorLike, target: TensorLike, weight: TensorLike | None = None) -> Tensor:
    """Sum of -weight (target log(x) + (1 - target) log(1 - x)), of probabilities x; logarithms end at -100.

    A scalar. `binary_cross_entropy_with_logits` loses no digits. Raises `OpTypeError` for numbers outside of
    0 to 1 that are given; values that are computed are not checked.

    >>> round(float(ab.binary_cross_entropy(ab.tensor([0.5, 1.0]), [1.0, 1.0])), 4)
    0.6931
    """
    x, target = as_value(x), as_value(target)
    here = _log(x, lambda safe: log(where(safe, x, 1.0)))
    there = _log(1.0 - x, lambda safe: log1p(where(safe, -x, 0.0)))
    loss: Tensor = -(target * here + (1.0 - target) * there)
    return loss if weight is None else loss * as_value(weight)


@composite(uniform(0.2, 0.8, (3, 2), (3, 2), (2,), (2,), attrs=((),)), then=_summed)
def binary_cross_entropy_with_logits(
    x: TensorLike, target: TensorLike, weight: TensorLike | None = None, pos_weight: TensorLike | None = None
) -> Tensor:
    """Sum of -weight (pos_weight target log(σ(x)) + (1 - target) log(1 - σ(x))), σ = `sigmoid`; a scalar.

    >>> round(float(ab.binary_cross_entropy_with_logits(ab.tensor([0.0, 1000.0]), [1.0, 1.0])), 4)
    0.6931
    """
    x, target = as_value(x), as_value(target)
    share = 1.0 if pos_weight is None else (as_value(pos_weight) - 1.0) * target + 1.0
    loss = (1.0 - target) * x + softplus(-x) * share
    return loss if weight is None else loss * as_value(weight)


@composite(uniform(0.2, 0.8, (3, 2), (3, 2), attrs=(0.25, 2.0)), then=_summed)
def focal_loss(x: TensorLike, target: TensorLike, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Binary cross-entropy of logits x, less where the class is likely: times (1 - p)^gamma (Lin et al. 2017, eq. 5).

    A scalar. p is that of the target; targets 1 are weighted by `alpha`, 0 by 1 - alpha, neither if it is negative,
    as torchvision's `sigmoid_focal_loss`.

    >>> round(float(ab.focal_loss(ab.tensor([0.0]), [1.0])), 4)
    0.0433
    """
    x, target = as_value(x), as_value(target)
    p = sigmoid(x)
    other = p + target - p * target * 2.0  # 1 - p of the target
    loss = ((1.0 - target) * x + softplus(-x)) * power(other, gamma)
    return loss if alpha < 0 else loss * (target * (2.0 * alpha - 1.0) + (1.0 - alpha))


@composite(normal((3, 2), (3, 2), attrs=(1.0,)), then=_summed, check=_sides("hinge_loss"))
def hinge_loss(x: TensorLike, target: TensorLike, margin: float = 1.0) -> Tensor:
    """Sum of max(margin - target x, 0), a scalar; targets but -1 and 1 raise `OpTypeError` (Cortes & Vapnik 1995).

    >>> float(ab.hinge_loss(ab.tensor([0.5, 2.0]), [1.0, 1.0]))
    0.5
    """
    x, target = as_value(x), as_value(target)
    return relu(margin - target * x)


@composite(normal((3, 2), (3, 2)), then=_summed, check=_sides("perceptron_loss"))
def perceptron_loss(x: TensorLike, target: TensorLike) -> Tensor:
    """Sum of max(-target x, 0), a scalar; targets but -1 and 1 raise `OpTypeError` (Rosenblatt 1958).

    >>> float(ab.perceptron_loss(ab.tensor([0.5, -2.0]), [1.0, 1.0]))
    2.0
    """
    x, target = as_value(x), as_value(target)
    return relu(-(target * x))


@composite(normal((3, 2), (3, 2)), then=_summed, check=_sides("soft_margin_loss"))
def soft_margin_loss(x: TensorLike, target: TensorLike) -> Tensor:
    """Sum of log(1 + exp(-target x)), a scalar; targets but -1 and 1 raise `OpTypeError`.

    >>> round(float(ab.soft_margin_loss(ab.tensor([0.0]), [1.0])), 4)
    0.6931
    """
    x, target = as_value(x), as_value(target)
    return softplus(-(target * x))


@composite(normal((3, 2), (3, 2), attrs=(1.0,)), then=_summed, check=_sides("hinge_embedding_loss"))
def hinge_embedding_loss(x: TensorLike, target: TensorLike, margin: float = 1.0) -> Tensor:
    """Sum of x where the target is 1, of max(margin - x, 0) where -1, a scalar. Raises `OpTypeError` for others.

    >>> float(ab.hinge_embedding_loss(ab.tensor([0.5, 0.75]), [1.0, -1.0]))
    0.75
    """
    x, target = as_value(x), as_value(target)
    return where(target > 0.0, x, relu(margin - x))


@composite(normal((3, 2), (3, 2), (2,), attrs=(0.1,)), then=_summed, check=_sides("margin_ranking_loss", 2))
def margin_ranking_loss(x1: TensorLike, x2: TensorLike, target: TensorLike, margin: float = 0.0) -> Tensor:
    """Sum of max(margin - target (x1 - x2), 0), a scalar: of 1 x1 is to be larger, of -1 x2. Others: `OpTypeError`.

    >>> float(ab.margin_ranking_loss(ab.tensor(0.5), ab.tensor(0.75), 1.0))
    0.25
    """
    x1, x2, target = as_value(x1), as_value(x2), as_value(target)
    return relu(margin - target * (x1 - x2))


# Of distributions.


@composite(uniform(0.2, 0.8, (3, 2), (3, 2), attrs=(False,)), then=_summed)
def kl_div(x: TensorLike, target: TensorLike, log_target: bool = False) -> Tensor:
    """Sum of target (log(target) - x), the divergence from target of what has logarithms x (Kullback & Leibler 1951).

    A scalar. With `log_target` the target is given by its logarithms, too.

    >>> round(float(ab.kl_div(ab.log(ab.tensor([0.5, 0.5])), [1.0, 0.0])), 4)
    0.6931
    """
    x, target = as_value(x), as_value(target)
    return exp(target) * (target - x) if log_target else xlogy(target, target) - target * x


@composite(uniform(1.2, 2.0, (3, 2), (3, 2), attrs=(True, True, 1e-8)), then=_summed)
def poisson_nll_loss(
    x: TensorLike, target: TensorLike, log_input: bool = True, full: bool = False, eps: float = 1e-8
) -> Tensor:
    """Sum of exp(x) - target x: the negative log-likelihood of counts under Poisson distributions of means exp(x).

    Without `log_input` x are the means themselves: x - target log(x + eps). With `full` Stirling's approximation of
    log(target!) is added where the target is above 1.

    >>> float(ab.poisson_nll_loss(ab.tensor(0.0), 3.0))
    1.0
    """
    x, target = as_value(x), as_value(target)
    loss = exp(x) - target * x if log_input else x - target * log(x + eps)
    if full:
        n = where(target > 1.0, target, 1.0)
        loss = loss + where(target > 1.0, n * log(n) - n + log(n * (2.0 * math.pi)) * 0.5, 0.0)
    return loss


def _variance(x: Any, target: Any, var: Any, *_: Any) -> None:
    _check_given("gaussian_nll_loss", "a variance", var, lambda v: ~(v < 0), "0 or more")


@composite(uniform(0.5, 2.0, (3, 2), (3, 2), (2,), attrs=(True, 1e-6)), then=_summed, check=_variance)
def gaussian_nll_loss(
    x: TensorLike, target: TensorLike, var: TensorLike, full: bool = False, eps: float = 1e-6
) -> Tensor:
    """Sum of (log(var) + (x - target)²/var)/2: the negative log-likelihood under normal distributions of means x.

    A variance below `eps` counts as that, and keeps its derivative (Nix & Weigend 1994). With `full` log(2π)/2 is
    added for each element. Raises `OpTypeError` for a negative variance that is given as a number.

    >>> float(ab.gaussian_nll_loss(ab.tensor([1.0, 2.0]), [0.0, 2.0], 1.0))
    0.5
    """
    x, target, var = as_value(x), as_value(target), as_value(var)
    var = var + apply(STOP_GRADIENT, (relu(eps - var),))
    d = x - target
    return (log(var) + d * d / var) * 0.5 + (0.5 * math.log(2.0 * math.pi) if full else 0.0)


# Of vectors.


def _vectors(name: str, *xs: Any) -> list[Tensor]:
    """Operands that are vectors of one length."""
    values = [lifted(x) for x in xs]
    if any(len(x.shape) != 1 or x.shape != values[0].shape for x in values):
        got = ", ".join(str(x._type) for x in values)
        repair = "one example has one pair: sum the losses of the rows"
        raise op_error(name, "it is of vectors of one length", expected="f[n] each", got=got, repair=repair)
    return values


def cosine_embedding_loss(x1: TensorLike, x2: TensorLike, target: TensorLike, margin: float = 0.0) -> Tensor:
    """1 - cos(x1, x2) if the target is 1, max(cos(x1, x2) - margin, 0) if -1; others raise `OpTypeError`. Of `f[n]`.

    >>> round(float(ab.cosine_embedding_loss(ab.tensor([1.0, 0.0]), [0.0, 1.0], 1)), 4)
    1.0
    """
    x1, x2 = _vectors("cosine_embedding_loss", x1, x2)
    square = (_summed(x1 * x1) + 1e-12) * (_summed(x2 * x2) + 1e-12)
    return _cosine_loss(_summed(x1 * x2) * rsqrt(square), target, margin)


@composite(uniform(0.2, 0.8, (3, 2), (2,), attrs=(0.1,)))
def _cosine_loss(cosine: TensorLike, target: TensorLike, margin: float) -> Tensor:
    """1 - cosine where the target is 1, else what it exceeds the margin by."""
    cosine, target = as_value(cosine), as_value(target)
    return where(target > 0.0, 1.0 - cosine, relu(cosine - margin))


def triplet_margin_loss(
    anchor: TensorLike,
    positive: TensorLike,
    negative: TensorLike,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
) -> Tensor:
    """max(|anchor - positive| - |anchor - negative| + margin, 0), with p-norms of vectors (Balntas et al. 2016).

    `eps` is added to each difference. With `swap` the second distance is that of positive and negative if that is less.
    Raises `OpTypeError` for other shapes.

    >>> round(float(ab.triplet_margin_loss(ab.tensor([0.0, 0.0]), [0.0, 0.0], [3.0, 4.0], margin=5.5)), 4)
    0.5
    """
    anchor, positive, negative = _vectors("triplet_margin_loss", anchor, positive, negative)

    def distance(x: Any, y: Any) -> Any:
        size = absolute(x - y + eps)
        return sqrt(_summed(size * size)) if p == 2 else power(_summed(power(size, p)), 1.0 / p)

    other = distance(anchor, negative)
    if swap:
        other = minimum(other, distance(positive, negative))
    found: Tensor = relu(distance(anchor, positive) - other + margin)
    return found


# Of one label among several classes.


def _scores(name: str, scores: Any) -> Tensor:
    """The scores of the classes of one example."""
    scores = lifted(scores)
    if len(scores.shape) != 1:
        raise op_error(
            name,
            "one example has one vector of scores",
            expected="f[classes]",
            got=str(scores._type),
            repair="sum the losses of the rows: ab.sum([loss(row, label) for row, label in ...])",
        )
    return scores


def _label(name: str, scores: Any, index: Any) -> Any:
    """A label that is known to be a class, and below the number of scores."""
    if isinstance(index, np.ndarray) and not index.ndim:
        index = index[()]
    check_whole(name, index)
    n = scores.shape[0]
    if not isinstance(index, int | np.integer):
        return apply(BOUNDED, (index,), (n, 0))
    if not 0 <= index < n:
        raise user_error(OpIndexError, f"{name}: {not_in_range(int(index), n, 0)}", repair="number the classes from 0")
    return int(index)


def nll_loss(log_probs: TensorLike, index: Tensor | SupportsIndex, weight: TensorLike | None = None) -> Tensor:
    """-weight[index] log_probs[index]: the negative log-likelihood of a label, of `log_probs: f[classes]`.

    Raises `OpIndexError` for a label outside the classes, as `cross_entropy`.

    >>> round(float(ab.nll_loss(ab.log_softmax(ab.zeros(4)), 2)), 4)
    1.3863
    """
    log_probs = _scores("nll_loss", log_probs)
    label = _label("nll_loss", log_probs, index)
    loss = -log_probs[label]
    return loss if weight is None else loss * of_classes("nll_loss", weight, log_probs)[label]


def multi_margin_loss(
    scores: TensorLike,
    index: Tensor | SupportsIndex,
    p: int = 1,
    margin: float = 1.0,
    weight: TensorLike | None = None,
) -> Tensor:
    """Mean over the classes of max(margin - scores[index] + score, 0)^p, that of the label left out.

    `scores: f[classes]`; `weight: f[classes]` is that of the label (Crammer & Singer 2001). `OpIndexError` for others.

    >>> float(ab.multi_margin_loss(ab.tensor([1.0, 0.5, -2.0, 0.0]), 0))
    0.125
    """
    scores = _scores("multi_margin_loss", scores)
    label = _label("multi_margin_loss", scores, index)
    each = _margins(scores, scores[label], float(margin), p)
    loss = (_summed(each) - float(margin) ** p) / float(scores.shape[0])
    return loss if weight is None else loss * of_classes("multi_margin_loss", weight, scores)[label]


@composite(normal((3, 2), (2,), attrs=(1.0, 2)))
def _margins(scores: TensorLike, chosen: TensorLike, margin: float, p: int) -> Tensor:
    """max(margin - chosen + score, 0)^p of each score."""
    scores, chosen = as_value(scores), as_value(chosen)
    return power(relu(scores - chosen + margin), p)


def softmax_margin_loss(scores: TensorLike, index: Tensor | SupportsIndex, cost: TensorLike) -> Tensor:
    """log Σ exp(scores + cost) - scores[index], with the cost of each class where the label is right.

    `scores: f[classes]`, `cost: f[classes]`, 0 for the label (Gimpel & Smith 2010, eq. 6). `OpIndexError` for others.

    >>> round(float(ab.softmax_margin_loss(ab.zeros(2), 0, [0.0, 1.0])), 4)
    1.3133
    """
    scores = _scores("softmax_margin_loss", scores)
    label = _label("softmax_margin_loss", scores, index)
    return logsumexp(scores + of_classes("softmax_margin_loss", cost, scores, "cost")) - scores[label]


def expected_cost(scores: TensorLike, cost: TensorLike) -> Tensor:
    """Σ softmax(scores) cost: what a class that is drawn costs on average; also called risk (Smith & Eisner 2006).

    `scores, cost: f[classes]`; other shapes raise `OpTypeError`.

    >>> float(ab.expected_cost(ab.zeros(2), [0.0, 1.0]))
    0.5
    """
    scores = _scores("expected_cost", scores)
    found: Tensor = _summed(softmax(scores) * of_classes("expected_cost", cost, scores, "cost"))
    return found
