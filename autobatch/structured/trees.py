"""Parses: by a grammar, and of dependencies."""

from __future__ import annotations

import numpy as np

import autobatch as ab

from ..base.errors import op_error
from .semirings import FORBIDDEN, LOG, Semiring, join


def inside(lexical: ab.Tensor, rules: ab.TensorLike, roots: ab.TensorLike, semiring: Semiring = LOG) -> ab.Tensor:
    """The sum over all parses of a sentence by a grammar whose rules have two symbols or a word on the right (Baker,
    "Trainable grammars for speech recognition", 1979).

    Arguments:
        lexical: f[n, k], scores of a symbol for each word; n > 0. `FORBIDDEN` where it cannot be.
        rules: f[k, k, k]; [a, b, c] is the score of a → b c.
        roots: f[k], scores of the symbol of the whole sentence.
        semiring: see `semirings`.

    Returns a scalar. Raises OpTypeError for shapes that do not fit. Cost: n³ k² / 6 + n² k³ / 2; spans that do not
    contain one another share a launch, in all sentences.

    >>> from autobatch.structured import COUNT, inside
    >>> float(inside(ab.zeros((4, 1)), ab.zeros((1, 1, 1)), ab.zeros(1), semiring=COUNT))  # binary trees, 4 leaves
    5.0
    """
    rules, roots = semiring.lift(ab.tensor(rules)), semiring.lift(ab.tensor(roots))
    k = roots.shape[0] if roots.ndim else 0
    if lexical.ndim != 2 or not lexical.shape[0] or lexical.shape[1] != k or rules.shape != (k, k, k):
        expected = "lexical: f[n, k] with n > 0, rules: f[k, k, k], roots: f[k]"
        got = f"{lexical.shape}, {rules.shape}, {roots.shape}"
        raise op_error("inside", "shapes do not fit", expected=expected, got=got)
    n = lexical.shape[0]
    words = semiring.lift(lexical)
    # Of each span its sums by symbol, as f[k, 1] and f[1, k].
    columns: dict[tuple[int, int], ab.Tensor] = {}
    lines: dict[tuple[int, int], ab.Tensor] = {}
    sums = words[0]
    for width in range(1, n + 1):
        for i in range(n - width + 1):
            j = i + width
            if width == 1:
                sums = words[i]
            else:
                pairs = join([(columns[i, m], lines[m, j]) for m in range(i + 1, j)], semiring)
                sums = semiring.total(semiring.total(semiring.multiply(rules, pairs), -1), -1)
            columns[i, j], lines[i, j] = ab.expand_dims(sums, 1), ab.expand_dims(sums, 0)
    return semiring.total(semiring.multiply(sums, roots), 0)


def _n_words(name: str, arcs: ab.Tensor) -> int:
    """n of arcs f[n + 1, n + 1]."""
    if arcs.ndim != 2 or arcs.shape[0] != arcs.shape[1] or arcs.shape[0] < 2:
        raise op_error(name, "shapes do not fit", expected="f[n + 1, n + 1] with n > 0", got=str(arcs.shape))
    return arcs.shape[0] - 1


def eisner(arcs: ab.Tensor, semiring: Semiring = LOG, single_root: bool = False) -> ab.Tensor:
    """The sum over all projective dependency trees of a sentence (Eisner, "Three new probabilistic models for
    dependency parsing", 1996).

    Arguments:
        arcs: f[n + 1, n + 1]; [h, m] is the score of an arc from head h to word m, words being 1 … n and 0 the root.
            The first column and the diagonal are not read. n > 0.
        semiring: see `semirings`.
        single_root: whether the root has one dependent.

    Returns a scalar. Raises OpTypeError for shapes that do not fit. Cost: n³ / 3 products in 2 n² nodes; the launches
    grow with n.

    >>> from autobatch.structured import COUNT, eisner
    >>> float(eisner(ab.zeros((4, 4)), COUNT)), float(eisner(ab.zeros((4, 4)), COUNT, single_root=True))
    (12.0, 7.0)
    """
    n, scores = _n_words("eisner", arcs), semiring.lift(arcs)
    one = ab.tensor(semiring.one, arcs.dtype)
    first = 1 if single_root else 0
    # Sums of spans i … j whose head is i (right) or j (left): all dependents on that side, or an arc to the other end.
    right = {(i, i): one for i in range(first, n + 1)}
    left = dict(right)
    arc_right: dict[tuple[int, int], ab.Tensor] = {}
    arc_left: dict[tuple[int, int], ab.Tensor] = {}
    for width in range(1, n + 1 - first):
        for i in range(first, n + 1 - width):
            j = i + width
            between = join([(right[i, m], left[m + 1, j]) for m in range(i, j)], semiring)
            arc_right[i, j] = semiring.multiply(between, scores[i, j])
            right[i, j] = join([(arc_right[i, m], right[m, j]) for m in range(i + 1, j + 1)], semiring)
            if i:
                arc_left[i, j] = semiring.multiply(between, scores[j, i])
                left[i, j] = join([(left[i, m], arc_left[m, j]) for m in range(i, j)], semiring)
            else:
                left[i, j] = one  # never read: the root is no dependent
    if not single_root:
        return right[0, n]
    rooted = [semiring.multiply(left[1, m], scores[0, m]) for m in range(1, n + 1)]
    return join([(head, right[m, n]) for m, head in enumerate(rooted, 1)], semiring)


