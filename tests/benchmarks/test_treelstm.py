"""The programs of the Tree-LSTM compute the same losses and gradients, and those are right."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.treelstm import WORKLOAD
from benchmarks.treelstm.data import examples, parameters
from benchmarks.workload import minibatches
from tests.benchmarks.agreement import check_agreement, check_differences, check_variant, names

BATCHES = minibatches(examples()[:24], 8)


@pytest.mark.parametrize("name", names(WORKLOAD))
def test_programs_agree(name: str) -> None:
    check_agreement(WORKLOAD, name, parameters(16), 16, BATCHES)


def test_variant() -> None:
    check_variant(WORKLOAD, 3, parameters(8), 8, BATCHES[:2])


def test_gradients_against_differences() -> None:
    check_differences(WORKLOAD.trainers["numpy"], parameters(16), 16, examples()[:4])


def test_rational_tanh_is_accurate() -> None:
    rational_tanh = pytest.importorskip("benchmarks.treelstm.peer_numba").rational_tanh
    x = np.linspace(-12, 12, 10_001, dtype=np.float32)
    assert max(abs(rational_tanh(value) - np.tanh(float(value))) for value in x) < 5e-7
