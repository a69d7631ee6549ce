"""Examples cut into minibatches: lists of Python objects, whatever the examples are."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from ..base.errors import message

__all__ = ["Minibatches", "minibatches"]

Example = TypeVar("Example")


class Minibatches(Generic[Example]):
    """The minibatches of `minibatches`: iterate it once per epoch; `len` is the number of minibatches.

    `state_dict` says how far it is, also in the middle of an epoch, and `load_state_dict` goes on there.

    Attributes:
        epoch: number of the epoch that the next iteration starts, from 0; may be set.
    """

    def __init__(self, examples: Iterable[Example], batch_size: int, shuffle: bool, seed: int, drop_last: bool) -> None:
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
        self._first = 0  # of the minibatches that the next iteration gives
        self._under_way: tuple[int, int] | None = None  # epoch, and how many minibatches of it were given

    def __len__(self) -> int:
        full, rest = divmod(len(self._examples), self._batch_size)
        return full + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[list[Example]]:
        # Not itself a generator: the epoch is counted when the iteration begins, also if it is left half way.
        order = list(range(len(self._examples)))
        if self._shuffle:
            order = np.random.default_rng([self._seed, self.epoch]).permutation(len(order)).tolist()
        epoch, first = self.epoch, self._first
        self.epoch, self._first = epoch + 1, 0
        return self._cut(order, epoch, first)

    def _cut(self, order: list[int], epoch: int, first: int) -> Iterator[list[Example]]:
        size = self._batch_size
        try:
            for number in range(first, len(self)):
                self._under_way = epoch, number + 1
                yield [self._examples[index] for index in order[number * size : (number + 1) * size]]
        finally:
            if self._under_way is not None and self._under_way[0] == epoch:
                self._under_way = None

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """The epoch, and how many of its minibatches were given, in the flat form that `ab.save` takes.

        >>> batches = minibatches("abcde", batch_size=2)
        >>> for batch in batches:
        ...     state = batches.state_dict()
        ...     break
        >>> again = minibatches("abcde", batch_size=2)
        >>> again.load_state_dict(state)
        >>> list(again), list(again)
        ([['c', 'd'], ['e']], [['a', 'b'], ['c', 'd'], ['e']])
        """
        epoch, given = self._under_way or (self.epoch, self._first)
        return {"epoch": np.array(epoch), "given": np.array(given)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, with the next iteration, where `state_dict` was called; ValueError where that cannot be."""
        try:
            epoch, given = (operator.index(np.asarray(state[name]).item()) for name in ("epoch", "given"))
        except (KeyError, TypeError, ValueError) as fault:
            what = "Minibatches.load_state_dict: this is no state of minibatches"
            raise ValueError(message(what, got=f"{fault.__class__.__name__}: {fault}")) from None
        if epoch < 0 or not 0 <= given <= len(self):
            what = "Minibatches.load_state_dict: the state does not fit"
            raise ValueError(message(what, expected=f"at most {len(self)} minibatches", got=f"{epoch=}, {given=}"))
        self.epoch, self._first, self._under_way = epoch, given, None


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
