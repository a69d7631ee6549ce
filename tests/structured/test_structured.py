"""Sums over structures against all of them, one after the other, in every semiring; batched against the loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.structured import (
    COUNT,
    CRF,
    FORBIDDEN,
    LOG,
    MAX,
    REAL,
    Semiring,
    ctc,
    eisner,
    inside,
    linear_chain,
    marginals,
    matrix_tree,
    semi_markov,
)
from tests.requested import host

Array = np.ndarray[Any, Any]
K = 3
RNG = np.random.default_rng(2)
MOVES, (BEGIN, END), RULES = RNG.normal(size=(K, K)), RNG.normal(size=(2, K)), RNG.normal(size=(K, K, K))
MOVES[0, 1] = RULES[0, 1, 2] = FORBIDDEN


@pytest.fixture(autouse=True)
def float64() -> None:
    ab.set_default_dtype("float64")


# All structures of an input: lists of the scores of their parts.


def taggings(x: Array) -> Iterator[list[float]]:
    for y in itertools.product(range(K), repeat=len(x)):
        moves = [MOVES[a, b] for a, b in itertools.pairwise(y)]
        yield [BEGIN[y[0]], END[y[-1]], *moves, *(x[t, tag] for t, tag in enumerate(y))]


def segmentations(x: Array) -> Iterator[list[float]]:
    n, m, _ = x.shape

    def after(t: int, tag: int | None) -> Iterator[list[float]]:
        if t == n:
            yield [END[tag]]
        for d, y in itertools.product(range(1, min(m, n - t) + 1), range(K)):
            here = [x[t, d - 1, y], BEGIN[y] if tag is None else MOVES[tag, y]]
            yield from (here + rest for rest in after(t + d, y))

    return after(0, None)


LABELS = {2: [1], 5: [1, 1, 2], 1: [], 4: [2, 1]}


def alignments(x: Array) -> Iterator[list[float]]:
    for y in itertools.product(range(K), repeat=len(x)):
        if [label for label, _ in itertools.groupby(y) if label] == LABELS[len(x)]:
            yield [x[t, label] for t, label in enumerate(y)]


def parses(x: Array) -> Iterator[list[float]]:
    @cache
    def below(a: int, i: int, j: int) -> list[list[float]]:
        if j == i + 1:
            return [[x[i, a]]]
        return [
            [RULES[a, b, c], *left, *right]
            for m in range(i + 1, j)
            for b, c in itertools.product(range(K), repeat=2)
            for left in below(b, i, m)
            for right in below(c, m, j)
        ]

    return ([BEGIN[a], *parse] for a in range(K) for parse in below(a, 0, len(x)))


def trees(n: int, single_root: bool = False) -> Iterator[tuple[int, ...]]:
    """The heads of words 1 … n in each tree, where every word leads to the root."""
    for heads in itertools.product(range(n + 1), repeat=n):
        reached = {0}
        for _ in heads:
            reached |= {m for m, head in enumerate(heads, 1) if head in reached}
        if len(reached) > n and (not single_root or heads.count(0) == 1):
            yield heads


def dependencies(x: Array, single_root: bool = False, may_cross: bool = False) -> Iterator[list[float]]:
    for heads in trees(len(x) - 1, single_root):
        arcs = [(h, m) for m, h in enumerate(heads, 1)]
        if may_cross or not any(min(a) < min(b) < max(a) < max(b) for a, b in itertools.permutations(arcs, 2)):
            yield [x[h, m] for h, m in arcs]


@dataclass(frozen=True)
class Total:
    """A sum, its structures, and inputs, of which the second is the longest. more: launches beyond the longest's"""

    of: Callable[[Any, Semiring], Any]
    structures: Callable[[Array], Iterator[list[float]]]
    inputs: list[Array]
    more: int = 2


def inputs(*shapes: tuple[int, ...]) -> list[Array]:
    return [RNG.normal(size=shape) for shape in shapes]


TOTALS = {
    "linear chain": Total(lambda x, s: linear_chain(x, MOVES, BEGIN, END, s), taggings, inputs((2, K), (5, K), (1, K))),
    "semi-Markov": Total(
        lambda x, s: semi_markov(x, MOVES, BEGIN, END, s),
        segmentations,
        inputs((2, 2, K), (4, 2, K), (1, 2, K), (3, 2, K)),
        more=3,
    ),
    "CTC": Total(lambda x, s: ctc(x, LABELS[x.shape[0]], 0, s), alignments, inputs(*((n, K) for n in LABELS))),
    "inside": Total(lambda x, s: inside(x, RULES, BEGIN, s), parses, inputs((2, K), (4, K), (1, K))),
    "Eisner": Total(eisner, dependencies, inputs((3, 3), (5, 5), (2, 2), (4, 4)), more=3),
    "Eisner, one root": Total(
        lambda x, s: eisner(x, s, single_root=True), lambda x: dependencies(x, True), inputs((3, 3), (5, 5), (2, 2))
    ),
}
totals = pytest.mark.parametrize("total", TOTALS.values(), ids=TOTALS.keys())


