"""Cross-entropy of labels: of one vector of logits, and of each row of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from ..base.errors import OpIndexError, OpTypeError, op_error, user_error
from ..base.types import LEADING
from .composite import log_softmax, logsumexp
from .declare import Attrs, Sample, apply, as_value, check_number, declare, lifted
from .elementwise import cast, equal, where
from .gathering import along
from .index import BOUNDED, TAKE, check_whole, not_in_range
from .movement import reshape
from .reduce import reduction as reduced

if TYPE_CHECKING:
    from .value import Tensor, TensorLike

Reduction = Literal["none", "mean", "sum"]


def _chosen(x: Any, label: Any) -> Any:
    """The element of a label, or that of the label of each row."""
    if x.ndim == 1:
        return apply(TAKE, (x, label))
    return reshape(along(x, reshape(label, (*label.shape, 1))), label.shape)


def _label(x: Any, index: Any) -> Any:
    """Labels that are known to be classes. Raises where there is not one for each vector of logits."""
    if x.ndim not in (1, 2) or index.shape != x.shape[:-1]:
        raise op_error(
            "cross_entropy",
            "each vector of logits has one label",
            expected="f[classes], i64[] or f[n, classes], i64[n]",
            got=f"{x._type}, {index._type}",
            repair="pass as many labels as there are rows of logits",
        )
    return apply(BOUNDED, (index,), (x.shape[-1], 0))


def _cross_entropy_body(x: Any, index: Any) -> Any:
    chosen = _chosen(x, _label(x, index))
    return logsumexp(x, -1) - chosen


CROSS_ENTROPY = declare(
    "cross_entropy",
    "logsumexp of the logits minus the logit of the label, of one vector or of each row",
    dtypes="keep",
    body=_cross_entropy_body,
    lead=lambda ndims, shared, attrs: (True, True) if list(ndims) == [2, 1] else None,
    samples=lambda rng: [
        Sample((rng.normal(size=5), 3)),
        Sample((rng.normal(size=2), 0)),
        Sample((rng.normal(size=(4, 3)), np.array([2, 0, 0, 1]))),
        Sample((rng.normal(size=3), 3), error=OpIndexError),
        Sample((rng.normal(size=3), -1), error=OpIndexError),
        Sample((rng.normal(size=(2, 3)), np.array([0, 3])), error=OpIndexError),
        Sample((rng.normal(size=(3, 2)), 1), error=OpTypeError),
        Sample((rng.normal(size=(3, 2)), np.array([0, 1])), error=OpTypeError),
    ],
)


def of_classes(name: str, weight: Any, scores: Any, called: str = "weight") -> Tensor:
    """A number for each class, of which op `name` has scores; `called` says what it is."""
    weight = lifted(weight)
    if weight.shape != scores.shape[-1:]:
        expected, got = f"one for each of the {scores.shape[-1]} classes", f"a {called} of shape {weight.shape}"
        repair = f"pass a vector with the {called} of every class"
        raise op_error(
            name, f"the {called} has another shape than the scores", expected=expected, got=got, repair=repair
        )
    return weight


def _of_labels(logits: Any, index: Any) -> Any:
    if isinstance(index, int | np.integer) and logits.ndim == 1:
        n, index = logits.shape[0], int(index)
        if not 0 <= index < n:
            raise user_error(
                OpIndexError,
                f"cross_entropy: {not_in_range(index, n, 0)}",
                repair="number the classes from 0; ignore_index= is for labels that do not count",
            )
        if logits._type.layout != LEADING:  # of classes whose number varies, each is a row
            return logsumexp(logits) - logits[index]
    return apply(CROSS_ENTROPY, (logits, index))


def _smoothed(logits: Any, index: Any, weight: Any, smoothing: float) -> Any:
    """The loss of a label with weights, and of all classes."""
    loss = _of_labels(logits, index)
    if weight is not None:
        loss = loss * weight[index]
    if not smoothing:
        return loss
    others = -log_softmax(logits)
    others = reduced("sum", others if weight is None else others * weight, -1, False)
    return loss * (1.0 - smoothing) + others * (smoothing / logits.shape[-1])


def _terms(x: Any, index: Any, *rest: Any) -> Any:
    *given, ignore_index, smoothing, term = rest
    weight = given[0] if given else None
    is_ignored = equal(index, ignore_index)
    index = where(is_ignored, 0, index)
    if term == "loss":
        return where(is_ignored, 0.0, _smoothed(x, index, weight, smoothing))
    if weight is None:
        return cast(equal(is_ignored, False), x.dtype)
    return where(is_ignored, 0.0, apply(TAKE, (weight, apply(BOUNDED, (index,), (x.shape[-1], 0)))))


def _samples_of_terms(rng: np.random.Generator) -> list[Sample]:
    x, index, weight = rng.normal(size=(4, 3)), np.array([2, -1, 0, 1]), rng.uniform(0.5, 2.0, 3)
    right: list[Attrs] = [(-1, 0.0, "loss"), (-1, 0.3, "loss"), (-1, 0.0, "weight")]
    operands = ((x, index), (x, index, weight))
    wrong = Sample((x, index, weight), (NO_LABEL, 0.0, "loss"), error=OpIndexError)
    return [*(Sample(given, attrs) for given in operands for attrs in right), wrong]


def _lead_of_terms(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    return (True, True, *[False] * len(ndims[2:])) if list(ndims[:2]) == [2, 1] else None


NO_LABEL = -(1 << 62)
"""A label to ignore that there is never."""

CROSS_ENTROPY_TERMS = declare(
    "cross_entropy_terms",
    "the loss of each row's label, with a weight for each class, or the label's weight; 0 where it is ignored",
    dtypes="keep",
    body=_terms,
    lead=_lead_of_terms,
    samples=_samples_of_terms,
)


def cross_entropy(
    logits: TensorLike,
    index: TensorLike | SupportsIndex,
    weight: TensorLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-likelihood of label `index` under softmax(`logits: f[classes]`); a scalar.

    It is multiplied by the label's element of `weight: f[classes]`. With `label_smoothing` so much of the label's
    probability is shared out among all classes, each weighted by its own (Szegedy et al. 2016, section 7). The loss of
    label `ignore_index` is 0.

    Of `logits: f[n, classes]` and `index: i64[n]` it is by `reduction` "none" that of each row, f[n]; by "sum" their
    sum; by "mean" that over the sum of the weights of the labels (1 without `weight`), ignored ones left out, and NaN
    where no label is left, as `torch.nn.functional.cross_entropy`.

    Raises `OpIndexError` for a label outside the classes, negative ones included: here if it is a number, when it runs
    if it is a value. Raises `OpTypeError` for a label that is not an integer, and for shapes that do not match.

    >>> round(float(ab.cross_entropy(ab.zeros(4), 2)), 4)
    1.3863
    >>> ab.cross_entropy(ab.tensor([[0.0, 0.0], [9.0, 0.0]]), [1, 1], reduction="none").numpy().round(3)
    array([0.693, 9.   ], dtype=float32)
    """
    logits = lifted(logits)
    if isinstance(index, np.ndarray) and not index.ndim:
        index = index[()]
    if isinstance(index, list | tuple):
        index = as_value(index) if index else np.zeros(0, np.int64)
    check_whole("cross_entropy", index)
    _check_options(label_smoothing, reduction)
    weight = None if weight is None else of_classes("cross_entropy", weight, logits)
    if logits.ndim != 1:
        return _of_rows(logits, index, weight, ignore_index, label_smoothing, reduction)
    if ignore_index is None:
        found: Tensor = _smoothed(logits, index, weight, label_smoothing)
        return found
    is_ignored = equal(index, ignore_index)
    if isinstance(index, int | np.integer):
        index = 0 if index == ignore_index else index
    else:
        index = where(is_ignored, 0, as_value(index))
    return where(is_ignored, 0.0, _smoothed(logits, index, weight, label_smoothing))


