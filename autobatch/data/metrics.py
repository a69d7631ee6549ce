"""How good predictions are. Truth comes first, as in scikit-learn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import message

__all__ = [
    "AttachmentScores",
    "accuracy_score",
    "attachment_scores",
    "f1_score",
    "perplexity",
    "root_mean_squared_error",
    "span_f1_score",
    "spans",
]


def accuracy_score(y_true: Iterable[Any], y_pred: Iterable[Any]) -> float:
    """Share of the predictions `y_pred` that are `y_true`.

    Raises ValueError where the two differ in length, or there is none; so do all functions of this file.

    >>> accuracy_score(["N", "V", "N"], ["N", "N", "N"])
    0.6666666666666666
    """
    pairs = _pairs("accuracy_score", y_true, y_pred)
    return sum(bool(true == predicted) for true, predicted in pairs) / len(pairs)


def f1_score(y_true: Iterable[Any], y_pred: Iterable[Any], average: str = "binary", pos_label: Any = 1) -> float:
    """2 · precision · recall / (precision + recall), as `sklearn.metrics.f1_score`; 0 where nothing is right.

    `y_true` and `y_pred` are labels, right ones and predictions.

    Arguments:
        average: "binary", of the label `pos_label`; or of all labels, "micro", all counted together, "macro", their
            mean, "weighted", their mean by frequency.

    Raises ValueError for another average, and where labels differ in number or there are none.

    >>> f1_score([1, 0, 1, 1], [1, 1, 0, 1])
    0.6666666666666666
    >>> round(f1_score("NVND", "NNND", average="macro"), 3)
    0.6
    """
    pairs = _pairs("f1_score", y_true, y_pred)
    true, predicted = (Counter(side) for side in zip(*pairs, strict=True))
    right = Counter(a for a, b in pairs if a == b)

    def of(labels: Iterable[Any]) -> float:
        n = sum(true[label] + predicted[label] for label in labels)
        return 2 * sum(right[label] for label in labels) / n if n else 0.0

    labels = list(true | predicted)
    if average == "binary":
        return of([pos_label])
    if average == "micro":
        return of(labels)
    if average == "macro":
        return sum(of([label]) for label in labels) / len(labels)
    if average == "weighted":
        return sum(of([label]) * true[label] for label in labels) / len(pairs)
    expected = "'binary', 'micro', 'macro' or 'weighted'"
    raise ValueError(message("f1_score: unknown average", expected=expected, got=repr(average)))


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """What tags of named entities mark: (type, first, after the last), in the notation BIO, IOB1 or BIOES, as conlleval
    reads it (Tjong Kim Sang & Buchholz, "Introduction to the CoNLL-2000 shared task", 2000).

    >>> spans(["B-PER", "I-PER", "O", "B-LOC", "B-LOC"])
    [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 5)]
    """
    found: list[tuple[str, int, int]] = []
    kind, first, before = "", 0, "O"
    for k, tag in enumerate((*tags, "O")):
        prefix, _, type_ = tag.partition("-")
        goes_on = prefix in ("I", "E") and type_ == kind and before in ("B", "I")
        if kind and not goes_on:
            found.append((kind, first, k))
            kind = ""
        if prefix != "O" and not goes_on:
            kind, first = type_, k
        before = prefix
    return found


def span_f1_score(y_true: Iterable[Sequence[str]], y_pred: Iterable[Sequence[str]]) -> float:
    """F1 of whole named entities, all sentences counted together: one is right if type and both ends are (conlleval).

    Arguments:
        y_true, y_pred: for each sentence its tags; see `spans`.

    Raises ValueError where sentences, or their tags, differ in number.

    >>> span_f1_score([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "O", "O", "B-LOC"]])
    0.5
    """
    n = n_right = 0
    for true, predicted in _pairs("span_f1_score", y_true, y_pred):
        if len(true) != len(predicted):
            what, expected = "span_f1_score: a sentence has other lengths", f"{len(true)} tags"
            raise ValueError(message(what, expected=expected, got=f"{len(predicted)}"))
        marked, given = set(spans(true)), set(spans(predicted))
        n += len(marked) + len(given)
        n_right += len(marked & given)
    return 2 * n_right / n if n else 0.0


def perplexity(losses: Iterable[float], n_words: int | None = None) -> float:
    """e to the mean loss of a word; infinity where that overflows.

    Arguments:
        losses: negative log-likelihoods, in nats: of each word, or of sentences with `n_words` words altogether.

    Raises ValueError where there are no words.

    >>> round(perplexity([math.log(4), math.log(16)]), 6)
    8.0
    """
    listed = [float(loss) for loss in losses]
    n = len(listed) if n_words is None else n_words
    if n < 1:
        raise ValueError(message("perplexity: there are no words", expected="one or more", got=f"{n}"))
    mean = math.fsum(listed) / n
    return math.exp(mean) if mean < 709 else math.inf if mean == mean else mean


class AttachmentScores(NamedTuple):
    """Shares of words with the right head: `uas`; with the right head and relation: `las`.

    >>> attachment_scores([2, 0], ["nsubj", "root"], [2, 0], ["obj", "root"]).las
    0.5
    """

    uas: float
    las: float


def attachment_scores(
    heads_true: Iterable[int], relations_true: Iterable[Any], heads_pred: Iterable[int], relations_pred: Iterable[Any]
) -> AttachmentScores:
    """Unlabelled and labelled attachment score of dependency trees (Buchholz & Marsi, "CoNLL-X shared task", 2006).

    Arguments:
        heads_true, relations_true, heads_pred, relations_pred: of each word of all sentences; leave out words that are
            not to count, such as punctuation.

    Raises ValueError where they differ in number, or there are none.

    >>> attachment_scores([2, 0, 2], ["nsubj", "root", "obj"], [2, 0, 1], ["obj", "root", "obj"])
    AttachmentScores(uas=0.6666666666666666, las=0.3333333333333333)
    """
    heads = _pairs("attachment_scores", heads_true, heads_pred)
    relations = _pairs("attachment_scores", relations_true, relations_pred)
    if len(heads) != len(relations):
        what = "attachment_scores: heads and relations differ in number"
        raise ValueError(message(what, expected=f"{len(heads)} relations", got=f"{len(relations)}"))
    right = [bool(true == predicted) for true, predicted in heads]
    labelled = [is_right and bool(a == b) for is_right, (a, b) in zip(right, relations, strict=True)]
    return AttachmentScores(sum(right) / len(heads), sum(labelled) / len(heads))


def root_mean_squared_error(y_true: Any, y_pred: Any) -> float:
    """√ of the mean squared difference of `y_true` and `y_pred`, arrays of the same shape, in float64.

    Raises ValueError for shapes that differ, and empty ones.

    >>> root_mean_squared_error([1.0, 2.0], [1.0, 4.0])
    1.4142135623730951
    """
    true, predicted = np.asarray(y_true, np.float64), np.asarray(y_pred, np.float64)
    if true.shape != predicted.shape or not true.size:
        what = "root_mean_squared_error: shapes differ, or are empty"
        raise ValueError(message(what, expected=f"shape {true.shape}", got=f"{predicted.shape}"))
    return float(np.sqrt(np.mean((true - predicted) ** 2)))


def _pairs(name: str, y_true: Iterable[Any], y_pred: Iterable[Any]) -> list[tuple[Any, Any]]:
    true, predicted = list(y_true), list(y_pred)
    if len(true) != len(predicted) or not true:
        what = f"{name}: truth and predictions differ in number, or there are none"
        raise ValueError(message(what, expected=f"{len(true)} predictions", got=f"{len(predicted)}"))
    return list(zip(true, predicted, strict=True))
