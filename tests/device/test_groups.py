"""Launches that run in step: which do, the same bits as of launches one by one, and how many calls there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.errors import NonFiniteError
from autobatch.run.device.groups import Accesses, leaders
from autobatch.run.device.together import in_step, joined
from tests.device.reader import SENTENCES, agree, gradients
from tests.stand_in.device import StandIn

FLOAT32 = np.dtype(np.float32)
DIM = 3


class TwoWays(nn.Module):
    """A sentence read from both sides, and a tag for every word."""

    def __init__(self) -> None:
        self.embed = nn.Embedding(7, DIM)
        self.forwards, self.backwards = nn.LSTMCell(DIM, DIM), nn.LSTMCell(DIM, DIM)
        self.out = nn.Linear(2 * DIM, 4)

    def read(self, cell: Any, words: list[int]) -> list[Any]:
        """The state after each word."""
        state, found = None, []
        for word in words:
            state = cell(self.embed[word], state)
            found.append(state[0])
        return found

    def loss(self, words: list[int]) -> Any:
        """Of one sentence."""
        left, right = self.read(self.forwards, words), self.read(self.backwards, words[::-1])[::-1]
        states = [ab.concat([a, b]) for a, b in zip(left, right, strict=True)]
        return ab.mean([ab.cross_entropy(self.out(h), k % 4) for k, h in enumerate(states)])


class Trees(nn.Module):
    """Trees whose nodes have any number of children."""

    def __init__(self) -> None:
        self.embed = nn.Embedding(7, DIM)
        self.cell = nn.ChildSumTreeLSTMCell(DIM, DIM)
        self.out = nn.Linear(DIM, 4)

    def state(self, tree: Any) -> Any:
        """Of the root."""
        return self.cell(self.embed[tree[0]], [self.state(child) for child in tree[1:]])

    def loss(self, tree: Any) -> Any:
        """Of one tree."""
        return ab.cross_entropy(self.out(self.state(tree)[0]), tree[0] % 4)


TREES = [(1, (2, (3,)), (4,)), (5,), (6, (0,), (1,), (2, (3, (4,))))]


def steps(make: Callable[[], Any], examples: Any, **options: bool) -> list[Any]:
    """Losses and gradients of three steps, and the parameters after them."""
    ab.set_backend("cupy", **options)
    ab.seed(5)
    model = make()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    found: list[Any] = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = ab.mean(ab.map(model.loss, examples))
        loss.backward()
        found += [float(loss), gradients(model)]
        optimizer.step()
    return [*found, model.state_dict()]


def same(a: list[Any], b: list[Any]) -> None:
    """Raise unless they have the same bits."""
    for one, other in zip(a, b, strict=True):
        if isinstance(one, float):
            assert one == other
        else:
            assert one.keys() == other.keys() and all(one[k].tobytes() == other[k].tobytes() for k in one)


def calls(device: StandIn) -> int:
    """Kernels and products that were started since the last time."""
    found = device.counts["launch"] + device.counts["product"]
    device.counts.clear()
    return found


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("make, examples", [(TwoWays, SENTENCES), (Trees, TREES)])
def test_training_has_the_same_bits(device: StandIn, make: Any, examples: Any, graphs: bool) -> None:
    one_by_one = steps(make, examples)
    calls(device)
    same(steps(make, examples, groups=True, graphs=graphs), one_by_one)


def test_two_directions_take_little_more_than_half_of_the_calls(device: StandIn) -> None:
    counted = []
    for groups in (False, True):
        ab.set_backend("cupy", groups=groups)
        model = TwoWays()
        ab.mean(ab.map(model.loss, [[1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5]])).backward()
        counted.append(calls(device))
    assert 0.5 * counted[0] < counted[1] < 0.7 * counted[0]


def test_beside_walks(device: StandIn) -> None:
    """Launches that one kernel does for their recurrence are in no group."""
    plain = steps(TwoWays, SENTENCES)
    device.counts.clear()
    found = steps(TwoWays, SENTENCES, groups=True, persistent=True)
    assert device.counts["launch_resident"]
    agree(found[-1], plain[-1])


def test_values_that_are_looked_at_come_one_by_one(device: StandIn) -> None:
    ab.set_backend("cupy", groups=True)
    with pytest.raises(NonFiniteError, match="first value that is not finite"), ab.check_finite():
        float(ab.log(ab.tensor(-1.0)) + ab.log(ab.tensor(0.5)))


def test_it_is_an_option_of_a_device(device: StandIn) -> None:
    ab.set_backend("cupy", groups=True)
    assert device.groups
    ab.set_backend("cupy")
    assert not device.groups
    with pytest.raises(ValueError, match="groups is an option of cupy"):
        ab.set_backend("numpy", groups=True)


# Which launches run in step.


def accesses(launches: list[tuple[int, list[int], range]], lists_are_written: bool) -> Accesses:
    """Of launches (program, rows in a list, rows in a block) in one pool."""
    rows = [row for _, own, _ in launches for row in own]
    ends = np.cumsum([0, *(len(own) for _, own, _ in launches)])
    count = np.arange(len(launches) + 1)
    return Accesses(
        np.array([program for program, _, _ in launches]), np.array(rows, np.int32), count,
        np.column_stack([ends[:-1], ends[1:]]), np.zeros(len(launches), np.int64), count,
        np.array([(block.start, block.stop) for _, _, block in launches]).reshape(-1, 2), lists_are_written, 20,
    )  # fmt: skip


def test_going_forward() -> None:
    def led(*launches: tuple[int, list[int], range]) -> list[int]:
        return leaders(accesses(list(launches), False), 2).tolist()

    assert led((0, [0], range(5, 6)), (0, [0, 1], range(6, 7))) == [0, 0], "both read a row"
    assert led((0, [0], range(5, 7)), (0, [6], range(7, 8))) == [0, 1], "what the one writes the other reads"
    assert led((0, [6], range(5, 6)), (0, [1], range(6, 7))) == [0, 1], "what the one reads the other writes"
    assert led((0, [0], range(5, 6)), (0, [1], range(5, 6))) == [0, 1], "both write"
    assert led((0, [0], range(5, 6)), (1, [1], range(6, 7))) == [0, 1], "other programs"
    assert led((-1, [0], range(5, 6)), (-1, [1], range(6, 7))) == [0, 1], "programs that run by themselves"
    assert led(*((0, [0], range(k, k + 1)) for k in range(5, 10))) == [0, 0, 2, 2, 4], "two at most"
    one, other = (0, [0], range(5, 6)), (0, [1], range(6, 7))
    assert led(one, (1, [5], range(7, 8)), other) == [0, 1, 0], "past one that does not matter"
    assert led(one, (1, [5], range(7, 8)), (0, [7], range(6, 7))) == [0, 1, 2], "not past one that it reads"
    assert led(one, (0, [5], range(6, 7)), (0, [0], range(7, 8))) == [0, 1, 1], "with the newest"


def test_in_reverse() -> None:
    def led(*launches: tuple[int, list[int], range]) -> list[int]:
        return leaders(accesses(list(launches), True)).tolist()

    assert led((0, [0, 1], range(5, 6)), (0, [2, 3], range(6, 7))) == [0, 0]
    assert led((0, [0, 1], range(5, 6)), (0, [1, 2], range(6, 7))) == [0, 1], "both add to a row"
    assert led((0, [0, 6], range(5, 6)), (0, [2], range(6, 7))) == [0, 1], "what the one adds to the other reads"
    assert led((0, [0], range(5, 6)), (0, [5], range(6, 7))) == [0, 1], "what the one reads the other adds to"
    assert led((0, [0], range(5, 6)), (0, [1], range(5, 6))) == [0, 0], "both read"


@pytest.mark.parametrize("lists_are_written", [False, True])
def test_what_meets_keeps_its_order(lists_are_written: bool) -> None:
    """Of random launches all pairs that have a row in common, which one of them writes, are in order."""
    rng = np.random.default_rng(0)
    in_step_at_all = 0
    for _ in range(200):
        launches: list[tuple[int, list[int], range]] = []
        for _ in range(int(rng.integers(2, 12))):
            start = int(rng.integers(0, 18))
            own = rng.integers(0, 20, rng.integers(0, 3)).tolist()
            launches.append((int(rng.integers(-1, 3)), own, range(start, start + int(rng.integers(0, 3)))))
        led = leaders(accesses(launches, lists_are_written), 3).tolist()
        in_step_at_all += sum(k != leader for k, leader in enumerate(led))
        for k, (program, listed, block) in enumerate(launches):
            assert launches[led[k]][0] == program and led.count(led[k]) <= (1 if program < 0 else 3)
            for before in range(k):
                _, other_listed, other_block = launches[before]
                written, other_written = (set(listed), set(other_listed)) if lists_are_written else (block, other_block)
                meet = set(written) & {*other_listed, *other_block} | set(other_written) & {*listed, *block}
                assert not meet or led[before] < led[k]
    assert in_step_at_all > 100


# Which calls are one.


def test_lists_that_differ() -> None:
    """Calls keep their order in each list, and as many as can are one."""
    one = [("gather", 0), ("product", 1), ("loop", 2)]
    other = [("product", 3), ("loop", 4), ("loop", 5)]
    assert in_step([one, other]) == [("gather", (0,)), ("product", (1, 3)), ("loop", (2, 4)), ("loop", (5,))]
    crossed = in_step([[("f", 0), ("g", 1)], [("g", 2), ("f", 3)]])
    assert sorted(x for _, parts in crossed for x in parts) == [0, 1, 2, 3] and len(crossed) == 3


def product(a: int, b: int, c: int, n: int = 4, lead_a: int = 4) -> Any:
    """A product of 4 × 4 matrices, as it is written down."""
    return (n, 4, 4, lead_a, False, 4, False, 4, FLOAT32, False), [(a, b, c)]


def test_products_that_follow_each_other() -> None:
    """Those of equal shape are one call unless one reads or writes what another writes."""

    def counts(*products: Any) -> list[int]:
        return [len(parts) for _, parts in joined(products)]

    assert counts(product(0, 64, 128), product(0, 192, 256), product(320, 64, 384)) == [3]
    assert counts(product(0, 64, 128), product(128, 192, 256)) == [1, 1], "it reads what the other writes"
    assert counts(product(0, 64, 128), product(256, 124, 320)) == [1, 1], "even a part of it"
    assert counts(product(0, 64, 128), product(256, 320, 0)) == [1, 1], "it writes what the other reads"
    assert counts(product(0, 64, 128), product(256, 320, 128)) == [1, 1], "both write"
    assert counts(product(0, 64, 128), product(0, 192, 256, n=3)) == [1, 1], "another shape"
    assert counts(product(0, 64, 128), product(0, 192, 256, n=3), product(0, 320, 384)) == [2, 1]
    assert counts(product(0, 64, 128), product(0, 192, 256, n=3), product(256, 320, 384)) == [1, 1, 1]
    assert counts(product(0, 64, 128), product(0, 192, 256, lead_a=8)) == [1, 1]
