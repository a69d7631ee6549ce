"""Models over rows of any number: batched, one by one and in PyTorch they have the same losses and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from benchmarks import lengths, twins
from benchmarks.autobatch_trainer import AutobatchTrainer
from benchmarks.lengths.bahdanau import Bahdanau
from benchmarks.lengths.luong import Luong
from benchmarks.lengths.luong_by_ops import LuongByOps
from benchmarks.lengths.pairs import pairs
from benchmarks.lengths.transformer import Transformer
from benchmarks.lengths.transformer_by_ops import transformer
from benchmarks.lengths.words import sentences

pytestmark = pytest.mark.usefixtures("numpy_in_float64")


@pytest.mark.parametrize("way", [twins.BATCHED, twins.TORCH_LOOP, twins.TORCH_PADDED])
@pytest.mark.parametrize("name", lengths.PROGRAMS)
def test_losses_and_gradients_are_those_of_the_loop(name: str, way: str) -> None:
    compared = twins.trainers("lengths", name, dim=8)
    if way not in compared:
        if way == twins.TORCH_LOOP or twins.TORCH_LOOP not in compared:
            pytest.importorskip("torch")
        pytest.skip("no padded twin")
    examples = twins.load("lengths", name).examples(6)
    loss, gradients = compared[twins.LOOP].loss_and_gradients(examples)
    other_loss, other_gradients = compared[way].loss_and_gradients(examples)
    assert abs(other_loss - loss) <= 1e-8 * (1 + abs(loss))
    assert other_gradients.keys() == gradients.keys()
    for key, expected in gradients.items():
        assert np.abs(expected).max() > 0, key
        assert np.abs(other_gradients[key] - expected).max() <= 1e-8 * (1 + np.abs(expected).max()), key


@pytest.mark.parametrize(
    ("model", "examples", "bar"),
    [
        (Luong, pairs, 60),
        (LuongByOps, pairs, 60),
        (Bahdanau, pairs, 70),
        (lambda dim: Transformer(dim, n_blocks=1), sentences, 40),
        (transformer, sentences, 60),
    ],
    ids=["luong", "luong by ops", "bahdanau", "a transformer block", "two blocks by ops"],
)
def test_launches_do_not_grow_with_the_number_of_lengths(model: Any, examples: Any, bar: int) -> None:
    trainer = AutobatchTrainer("batched", model(8))
    trainer.loss_and_gradients(examples(16))  # lengths are seen to vary
    assert twins.counts(trainer, examples(16))[0] <= bar


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    ab.set_default_dtype("float32")
    assert lengths.main(["sets", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "set pooling" in printed
    assert "VOID" not in printed
