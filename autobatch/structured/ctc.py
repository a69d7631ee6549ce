"""Alignments of a sequence with a shorter one: connectionist temporal classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import autobatch as ab

from ..base.errors import op_error
from ..nn.embedding import integers
from .semirings import LOG, Semiring


def ctc(log_probs: ab.Tensor, targets: Sequence[int], blank: int = 0, semiring: Semiring = LOG) -> ab.Tensor:
    """The sum over all alignments of a sequence with its labels (Graves et al., "Connectionist temporal
    classification", 2006, section 4.1).

    An alignment gives each place a label or a blank; without blanks, and equal neighbours taken as one, it is the
    labels.

    Arguments:
        log_probs: f[n, k], scores of each label at each place; n > 0.
        targets: labels, integers below k other than `blank`; there may be none.
        blank: which label is the blank.
        semiring: see `semirings`.

    Returns a scalar; `FORBIDDEN` or less where there are more labels than places can hold. Raises OpTypeError for
    shapes and labels that do not fit. A step is a few launches for sequences and labels of all lengths.

    >>> from autobatch.structured import COUNT, ctc
    >>> float(ctc(ab.zeros((3, 3)), [1, 2], semiring=COUNT))
    5.0
    """
    labels = integers("ctc", targets, "label").reshape(-1)
    if log_probs.ndim != 2 or not log_probs.shape[0]:
        raise op_error("ctc", "shapes do not fit", expected="log_probs: f[n, k] with n > 0", got=str(log_probs.shape))
    k = log_probs.shape[1]
    if not 0 <= blank < k or ((labels < 0) | (labels >= k) | (labels == blank)).any():
        what, expected = "there is no such label", f"labels from 0 to {k - 1}, other than the blank"
        raise op_error("ctc", what, expected=expected, got=f"{labels.tolist()}, blank {blank}")
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    may_skip = np.zeros(len(states), bool)
    may_skip[3::2] = labels[1:] != labels[:-1]  # from a label to the next one, unless they are equal
    dtype = log_probs.dtype

    def column(x: np.ndarray) -> ab.Tensor:
        """One number for each state, a row of its own: so that all lengths batch."""
        return ab.tensor(np.where(x, semiring.one, semiring.zero)[:, None], dtype)

    def emitted(t: int) -> ab.Tensor:
        return rows[t].reshape(k, 1)[states]

    rows = semiring.lift(log_probs)
    nothing = column(np.zeros(2, bool))
    skips = column(may_skip)
    sums = semiring.multiply(column(np.arange(len(states)) < 2), emitted(0))
    for t in range(1, log_probs.shape[0]):
        further = ab.concat([nothing[:1], sums[:-1]])
        skipped = ab.concat([nothing, sums[:-2]])[: len(states)]
        sums = _step(sums, further, skipped, skips, emitted(t), semiring)
    last = sums[-1, 0]
    return last if len(states) == 1 else semiring.add(sums[-2, 0], last)


@ab.cell(static=("semiring",))
def _step(
    sums: ab.Tensor, further: ab.Tensor, skipped: ab.Tensor, skips: ab.Tensor, emitted: ab.Tensor, semiring: Semiring
) -> ab.Tensor:
    kept = semiring.add(semiring.add(sums, further), semiring.multiply(skipped, skips))
    return semiring.multiply(kept, emitted)


def ctc_loss(log_probs: ab.Tensor, targets: Sequence[int], blank: int = 0) -> ab.Tensor:
    """−log of the probability of the labels: `ctc` in `LOG`, negated. As `torch.nn.functional.ctc_loss` with
    `reduction="sum"`, of one example; `log_probs` are logarithms of probabilities, from `ab.log_softmax`.

    >>> from autobatch.structured import ctc_loss
    >>> round(float(ctc_loss(ab.log_softmax(ab.zeros((3, 3))), [1, 2])), 4)  # 5 of 27 alignments
    1.6864
    """
    return -ctc(log_probs, targets, blank)
