"""The programs of the sequence workloads compute the same losses and gradients, from the data that is specified."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from benchmarks.sentences import joined, pack, sentences
from benchmarks.tagger_chars.data import N_KNOWN, spelling
from benchmarks.workload import CELLS, LOOP, Trainer, load

NAMES = ("bilstm", "tagger_chars", "lm")
DIM = 6


def few_sentences(name: str, program: str = "") -> list[Any]:
    """Short ones of unlike lengths, one of a single word; words with and without a row of their own. For JAX, whose
    programs have a part for each step, the shortest."""
    ascending = sorted(load(name).examples(), key=lambda sentence: len(sentence.words))
    return [ascending[k] for k in ((30, 0, 20, 10) if program.startswith("jax") else (300, 0, 150, 40))]


def trainer(workload: str, program: str) -> Trainer:
    if program.startswith("pytorch"):
        pytest.importorskip("torch")
    if program.startswith("jax"):
        pytest.importorskip("jax")
    chosen = load(workload)
    return chosen.trainers[program](chosen.parameters(DIM), DIM)


def others(workload: str) -> list[str]:
    return [name for name in load(workload).trainers if name != "numpy"]


@pytest.mark.parametrize("workload, program", [(name, program) for name in NAMES for program in others(name)])
def test_programs_agree(workload: str, program: str) -> None:
    examples = few_sentences(workload, program)
    reference, other = trainer(workload, "numpy"), trainer(workload, program)
    assert other.name == program
    loss, gradients = reference.loss_and_gradients(examples)
    other_loss, other_gradients = other.loss_and_gradients(examples)
    assert abs(other_loss - loss) <= 1e-5 * (1 + abs(loss))
    assert other_gradients.keys() == gradients.keys() == load(workload).parameters(DIM).keys()
    for key, expected in gradients.items():
        assert np.abs(expected).max() > 0, key
        assert np.abs(other_gradients[key] - expected).max() <= 1e-4 * (1 + np.abs(expected).max()), key
    steps = examples, examples[1:], examples[:2], examples
    expected_losses = [reference.step(batch) for batch in steps]
    np.testing.assert_allclose([other.step(batch) for batch in steps], expected_losses, rtol=1e-5)
    assert expected_losses[3] < expected_losses[0]


def test_without_jax_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("benchmarks.bilstm.peer_jax", "benchmarks.jax_trainer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "jax", None)
    chosen = load("bilstm")
    for program in ("jax, vmap", "jax, packed"):
        with pytest.raises(ImportError, match=r"autobatch-compiler\[bench-jax\]"):
            chosen.trainers[program](chosen.parameters(DIM), DIM)


@pytest.mark.parametrize("workload", NAMES)
def test_variants_agree_and_differ(workload: str) -> None:
    chosen, examples = load(workload), few_sentences(workload)
    assert chosen.variant is not None
    losses = [trainer(workload, CELLS).loss_and_gradients(examples)[0]]
    for seed in (0, 1) if workload == "lm" else (0,):
        makers = chosen.variant(seed)
        cells, loop = (makers[name](chosen.parameters(DIM), DIM) for name in (CELLS, LOOP))
        loss, gradients = cells.loss_and_gradients(examples)
        loop_loss, loop_gradients = loop.loss_and_gradients(examples)
        assert abs(loop_loss - loss) <= 1e-5 * (1 + abs(loss))
        for key, expected in loop_gradients.items():
            assert np.abs(gradients[key] - expected).max() <= 1e-4 * (1 + np.abs(expected).max()), key
        losses.append(loss)
    assert len({round(loss, 3) for loss in losses}) == len(losses)


@pytest.mark.parametrize("program", ["numpy", "pytorch, packed", "pytorch, padded", CELLS])
def test_a_minibatch_without_rare_words(program: str) -> None:
    common = [s for s in sentences() if max(s.words) < N_KNOWN][:3]
    plain, spelled = trainer("bilstm", program), trainer("tagger_chars", program)
    (loss, gradients), (same_loss, same) = plain.loss_and_gradients(common), spelled.loss_and_gradients(common)
    assert same_loss == pytest.approx(loss, rel=1e-5)
    assert not same["letters_forward_ih"].any() and not same["letter_table"].any()
    np.testing.assert_allclose(same["table"], gradients["table"], rtol=1e-4, atol=1e-5)


def test_sentences_are_the_specified_ones() -> None:
    rng = np.random.default_rng(4321)
    lengths = np.clip(np.rint(np.exp(rng.normal(2.87, 0.5, size=25 * 64))), 1, 60)
    drawn = sentences()
    assert [len(s.words) for s in drawn] == [len(s.tags) for s in drawn] == lengths.tolist()
    n = len(drawn[0].words)
    assert drawn[0].words == ((10_000 ** rng.random(n)).astype(np.int64) - 1).tolist()
    assert drawn[0].tags == rng.integers(0, 17, size=n).tolist()
    assert max(word for s in drawn for word in s.words) == 9_998  # the last word is free to mean the beginning
    assert all(2 <= len(spelling(word)) <= 12 for word in range(N_KNOWN, N_KNOWN + 200))


@pytest.mark.parametrize("lengths", [[3, 1, 4, 4, 2], [1], [2, 2]])
def test_packing(lengths: list[int]) -> None:
    items = [[10 * k + step for step in range(length)] for k, length in enumerate(lengths)]
    packing = pack(lengths)
    rows = joined(items)[packing.flat]
    order = sorted(range(len(lengths)), key=lambda k: -lengths[k])
    by_step = [[items[k][t] for k in order if lengths[k] > t] for t in range(max(lengths))]
    assert rows.tolist() == [item for step in by_step for item in step]
    assert np.diff(packing.bounds).tolist() == [len(step) for step in by_step] and packing.n_rows == sum(lengths)
    reversed_rows = joined([each[::-1] for each in items])[packing.flat]
    assert rows[packing.mirror].tolist() == reversed_rows.tolist()
    assert packing.order.tolist() == order
    assert rows[packing.last].tolist() == [items[k][-1] for k in order]


def test_products_of_a_step() -> None:
    """Multiplications and additions of forward, gradients of inputs and of weights, counted by hand."""
    examples = few_sentences("bilstm")
    n, s, dim = sum(len(e.words) for e in examples), len(examples), 50

    def volume(name: str, dim: int) -> int:
        return sum(m * k * n for m, k, n in load(name).products(examples, dim))

    tagger = 3 * (2 * (n * 128 * 200 + (n - s) * 50 * 200) + n * 100 * 32 + n * 32 * 17)
    rare = [word for e in examples for word in e.words if word >= N_KNOWN]
    letters = sum(len(spelling(word)) for word in rare)
    assert rare
    assert volume("bilstm", dim) == tagger
    assert volume("tagger_chars", dim) == tagger + 6 * (letters * 20 * 256 + (letters - len(rare)) * 64 * 256)
    assert volume("lm", dim) == 3 * (n * 128 * 200 + (n - s) * 50 * 200 + n * 50 * 10_000)


def test_padding_in_blocks_changes_nothing() -> None:
    torch = pytest.importorskip("torch")
    from benchmarks.torch_lstm import in_padding, lstm, pad

    weights = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in load("lm").parameters(DIM).items()}
    packing = pack([3, 1, 4, 4, 2])
    x = torch.tensor(np.random.default_rng(0).normal(size=(packing.n_rows, 128)).astype(np.float32))
    blocks = [pad(packing, size) for size in (None, 2, 1)]
    assert [block.blocks for block in blocks] == [[(4, 5)], [(4, 2), (3, 3)], [(4, 1), (4, 1), (3, 1), (2, 1), (1, 1)]]
    whole, halves, each = (in_padding(lstm(weights, "lstm"), x, block) for block in blocks)
    assert whole.shape == (packing.n_rows, DIM)
    torch.testing.assert_close(halves, whole)
    torch.testing.assert_close(each, whole)
