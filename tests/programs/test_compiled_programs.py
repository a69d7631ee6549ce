"""Random programs on Numba: batched equals one by one, values and gradients."""

from __future__ import annotations

from hypothesis import given, settings

import autobatch as ab
from tests import requested
from tests.programs.drawing import CELLS, Model, Program, programs
from tests.programs.test_random_programs import check_against_loop

OPS = frozenset(
    ["tanh", "sigmoid", "where", "add", "mul", "factor", "matmul", "sum", "softmax", "cross_entropy", "dropout"]
)
COMPILED = OPS | {"lookup", "words", "list", "stack", "concat", "pick"}
"""Steps whose loops are compiled on Numba: few ops on few shapes, so that after some programs all loops are there."""


@settings(max_examples=requested.fewer(25))
@given(programs(COMPILED | CELLS | {"inner grad", "inner grad of cell"}))
def test_batched_equals_loop_without_cells(program: Program) -> None:
    ab.set_default_dtype("float64")
    ab.set_backend(requested.backend("numba"))
    check_against_loop(program, Model(), cells_in_loop=False)
