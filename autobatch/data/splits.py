"""Examples split into parts, the same in every run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..base.errors import message

__all__ = ["random_split", "train_test_split"]

Example = TypeVar("Example")


def random_split(examples: Iterable[Example], lengths: Sequence[int | float], seed: int = 0) -> list[list[Example]]:
    """Split examples at random into parts of these lengths, or these shares of all; as `torch.utils.data.random_split`.

    Arguments:
        lengths: numbers that add up to that of the examples; or shares that add up to 1, which are rounded down, the
            rest going to the first parts, one each.
        seed: another one gives other parts.

    Raises ValueError for lengths that do not add up.

    >>> random_split(range(5), [3, 2])
    [[2, 4, 3], [0, 1]]
    >>> [len(part) for part in random_split(range(11), [0.5, 0.25, 0.25])]
    [6, 3, 2]
    """
    listed = list(examples)
    counts = [int(length) for length in lengths]
    if any(isinstance(length, float) for length in lengths) and abs(sum(lengths) - 1) < 1e-9:
        counts = [int(len(listed) * share) for share in lengths]
        for k in range(len(listed) - sum(counts)):
            counts[k % len(counts)] += 1
    if sum(counts) != len(listed) or any(length < 0 for length in lengths):
        expected = f"lengths that add up to {len(listed)}, or shares that add up to 1"
        raise ValueError(message("random_split: lengths do not add up", expected=expected, got=f"{list(lengths)}"))
    order = np.random.default_rng(seed).permutation(len(listed)).tolist()
    ends = np.cumsum([0, *counts]).tolist()
    return [[listed[k] for k in order[first:last]] for first, last in itertools.pairwise(ends)]


def train_test_split(
    examples: Iterable[Example], test_size: int | float = 0.25, seed: int = 0, stratify: Iterable[Any] | None = None
) -> tuple[list[Example], list[Example]]:
    """Split examples at random into training and test examples; as `sklearn.model_selection.train_test_split`.

    Arguments:
        test_size: number of test examples, or their share, rounded up.
        seed: another one gives other parts.
        stratify: labels of the examples; each has about the same share of both parts.

    Raises ValueError where a part would be empty, or the labels are not as many as the examples.

    >>> train, test = train_test_split(range(8), test_size=0.25, stratify=[0, 1] * 4)
    >>> len(train), sorted(k % 2 for k in test)
    (6, [0, 1])
    """
    listed = list(examples)
    n = len(listed)
    n_test = test_size if isinstance(test_size, int) else int(np.ceil(test_size * n))
    if not 0 < n_test < n:
        what, expected = "train_test_split: a part would be empty", f"test_size from 1 to {n - 1}, or a share of {n}"
        raise ValueError(message(what, expected=expected, got=f"{test_size}"))
    order = np.random.default_rng(seed).permutation(n).tolist()
    if stratify is None:
        chosen = set(order[:n_test])
    else:
        labels = list(stratify)
        if len(labels) != n:
            what = "train_test_split: examples and labels differ in number"
            raise ValueError(message(what, expected=f"{n} labels", got=f"{len(labels)}"))
        groups: dict[Any, list[int]] = {}
        for k in order:
            groups.setdefault(labels[k], []).append(k)
        # The share of each label, rounded so that they add up: largest remainders first.
        shares = [len(group) * n_test / n for group in groups.values()]
        counts = [int(share) for share in shares]
        by_remainder = sorted(range(len(shares)), key=lambda k: counts[k] - shares[k])
        for k in by_remainder[: n_test - sum(counts)]:
            counts[k] += 1
        chosen = {k for group, count in zip(groups.values(), counts, strict=True) for k in group[:count]}
    return [listed[k] for k in order if k not in chosen], [listed[k] for k in order if k in chosen]
