"""The examples run on small data and say what they are meant to; their models batch as the loop over examples does."""

from __future__ import annotations

import functools
import importlib.util
import json
import lzma
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from benchmarks.decisions.parser import examples as projective
from tests.requested import backend, host

FOLDER = Path(__file__).parent.parent / "examples"

TREES = """\
the\tDET\t3\tdet
old\tADJ\t3\tamod
man\tNOUN\t0\troot

boats\tNOUN\t2\tnsubj
sail\tVERB\t0\troot

go\tVERB\t0\troot
"""
CONLLU = """\
# text = I can't
1\tI\tI\tPRON\t_\t_\t2\tnsubj\t_\t_
2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_
2\tcan\tcan\tAUX\t_\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\t_\t_\t2\tadvmod\t_\t_
3.1\tgo\tgo\tVERB\t_\t_\t_\t_\t_\t_
"""
BRACKETED = """\
(3 (2 a) (3 (3 good) (2 film)))
(1 (1 (1 dull) (2 (2 and) (1 long))) (2 film))
(2 long)
"""
MOLECULES = [
    {"y": -0.5, "atoms": ["C", "C", "O"], "bonds": [[0, 1, 1], [1, 2, 1]]},
    {"y": -1.5, "atoms": ["C"], "bonds": []},
    {"y": -2.5, "atoms": ["C", "C", "Cl", "Br"], "bonds": [[0, 1, 2], [1, 2, 1], [1, 3, 4]]},
]


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    monkeypatch.setattr(sys, "argv", [str(module.__name__), *map(str, words)])
    module.main()
    return capsys.readouterr().out