def _check_options(label_smoothing: Any, reduction: Any) -> None:
    check_number("cross_entropy", "label_smoothing", label_smoothing)
    if isinstance(label_smoothing, int | float) and not 0.0 <= label_smoothing <= 1.0:
        what = "label_smoothing is no part of a probability"
        raise op_error("cross_entropy", what, expected="from 0 to 1", got=str(label_smoothing), repair="0.1 is usual")
    if reduction not in ("none", "mean", "sum"):
        what = "there is no such reduction"
        raise op_error("cross_entropy", what, expected="'none', 'mean' or 'sum'", got=repr(reduction)[:60])


def _of_rows(
    logits: Any, index: Any, weight: Any, ignore_index: int | None, smoothing: float, reduction: Reduction
) -> Any:
    """The loss of a matrix of logits and a label for each row."""
    ignored = NO_LABEL if ignore_index is None else int(ignore_index)
    operands = (logits, index) if weight is None else (logits, index, weight)
    if weight is None and ignore_index is None and not smoothing:
        found = apply(CROSS_ENTROPY, operands)
    else:
        found = apply(CROSS_ENTROPY_TERMS, operands, (ignored, float(smoothing), "loss"))
    if reduction == "none":
        return found
    total = reduced("sum", found, None, False)
    if reduction == "sum":
        return total
    if weight is None and ignore_index is None:
        return total / float(logits.shape[0])
    weights = apply(CROSS_ENTROPY_TERMS, operands, (ignored, 0.0, "weight"))
    return total / reduced("sum", weights, None, False)
