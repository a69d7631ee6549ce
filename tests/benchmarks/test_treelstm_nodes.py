"""The programs of the Tree-LSTM with a loss on every node compute the same losses and gradients; those are right."""

from __future__ import annotations

import pytest

from benchmarks.treelstm_nodes import WORKLOAD
from benchmarks.treelstm_nodes.data import examples, parameters
from benchmarks.workload import minibatches
from tests.benchmarks.agreement import check_agreement, check_differences, check_variant, names

BATCHES = minibatches(examples()[:24], 8)


@pytest.mark.parametrize("name", names(WORKLOAD))
def test_programs_agree(name: str) -> None:
    check_agreement(WORKLOAD, name, parameters(16), 16, BATCHES)


def test_variant() -> None:
    check_variant(WORKLOAD, 3, parameters(8), 8, BATCHES[:2])


def test_gradients_against_differences() -> None:
    check_differences(WORKLOAD.trainers["numpy"], parameters(16), 16, examples()[:2])
