"""Examples cut into minibatches: lists of Python objects, whatever the examples are."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np

from ..errors import message

__all__ = ["Minibatches", "minibatches"]

Example = TypeVar("Example")


class Minibatches(Generic[Example]):
    """The minibatches of `minibatches`: iterate it once per epoch; `len` is the number of minibatches.

    Attributes:
        epoch: number of the epoch that the next iteration starts, from 0. Set it to go on where an earlier run stopped.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self._examples = list(examples)
        self._batch_size = operator.index(batch_size)
        if self._batch_size < 1:
            what = "minibatches: a minibatch holds at least one example"
            raise ValueError(message(what, expected="batch_size >= 1", got=str(batch_size)))
        self._shuffle = shuffle
        self._seed = operator.index(seed)
        if self._seed < 0:
            raise ValueError(message("minibatches: a seed is not negative", expected="seed >= 0", got=str(seed)))
        self._drop_last = drop_last
        self.epoch = 0

    def __len__(self) -> int:
        full, rest = divmod(len(self._examples), self._batch_size)
        return full + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[list[Example]]:
        # Not itself a generator: the epoch is counted when the iteration begins, also if it is left half way.
        order = list(range(len(self._examples)))
        if self._shuffle:
            order = np.random.default_rng([self._seed, self.epoch]).permutation(len(order)).tolist()
        self.epoch += 1
        return self._cut(order)

    def _cut(self, order: list[int]) -> Iterator[list[Example]]:
        size = self._batch_size
        for number in range(len(self)):
            yield [self._examples[index] for index in order[number * size : (number + 1) * size]]


def minibatches(
    examples: Iterable[Example], batch_size: int, shuffle: bool = False, seed: int = 0, drop_last: bool = False
) -> Minibatches[Example]:
    """Cut `examples` into lists of `batch_size`; the last one is shorter unless `drop_last`.

    The result can be iterated again and again, once per epoch. With `shuffle` every epoch has an order of its own,
    which depends on `seed`, the number of the epoch and the number of examples alone: the same in every run.

    Raises:
        ValueError: `batch_size` below 1, or a negative seed.
        TypeError: one of them is no integer.

    >>> batches = minibatches("abcde", batch_size=2)
    >>> len(batches), list(batches)
    (3, [['a', 'b'], ['c', 'd'], ['e']])
    >>> shuffled = minibatches("abcde", batch_size=2, shuffle=True, drop_last=True)
    >>> first, second = list(shuffled), list(shuffled)
    >>> first != second, first == list(minibatches("abcde", 2, shuffle=True, drop_last=True))
    (True, True)
    """
    return Minibatches(examples, batch_size, shuffle, seed, drop_last)
