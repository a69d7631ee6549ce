"""Which rows meet: within an access, and among those of a launch."""

from __future__ import annotations

import numpy as np

from autobatch.run.device.segments import apart, segments_of

ROWS = np.array([3, 1, 3, 0, 2, 1, 5, 4], np.int32)
ROWS_OF = np.array([0, 3, 5, 6, 8])


def test_rows_that_are_there_twice_are_sorted() -> None:
    found = segments_of(ROWS, ROWS_OF[:-1], ROWS_OF[1:], 6)
    assert found.count.tolist() == [2, 0, 0, 0]
    assert found.order.tolist() == [1, 0, 2]
    assert found.starts[:3].tolist() == [0, 1, 3]


def test_launches_whose_rows_meet_are_not_apart() -> None:
    def flags(accesses: list[int], first_row: list[int], owner: list[int]) -> list[int]:
        first, second, third = (np.array(column, np.int64) for column in (accesses, first_row, owner))
        return apart(ROWS, ROWS_OF[first], ROWS_OF[first + 1], second, third, 12).tolist()

    assert flags([0], [0], [0]) == [0], "one access has a row twice"
    assert flags([1, 2], [0, 0], [0, 1]) == [1, 1]
    assert flags([0, 2], [0, 0], [0, 0]) == [0]
    assert flags([1, 2, 3], [0, 0, 0], [4, 4, 4]) == [1, 1, 1, 1, 1]
    assert flags([2, 2], [0, 0], [0, 0]) == [0], "two accesses have a row in common"
    assert flags([2, 2], [0, 6], [0, 0]) == [1], "rows of two pools never meet"
