"""The programs of the MLP workload compute the same losses and gradients, and those are right."""

from __future__ import annotations

import pytest

from benchmarks.mlp import WORKLOAD
from benchmarks.workload import minibatches
from tests.benchmarks.agreement import check_agreement, check_differences, check_variant, names

DIM = 24
BATCHES = minibatches(WORKLOAD.examples()[:24], 8)


@pytest.mark.parametrize("name", names(WORKLOAD))
def test_programs_agree(name: str) -> None:
    check_agreement(WORKLOAD, name, WORKLOAD.parameters(DIM), DIM, BATCHES)


def test_variant_agrees_with_its_loop() -> None:
    check_variant(WORKLOAD, 1, WORKLOAD.parameters(DIM), DIM, BATCHES[:2])


def test_gradients_against_differences() -> None:
    check_differences(WORKLOAD.trainers["numpy"], WORKLOAD.parameters(DIM), DIM, BATCHES[0])


def test_products_are_those_of_the_layers() -> None:
    products = WORKLOAD.products(BATCHES[0], 512)
    assert sum(m * k * n for m, k, n in products) == 8 * (2 * 256 * 512 + 3 * 512 * 512 + 3 * 512 * 10)
