"""The programs of the lattice LSTM compute the same losses and gradients, and those are right."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lattice import WORKLOAD
from benchmarks.lattice.data import CHANCES
from benchmarks.lattice.time_plan import plan_time
from benchmarks.workload import minibatches
from tests.benchmarks.agreement import check_agreement, check_differences, check_variant, names

DIM = 16
EXAMPLES = WORKLOAD.examples()
BATCHES = minibatches(EXAMPLES[:18], 6)


@pytest.mark.parametrize("name", names(WORKLOAD))
def test_programs_agree(name: str) -> None:
    check_agreement(WORKLOAD, name, WORKLOAD.parameters(DIM), DIM, BATCHES)


def test_variant_agrees_with_its_loop() -> None:
    check_variant(WORKLOAD, 1, WORKLOAD.parameters(DIM), DIM, BATCHES[:2])


def test_gradients_against_differences() -> None:
    check_differences(WORKLOAD.trainers["numpy"], WORKLOAD.parameters(DIM), DIM, BATCHES[0][:3])


def test_words_lie_in_their_sentence() -> None:
    several = 0
    for lattice in EXAMPLES:
        assert len(lattice.characters) == len(lattice.words) == len(lattice.tags)
        for end, words in enumerate(lattice.words):
            assert all(start >= 0 and end - start + 1 in CHANCES for _, start in words)
            several += len(words) > 1
    assert several > 1000


def test_time_plan_has_every_word_from_its_first_to_its_last_character() -> None:
    for batch in minibatches(EXAMPLES, 64)[:3]:
        plan = plan_time(batch)
        assert sorted(plan.words) == sorted(word for lattice in batch for words in lattice.words for word, _ in words)
        assert sorted(plan.characters) == sorted(character for lattice in batch for character in lattice.characters)
        first_of = np.array([step.first for step in plan.steps])
        step_of = np.searchsorted(first_of, np.arange(len(plan.characters)), side="right") - 1
        column = np.arange(len(plan.characters)) - first_of[step_of]
        assert (column[plan.begins] == column[plan.ends]).all()
        for t, step in enumerate(plan.steps):
            a, b = step.words
            assert (step_of[plan.begins[a:b]] == t).all()
            assert len(set(plan.ends[a:b])) == b - a
            for first, last in step.spans:
                assert len(set(plan.begins[first:last])) == last - first
                assert len(set(step_of[plan.ends[first:last]])) == 1
        assert set(plan.ends) == {step.first + row for step in plan.steps for row in step.merging}
