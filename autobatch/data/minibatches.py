"""Examples cut into minibatches: lists of Python objects, whatever the examples are."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from ..base.errors import message
from .trees import Tree

__all__ = ["Minibatches", "minibatches"]

Example = TypeVar("Example")


def n_nodes(example: Any) -> int:
    """Nodes of a tree, or the length of anything else."""
    return example.n_nodes if isinstance(example, Tree) else len(example)


class Minibatches(Generic[Example]):
    """The minibatches of `minibatches`: iterate it once per epoch; `len` is the number of minibatches of the epoch that
    the next iteration starts.

    `state_dict` says how far it is, also in the middle of an epoch, and `load_state_dict` goes on there.

    Attributes:
        epoch: number of the epoch that the next iteration starts, from 0; may be set.

    >>> batches = ab.data.minibatches([1, 2, 3, 4, 5], batch_size=2)
    >>> len(batches), list(batches)
    (3, [[1, 2], [3, 4], [5]])
    """

    def __init__(
        self,
        examples: Iterable[Example],
        batch_size: int | None,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        max_nodes: int | None = None,
        size: Callable[[Example], int] = n_nodes,
        pool: int | None = None,
    ) -> None:
        """As many arguments as `minibatches`."""
        self._examples = list(examples)
        if batch_size is None and max_nodes is None:
            what, repair = "minibatches: nothing says where a minibatch ends", "pass batch_size or max_nodes"
            raise ValueError(message(what, repair=repair))
        self._batch_size = len(self._examples) + 1 if batch_size is None else operator.index(batch_size)
        self._max_nodes = None if max_nodes is None else operator.index(max_nodes)
        self._pool = 0 if pool is None else operator.index(pool)
        for name, value in (("batch_size", self._batch_size), ("max_nodes", self._max_nodes), ("pool", pool)):
            if value is not None and value < 1:
                what = "minibatches: a minibatch holds at least one example"
                raise ValueError(message(what, expected=f"{name} >= 1", got=str(value)))
        self._shuffle = shuffle
        self._seed = operator.index(seed)
        if self._seed < 0:
            raise ValueError(message("minibatches: a seed is not negative", expected="seed >= 0", got=str(seed)))
        self._drop_last = drop_last
        needs_sizes = max_nodes is not None or pool is not None
        self._sizes = [size(example) for example in self._examples] if needs_sizes else []
        self.epoch = 0
        self._first = 0  # of the minibatches that the next iteration gives
        self._under_way: tuple[int, int] | None = None  # epoch, and how many minibatches of it were given
        self._planned: tuple[int, list[list[int]]] | None = None

    def __len__(self) -> int:
        return len(self._plan(self.epoch))

    @property
    def n_examples(self) -> int:
        """Number of the examples that are cut into minibatches."""
        return len(self._examples)

    def _plan(self, epoch: int) -> list[list[int]]:
        """Numbers of the examples of each minibatch of an epoch."""
        if self._planned is None or self._planned[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch])
            order = list(range(len(self._examples)))
            if self._shuffle:
                order = generator.permutation(len(order)).tolist()
            if self._pool:
                pools = [order[k : k + self._pool] for k in range(0, len(order), self._pool)]
                order = [index for part in pools for index in sorted(part, key=self._sizes.__getitem__)]
            batches = self._cut(order)
            if self._drop_last and batches and len(batches[-1]) < self._batch_size and self._max_nodes is None:
                batches.pop()
            if self._shuffle and self._pool:
                batches = [batches[k] for k in generator.permutation(len(batches)).tolist()]
            self._planned = epoch, batches
        return self._planned[1]

    def _cut(self, order: list[int]) -> list[list[int]]:
        size, most = self._batch_size, self._max_nodes
        if most is None:
            return [order[k : k + size] for k in range(0, len(order), size)]
        batches: list[list[int]] = []
        n_so_far = 0
        for index in order:
            n = self._sizes[index]
            if not batches or n_so_far + n > most or len(batches[-1]) == size:
                batches.append([])
                n_so_far = 0
            batches[-1].append(index)
            n_so_far += n
        return batches

    def __iter__(self) -> Iterator[list[Example]]:
        # Not itself a generator: the epoch is counted when the iteration begins, also if it is left half way.
        epoch, first = self.epoch, self._first
        plan = self._plan(epoch)
        self.epoch, self._first = epoch + 1, 0
        return self._given(plan, epoch, first)

    def _given(self, plan: list[list[int]], epoch: int, first: int) -> Iterator[list[Example]]:
        try:
            for number in range(first, len(plan)):
                self._under_way = epoch, number + 1
                yield [self._examples[index] for index in plan[number]]
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
        cut = np.array(list(self._cut_by().values()))
        return {"epoch": np.array(epoch), "given": np.array(given), "cut": cut}

    def _cut_by(self) -> dict[str, int]:
        """What says which examples a minibatch holds; 0 for what is not given. All of it fits into an int64."""
        cut = {
            "n_examples": len(self._examples),
            "batch_size": self._batch_size,
            "max_nodes": self._max_nodes or 0,
            "pool": self._pool,
            "seed": self._seed % 2**63,
            "shuffle": int(self._shuffle),
            "drop_last": int(self._drop_last),
        }
        return {name: min(value, 2**63 - 1) for name, value in cut.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, with the next iteration, where `state_dict` was called; ValueError where that cannot be, as with
        another number of examples or another `batch_size`."""
        try:
            epoch, given = (operator.index(np.asarray(state[name]).item()) for name in ("epoch", "given"))
            before = self._cut_by()
            if "cut" in state:  # not in those of version 0.1
                before = dict(zip(before, np.asarray(state["cut"]).tolist(), strict=True))
        except (KeyError, TypeError, ValueError) as fault:
            what = "Minibatches.load_state_dict: this is no state of minibatches"
            raise ValueError(message(what, got=f"{fault.__class__.__name__}: {fault}")) from None
        if changed := [name for name, value in self._cut_by().items() if value != before[name]]:
            what = "Minibatches.load_state_dict: the state is that of other minibatches"
            then, now = (", ".join(f"{name}={x[name]}" for name in changed) for x in (before, self._cut_by()))
            raise ValueError(message(what, expected=then, got=now, repair="make them with the same arguments"))
        most = len(self._plan(max(epoch, 0)))
        if epoch < 0 or not 0 <= given <= most:
            what = "Minibatches.load_state_dict: the state does not fit"
            raise ValueError(message(what, expected=f"at most {most} minibatches", got=f"{epoch=}, {given=}"))
        self.epoch, self._first, self._under_way = epoch, given, None