@totals
def test_is_the_sum_over_all_structures_in_every_semiring(total: Total) -> None:
    for x in total.inputs:
        scores = np.array([sum(parts) for parts in total.structures(x)])
        wanted = {
            LOG: np.logaddexp.reduce(scores), MAX: scores.max(), REAL: np.exp(scores).sum(),
            COUNT: (scores > FORBIDDEN / 2).sum(),
        }  # fmt: skip
        found = ab.evaluate([total.of(ab.tensor(x), semiring) for semiring in wanted])
        np.testing.assert_allclose(found, list(wanted.values()), rtol=1e-10)


@totals
def test_batched_equals_one_by_one_in_as_many_launches_as_the_longest(total: Total) -> None:
    """Values, and marginals, which are differentiated once more."""

    def run(examples: list[Array], batched: bool = True) -> tuple[list[Any], int]:
        x = [ab.Parameter(e) for e in examples]

        def loss(k: int) -> Any:
            shares = marginals(lambda e: total.of(e, LOG), x[k] * 1.0)
            return total.of(x[k] * 1.0, LOG) + (shares * ab.tensor(np.cos(examples[k]))).sum()

        with ab.profile() as profile:
            found = ab.map(loss, range(len(x)), batched=batched)
            ab.sum(found).backward()
        return [np.array(ab.evaluate(found)), *(host(p.grad) for p in x)], profile.launches

    together, _ = run(total.inputs)
    for ours, theirs in zip(together, run(total.inputs, batched=False)[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8 * (1 + np.abs(theirs).max()))

    def launches(examples: list[Any]) -> int:
        with ab.profile() as profile, ab.no_grad():
            ab.evaluate(ab.map(lambda x: total.of(ab.tensor(x), LOG), examples))
        return profile.launches

    assert launches(total.inputs) <= launches(total.inputs[1:2]) + total.more


def test_the_matrix_tree_theorem_sums_all_dependency_trees() -> None:
    for x, single_root in itertools.product(inputs((4, 4), (2, 2), (3, 3)), (False, True)):
        scores = np.array([sum(arcs) for arcs in dependencies(x, single_root, may_cross=True)])
        found = [matrix_tree(ab.tensor(x + shift), single_root) for shift in (0.0, 900.0)]
        wanted = np.logaddexp.reduce(scores)
        np.testing.assert_allclose(ab.evaluate(found), [wanted, wanted + 900.0 * (len(x) - 1)], rtol=1e-10)
        shares = marginals(lambda e, single=single_root: matrix_tree(e, single), ab.tensor(x)).numpy()
        np.testing.assert_allclose(shares[:, 1:].sum(axis=0), 1.0, rtol=1e-10)  # each word has one head
        assert abs(shares[0].sum() - 1) < 1e-10 or not single_root


@pytest.mark.parametrize("single_root", [False, True])
def test_no_digits_of_the_matrix_tree_theorem_are_lost(single_root: bool) -> None:
    """Scores of size 20 in float32, words that hold together far more than the root holds them, forbidden arcs."""
    pair, only = np.zeros((3, 3)), RNG.normal(size=(4, 4))
    pair[1:, 1:] = 20.0 * (1 - np.eye(2))
    only[1:, 3] = -np.inf  # the last word has no head but the root
    for x in (pair, only, *(RNG.normal(size=(n + 1, n + 1)) * 20 for n in (3, 4, 5))):
        n, x = len(x) - 1, x.astype(np.float32)
        scores = {heads: x[list(heads), range(1, n + 1)].sum(dtype=np.float64) for heads in trees(n, single_root)}
        wanted = np.logaddexp.reduce(list(scores.values()))
        shares = np.zeros_like(x)
        for heads, score in scores.items():
            shares[list(heads), range(1, n + 1)] += np.exp(score - wanted)
        value, found = ab.value_and_grad(lambda e: matrix_tree(e, single_root))(ab.tensor(x))
        np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(found.numpy(), shares, atol=3e-5)


def test_marginals_are_probabilities_and_show_the_best() -> None:
    x = RNG.normal(size=(4, K))
    weights = np.exp([sum(parts) for parts in taggings(x)])
    wanted = np.zeros((4, K))
    for y, weight in zip(itertools.product(range(K), repeat=4), weights / weights.sum(), strict=True):
        wanted[np.arange(4), list(y)] += weight
    crf = fitted()
    np.testing.assert_allclose(crf.marginals(ab.tensor(x)).numpy(), wanted, atol=1e-10)
    best = marginals(lambda e: crf.partition(e, MAX), ab.tensor(x)).numpy()
    tags = list(itertools.product(range(K), repeat=4))[int(np.argmax(weights))]
    assert best.tolist() == np.eye(K)[list(tags)].tolist()
    assert crf.decode(ab.tensor(x)) == list(tags)


def fitted() -> CRF:
    crf = CRF(K)
    crf.load_state_dict({"transitions": MOVES, "start_transitions": BEGIN, "end_transitions": END})
    return crf


def test_a_crf_learns_and_decodes_a_minibatch() -> None:
    crf, sentences = fitted(), inputs((3, K), (6, K), (1, K))
    tags = [RNG.integers(K, size=len(x)).tolist() for x in sentences]
    launches, found = [], []
    for chosen, batched in (([0, 1, 2], True), ([0, 1, 2], False), ([1], True)):
        crf.zero_grad()
        with ab.profile() as profile:
            losses = ab.map(lambda k: crf(ab.tensor(sentences[k]), tags[k]), chosen, batched=batched)
            ab.sum(losses).backward()
        launches.append(profile.launches)
        found.append([*ab.evaluate(losses), *(host(p.grad) for p in crf.parameters())])
    for ours, theirs in zip(found[0], found[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-9)
    assert launches[0] <= launches[2] + 1
    for k, x in enumerate(sentences):
        every = [sum(parts) for parts in taggings(x)]
        own = sum(list(taggings(x))[int(np.ravel_multi_index(tags[k], (K,) * len(x)))])
        assert abs(found[0][k] - (np.logaddexp.reduce(every) - own)) < 1e-8 * (1 + abs(own))
    with ab.profile() as profile:
        decoded = ab.map(lambda x: crf.decode(ab.tensor(x)), sentences)
    assert profile.launches < 12 and [len(y) for y in decoded] == [3, 6, 1]
    for x, y in zip(sentences, decoded, strict=True):
        assert np.argmax([sum(parts) for parts in taggings(x)]) == np.ravel_multi_index(y, (K,) * len(x))


def test_a_crf_takes_tags_that_are_forbidden_by_an_infinite_score() -> None:
    """As those of a number so low that it does not count."""
    crf, scores, found = fitted(), RNG.normal(size=(4, K)), []
    for forbidden in (-np.inf, -1e9):
        scores[1, 2] = scores[3, 0] = forbidden
        x = ab.Parameter(scores)
        crf.zero_grad()
        loss = crf(x * 1.0, [0, 1, 2, 1])
        loss.backward()
        found.append([loss.numpy(), *(host(p.grad) for p in (x, *crf.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_more_labels_than_places_can_hold_are_forbidden() -> None:
    assert float(ctc(ab.zeros((2, K)), [1, 1])) <= FORBIDDEN / 2  # a blank has to come between them


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused(label: int) -> None:
    with pytest.raises(ab.errors.OpIndexError, match=f"CRF: label {label} is out of range\n  expected from 0 to 2"):
        CRF(3)(ab.zeros((2, 3)), [0, label])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: linear_chain(ab.zeros((2, 3)), ab.zeros((2, 2))), "linear_chain: shapes do not fit"),
        (lambda: semi_markov(ab.zeros((2, 3)), ab.zeros((2, 2))), "semi_markov: shapes do not fit"),
        (lambda: inside(ab.zeros((2, 3)), ab.zeros((3, 3)), ab.zeros(3)), "inside: shapes do not fit"),
        (lambda: eisner(ab.zeros((2, 3))), "eisner: shapes do not fit"),
        (lambda: matrix_tree(ab.zeros((2, 3))), "matrix_tree: shapes do not fit"),
        (lambda: ctc(ab.zeros(3), [1]), "ctc: shapes do not fit"),
        (lambda: ctc(ab.zeros((2, 3)), [0]), "ctc: there is no such label\n  expected labels from 0 to 2"),
        (lambda: ctc(ab.zeros((2, 3)), [1.5]), "ctc: each label is an integer"),
        (lambda: CRF(3)(ab.zeros((2, 3)), [True, False]), "CRF: each label is an integer"),
        (lambda: CRF(3)(ab.zeros((2, 3)), [1]), "CRF: there is not one tag for each place"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(ab.errors.OpTypeError, match=text):
        call()
