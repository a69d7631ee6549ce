"""Scalar functions of the device in float32 over all exponents, as `tests/ops/test_accuracy.py` has it for the host."""

from __future__ import annotations

from typing import Any

import pytest

from autobatch.compile.host.passes import CALL
from autobatch.ops import Op
from tests.ops.test_accuracy import SWEPT, check_accuracy
from tests.stand_in.device import StandIn


@pytest.mark.parametrize(("op", "attrs"), [case for case in SWEPT if CALL.search(case[0].scalar)], ids=str)
def test_accuracy_over_all_exponents(device: StandIn, op: Op, attrs: Any) -> None:
    check_accuracy(op, attrs, "cupy")
