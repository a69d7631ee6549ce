"""Where values lie: the node of a value."""

from __future__ import annotations

import numpy as np

from autobatch.run.earlier import node_of


def test_the_node_of_a_value_is_the_one_whose_values_begin_before_it() -> None:
    value_of = np.array([0, 2, 2, 3, 6, 6], np.int32)
    for v in range(6):
        assert node_of(value_of, v) == np.searchsorted(value_of, v, side="right") - 1