def assert_as_the_loop(model: Any, examples: list[Any], loss: Callable[..., Any] | None = None) -> None:
    """Values and gradients of a minibatch are those of its examples one by one."""
    found = []
    for batched in (True, False):
        for parameter in model.parameters():
            parameter.grad = None
        ab.seed(0)
        losses = ab.map(loss or model.loss, examples, batched=batched)
        ab.mean(losses).backward()
        gradients = [host(p.grad) for p in model.parameters()]
        found.append((np.array([float(loss) for loss in losses]), gradients))
    (values, gradients), (single_values, single_gradients) = found
    np.testing.assert_allclose(values, single_values, atol=1e-5)
    for mine, other in zip(gradients, single_gradients, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            np.testing.assert_allclose(mine, other, atol=1e-4)


def test_every_example_is_tested() -> None:
    own = {"classifier", "entities", "language_model", "listops", "parser", "solubility", "tagger"}
    derivatives = {"hessian_vector", "lecture", "regularise", "reversible_learning", "reversible_ode"}
    assert {path.stem for path in FOLDER.glob("*.py")} == own | derivatives


def test_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("classifier", monkeypatch)
    path = tmp_path / "trees.txt"
    path.write_text(BRACKETED, encoding="utf-8")
    assert module.read(path)[0] == (["a", "good", "film"], 3)
    printed = run(module, monkeypatch, capsys, "--epochs", 2, "--dim", 4, "--heads", 2)
    assert printed.count("epoch") == 2
    sentences = [module.Sentence([1, 0, 2], 1), module.Sentence([2], 0), module.Sentence([1, 1, 0, 2], 1)]
    assert_as_the_loop(module.Classifier(3, 3, 2, dim=4, n_heads=2, n_blocks=1, dropout=0.3), sentences)


def test_listops(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("listops", monkeypatch)
    printed = run(module, monkeypatch, capsys, "--steps", 20, "--batch-size", 8, "--dim", 4, "--depth", 2)
    assert printed.count("expressions/s") == 10
    assert "of 1000 new expressions" in printed
    ab.seed(0)
    rng = np.random.default_rng(0)
    assert_as_the_loop(module.Calculator(4), [module.draw(rng, depth=3) for _ in range(5)])


def test_listops_works_out_what_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("listops", monkeypatch)
    rng = np.random.default_rng(0)
    meaning = {"MIN": min, "MAX": max, "MED": lambda v: int(np.median(v)), "SM": lambda v: sum(v) % 10}

    def value(words: list[str]) -> int:
        word = words.pop(0)
        if not word.startswith("["):
            return int(word)
        arguments = []
        while words[0] != "]":
            arguments.append(value(words))
        words.pop(0)
        return int(meaning[word[1:]](arguments))

    for _ in range(50):
        drawn = module.draw(rng, depth=4)
        assert value(str(drawn).split()) == drawn.value


def test_solubility(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("solubility", monkeypatch)
    path = tmp_path / "molecules.jsonl"
    path.write_text("".join(json.dumps(molecule) + "\n" for molecule in MOLECULES), encoding="utf-8")
    printed = run(module, monkeypatch, capsys, "--epochs", 5, "--dim", 4, "--rounds", 2)
    first, *_, last = (float(line.split()[-1]) for line in printed.splitlines() if "training error" in line)
    assert last < first
    assert "other molecules" in printed
    molecules, elements = module.read(path)
    assert_as_the_loop(module.Solubility(len(elements), 4, 2, 0.0, 1.0), molecules)


def test_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("parser", monkeypatch)
    path, conllu = tmp_path / "trees.tsv", tmp_path / "trees.conllu"
    path.write_text(TREES, encoding="utf-8")
    conllu.write_text(CONLLU, encoding="utf-8")
    assert [row[2:] for row in next(module.read(conllu))] == [(2, "nsubj"), (0, "root"), (2, "advmod")]
    printed = run(module, monkeypatch, capsys, "--epochs", 2, "--dim", 4, "--hidden", 3)
    assert printed.count("UAS") == 2
    assert "one by one" in printed
    model = module.Parser(5, 4, 3, dim=4, hidden=3)
    sentences = [module.Sentence([1, 2, 1], [0, 1, 2], [3, 3, 0], [0, 1, 2]), module.Sentence([4], [3], [0], [2])]
    for own in (0.0, 0.7):
        assert_as_the_loop(model, sentences, functools.partial(model.loss, own=own))
    assert module.parse_all(model, sentences, 2) == module.parse_all(model, sentences, 2, batched=False)


def test_the_parsers_oracle_finds_projective_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("parser", monkeypatch)
    for sentence in projective(60, seed=0):
        here = module.Configuration(len(sentence.heads))
        while not here.is_final:
            move, relation = module.parts_of(here.oracle(sentence))
            assert move in here.moves()
            here.apply(move, relation)
        assert (here.heads[1:], here.relations[1:]) == (sentence.heads, sentence.relations)


@pytest.fixture
def interpreted() -> Iterator[None]:
    """Nothing is compiled: these models have many kernels, and are tiny here."""
    with ab.backend(backend("numpy")):
        yield


@pytest.mark.parametrize("name", ["tagger", "entities"])
def test_sequences_of_tags(
    name: str, interpreted: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(name, monkeypatch)
    path = tmp_path / "train.tsv.xz"
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.write("Ann\tB-PER\nsleeps\tO\n\nYes\tO\n")
    assert module.read(path) == [(("Ann", "sleeps"), ("B-PER", "O")), (("Yes",), ("O",))]
    printed = run(module, monkeypatch, capsys, "--epochs", 1, "--dim", 4, "--hidden", 3)
    assert "other sentences" in printed
    assert "of 2 other" in run(module, monkeypatch, capsys, "--data", path, path, "--epochs", 1, "--dim", 4)
    sentences = [module.Sentence([1, 0], [[1], [2, 3, 1]], [0, 1]), module.Sentence([0], [[2]], [2])]
    model = {"tagger": "Tagger", "entities": "Entities"}[name]
    assert_as_the_loop(getattr(module, model)(3, 4, 3, dim=4, hidden=3), sentences)


def test_language_model(interpreted: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("language_model", monkeypatch)
    printed = run(module, monkeypatch, capsys, "--epochs", 1, "--dim", 4, "--hidden", 4, "--batch-size", 32)
    after = printed.split("characters: ")[1].split()
    bits, perplexity = float(after[0]), float(after[5])
    assert perplexity == pytest.approx(2**bits, rel=1e-2)
    assert 1 < perplexity < 40
    assert_as_the_loop(module.LanguageModel(5, dim=4, hidden=3), [np.array([1, 4, 0, 2]), np.array([3, 3])])