def matrix_tree(arcs: ab.Tensor, single_root: bool = False) -> ab.Tensor:
    """The logarithm of the sum over all dependency trees of a sentence, projective or not: a determinant (Koo et al.,
    "Structured prediction models via the matrix-tree theorem", 2007, section 3.2). There is no semiring for it.

    Words are eliminated one by one, and diagonals are sums of what is beside them (Grassmann, Taksar & Heyman,
    "Regenerative analysis and steady state distributions for Markov chains", 1985): nothing is subtracted, so that no
    digits are lost, whatever the scores.

    Arguments:
        arcs: f[n + 1, n + 1]; [h, m] is the score of an arc from head h to word m, words being 1 … n and 0 the root.
            The first column and the diagonal are not read. n > 0.
        single_root: whether the root has one dependent.

    Returns a scalar. Raises OpTypeError for shapes that do not fit. Cost: n³ / 3 in n steps; a step is shared by all
    sentences that have as many words left.

    >>> from autobatch.structured import matrix_tree
    >>> round(float(ab.exp(matrix_tree(ab.zeros((4, 4)))))), round(float(ab.exp(matrix_tree(ab.zeros((4, 4)), True))))
    (16, 9)
    """
    n = _n_words("matrix_tree", arcs)
    is_read = np.arange(n + 1) != np.arange(n + 1)[:, None]
    is_read[:, 0] = False
    inner = ab.maximum(ab.where(is_read, arcs, FORBIDDEN), FORBIDDEN)
    roots = inner[0]
    if single_root:
        inner = ab.concat([ab.full((1, n + 1), FORBIDDEN, dtype=arcs.dtype), inner[1:]])
    pivots = []
    for _ in range(n):
        inner, roots, pivot = _without_last(inner, roots, single_root)
        pivots.append(pivot)
    return ab.sum(pivots)


@ab.cell(static=("single_root",))
def _without_last(inner: ab.Tensor, roots: ab.Tensor, single_root: bool) -> tuple[ab.Tensor, ab.Tensor, ab.Tensor]:
    """Eliminate the last word k: its heads become the heads of its dependents. inner: f[k + 1, k + 1], roots: f[k + 1]
    → f[k, k], f[k], and the sum over the heads of the word.

    Without `single_root` the root is row 0 of `inner`. With it row 0 holds arcs from a root that has got its dependent,
    forbidden at first, and `roots` those from one that has not. An arc from that one is taken where a word has no other
    head: the last of all, if not one before.
    """
    k = inner.shape[0] - 1
    heads, dependents = inner[:k, k], inner[k, :k]
    pivot = ab.logsumexp(heads)
    inner = inner[:k, :k]
    if not single_root:
        return ab.logaddexp(inner, ab.expand_dims(heads - pivot, 1) + dependents), roots[:k], pivot
    is_root = pivot < FORBIDDEN / 2
    pivot = ab.where(is_root, roots[k], pivot)
    inner = ab.logaddexp(inner, ab.expand_dims(heads - pivot, 1) + dependents)
    inner = ab.concat([ab.expand_dims(ab.where(is_root, dependents, inner[0]), 0), inner[1:]])
    return inner, ab.where(is_root, FORBIDDEN, ab.logaddexp(roots[:k], roots[k] - pivot + dependents)), pivot