def minibatches(
    examples: Iterable[Example],
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    *,
    max_nodes: int | None = None,
    size: Callable[[Example], int] = n_nodes,
    pool: int | None = None,
) -> Minibatches[Example]:
    """Cut `examples` into lists of `batch_size`, or of up to `max_nodes` nodes, or of whichever is reached first.

    The result can be iterated again and again, once per epoch. With `shuffle` every epoch has an order of its own,
    which depends on `seed`, the number of the epoch and the examples alone: the same in every run.

    Arguments:
        batch_size: examples in a minibatch; the last one is shorter unless `drop_last`.
        max_nodes: nodes in a minibatch, by `size`; an example that has more is a minibatch by itself.
        size: number of nodes of an example: those of a `Tree`, the length of anything else.
        pool: bucketing: each so many examples are sorted by `size` before they are cut, so that those of a minibatch
            are about equally large; with `shuffle` the minibatches then come in any order.

    Raises:
        ValueError: `batch_size`, `max_nodes` or `pool` below 1, neither of the first two, or a negative seed.
        TypeError: one of them is no integer.

    >>> batches = minibatches("abcde", batch_size=2)
    >>> len(batches), list(batches)
    (3, [['a', 'b'], ['c', 'd'], ['e']])
    >>> shuffled = minibatches("abcde", batch_size=2, shuffle=True, drop_last=True)
    >>> first, second = list(shuffled), list(shuffled)
    >>> first != second, first == list(minibatches("abcde", 2, shuffle=True, drop_last=True))
    (True, True)
    >>> list(minibatches(["aaa", "b", "cc", "dd", "eeeee"], max_nodes=4, pool=5))
    [['b', 'cc'], ['dd'], ['aaa'], ['eeeee']]
    """
    return Minibatches(examples, batch_size, shuffle, seed, drop_last, max_nodes, size, pool)
