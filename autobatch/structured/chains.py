"""Taggings and segmentations of a sequence: linear-chain and semi-Markov CRFs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import autobatch as ab
from autobatch import nn

from ..base.errors import op_error
from ..nn.embedding import whole_numbers
from .semirings import LOG, Semiring, join

Step = Callable[[ab.Tensor, ab.Tensor], ab.Tensor]


def _moved(before: ab.Tensor, transitions: ab.Tensor, semiring: Semiring) -> ab.Tensor:
    """From the sums of all beginnings by their last tag, f[k], to those by the tag of what comes next."""
    return semiring.total(semiring.multiply(ab.expand_dims(before, 1), transitions), 0)


def _ended(sums: ab.Tensor, end: ab.TensorLike | None, semiring: Semiring) -> ab.Tensor:
    """The sum over the last tag."""
    return semiring.total(sums if end is None else semiring.multiply(sums, semiring.lift(ab.tensor(end))), 0)


def _check(
    name: str, scores: ab.Tensor, transitions: ab.Tensor, what: str = "emissions: f[n, k]", ndim: int = 2
) -> None:
    if scores.ndim != ndim or 0 in scores.shape or transitions.shape != scores.shape[-1:] * 2:
        expected, got = f"{what} with n > 0, transitions: f[k, k]", f"{scores.shape}, {transitions.shape}"
        raise op_error(name, "shapes do not fit", expected=expected, got=got)


def linear_chain(
    emissions: ab.Tensor,
    transitions: ab.TensorLike,
    start: ab.TensorLike | None = None,
    end: ab.TensorLike | None = None,
    semiring: Semiring = LOG,
) -> ab.Tensor:
    """The sum over all taggings y of a sequence of the products of their factors: in `LOG` the partition function
    log Σ_y exp(start[y₁] + Σ_t emissions[t, y_t] + Σ_t transitions[y_t, y_{t+1}] + end[y_n]) (Lafferty, McCallum &
    Pereira, "Conditional random fields", 2001).

    Arguments:
        emissions: f[n, k], scores of each tag at each place; n > 0.
        transitions: f[k, k], scores of pairs of neighbours: from row to column.
        start, end: f[k], scores of the first and last tag; zeros if None.
        semiring: see `semirings`.

    Returns a scalar. Raises OpTypeError for shapes that do not fit. A step is one launch for sequences of all lengths.

    >>> from autobatch.structured import COUNT, linear_chain
    >>> float(linear_chain(ab.zeros((3, 2)), ab.zeros((2, 2)), semiring=COUNT))
    8.0
    """
    moves = ab.tensor(transitions)
    _check("linear_chain", emissions, moves)
    moves = semiring.lift(moves)
    return _chain(
        emissions, start, end, semiring,
        lambda before, emission: semiring.multiply(_moved(before, moves, semiring), emission),
    )  # fmt: skip


def _chain(
    emissions: ab.Tensor, start: ab.TensorLike | None, end: ab.TensorLike | None, semiring: Semiring, step: Step
) -> ab.Tensor:
    rows = semiring.lift(emissions)
    sums = rows[0] if start is None else semiring.multiply(semiring.lift(ab.tensor(start)), rows[0])
    for t in range(1, rows.shape[0]):
        sums = step(sums, rows[t])
    return _ended(sums, end, semiring)


class CRF(nn.Module):
    """A linear-chain CRF: scores of tags from elsewhere, those of their neighbourhood its parameters.

    Arguments:
        n_tags: number k of tags.

    Parameters, with the names of the package `pytorch-crf`: `start_transitions: f[k]`, `end_transitions: f[k]`,
    `transitions: f[k, k]`, from row to column, drawn from U(−0.1, 0.1).

    >>> from autobatch.structured import CRF
    >>> crf = CRF(3)
    >>> emissions = ab.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    >>> crf.decode(emissions), bool(crf(emissions, [0, 2]) < 0.1), crf.marginals(emissions).shape
    ([0, 2], True, (2, 3))
    """

    def __init__(self, n_tags: int) -> None:
        self.n_tags = n_tags
        self.start_transitions = nn.init.uniform((n_tags,), 0.1)
        self.end_transitions = nn.init.uniform((n_tags,), 0.1)
        self.transitions = nn.init.uniform((n_tags, n_tags), 0.1)

    def forward(self, emissions: ab.Tensor, tags: Sequence[int]) -> ab.Tensor:
        """emissions: f[n, k], tags: n integers → −log p(tags), a scalar."""
        return self.partition(emissions) - self.score(emissions, tags)

    def score(self, emissions: ab.Tensor, tags: Sequence[int]) -> ab.Tensor:
        """emissions: f[n, k], tags: n integers → the score of this tagging, a scalar."""
        numbers = whole_numbers("CRF", tags, self.n_tags, "label")
        if numbers.shape != emissions.shape[:1] or not numbers.size:
            got = f"{emissions.shape[0]} places, tags of shape {numbers.shape}"
            raise op_error("CRF", "there is not one tag for each place", got=got)
        parts = [
            ab.where(np.eye(self.n_tags, dtype=bool)[numbers], emissions, 0.0).sum(axis=0).sum(),
            self.start_transitions[numbers[0]],
            self.end_transitions[numbers[-1]],
        ]
        if len(numbers) > 1:
            moves = numbers[:-1] * self.n_tags + numbers[1:]
            parts.append(self.transitions.reshape(self.n_tags**2, 1)[moves].sum(axis=0)[0])
        return ab.sum(parts)

    def partition(self, emissions: ab.Tensor, semiring: Semiring = LOG) -> ab.Tensor:
        """emissions: f[n, k] → the sum over all taggings, as of `linear_chain`."""
        _check("CRF", emissions, self.transitions)
        return _chain(
            emissions, self.start_transitions, self.end_transitions, semiring,
            lambda before, emission: self._step(before, emission, semiring),
        )  # fmt: skip

    def marginals(self, emissions: ab.Tensor) -> ab.Tensor:
        """emissions: f[n, k] → f[n, k], the probability of each tag at each place."""
        return ab.grad(self.partition)(emissions)

    def decode(self, emissions: ab.Tensor) -> list[int]:
        """emissions: f[n, k] → the best tagging, n integers (Viterbi 1967). Asks for values: inside of `ab.map` an
        example waits there until all have come as far."""
        _check("CRF", emissions, self.transitions)
        with ab.no_grad():
            sums = self.start_transitions + emissions[0]
            chosen = []
            for t in range(1, emissions.shape[0]):
                sums, before = self._best(sums, emissions[t])
                chosen.append(before)
            last, steps = ab.evaluate((ab.argmax(sums + self.end_transitions), chosen))
        tags = [int(last)]
        for before in reversed(steps):
            tags.append(int(before[tags[-1]]))
        return tags[::-1]

    @ab.cell(static=("semiring",))
    def _step(self, before: ab.Tensor, emission: ab.Tensor, semiring: Semiring) -> ab.Tensor:
        return semiring.multiply(_moved(before, semiring.lift(self.transitions * 1.0), semiring), emission)

    @ab.cell
    def _best(self, before: ab.Tensor, emission: ab.Tensor) -> tuple[ab.Tensor, ab.Tensor]:
        scores = ab.expand_dims(before, 1) + self.transitions
        return ab.max(scores, 0) + emission, ab.argmax(scores, 0)

    def extra_repr(self) -> str:
        return f"n_tags={self.n_tags}"


def semi_markov(
    segments: ab.Tensor,
    transitions: ab.TensorLike,
    start: ab.TensorLike | None = None,
    end: ab.TensorLike | None = None,
    semiring: Semiring = LOG,
) -> ab.Tensor:
    """The sum over all divisions of a sequence into tagged segments of at most m places (Sarawagi & Cohen,
    "Semi-Markov conditional random fields", 2004, section 2.2).

    Arguments:
        segments: f[n, m, k]; [t, d − 1, y] is the score of a segment with tag y and d places that begins at place t;
            those that would end behind the sequence are not read.
        transitions: f[k, k], scores of the tags of neighbouring segments: from row to column.
        start, end: f[k], scores of the tag of the first and last segment; zeros if None.
        semiring: see `semirings`.

    Returns a scalar. Raises OpTypeError for shapes that do not fit.

    >>> from autobatch.structured import COUNT, semi_markov
    >>> float(semi_markov(ab.zeros((3, 2, 1)), ab.zeros((1, 1)), semiring=COUNT))
    3.0
    """
    moves = ab.tensor(transitions)
    _check("semi_markov", segments, moves, "segments: f[n, m, k]", 3)
    n, m, k = segments.shape
    rows, moves = semiring.lift(segments.reshape(n * m, k)), semiring.lift(moves)
    first = ab.full(k, semiring.one, dtype=segments.dtype) if start is None else semiring.lift(ab.tensor(start))
    reached = [first]  # sums of all beginnings of t places, by the tag of what comes next
    sums = first
    for t in range(1, n + 1):
        sums = join([(reached[t - d], rows[(t - d) * m + d - 1]) for d in range(1, min(m, t) + 1)], semiring)
        if t < n:
            reached.append(_moved(sums, moves, semiring))
    return _ended(sums, end, semiring)
