"""The command line, from arguments to the lines it ends with."""

from __future__ import annotations

import contextlib
import gzip
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from click.testing import CliRunner

import autobatch as ab
from autobatch.data import Tree
from autobatch.demo.cli import command_settings, main
from tests.stand_in import kernels
from tests.stand_in.session import on_stand_in


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments)


def sentence(rng: np.random.Generator, n_words: Any) -> Any:
    if n_words == 1:
        word = int(rng.integers(20))
        return Tree(word % 5, f"w{word}")
    left = int(rng.integers(1, n_words))
    children = [sentence(rng, left), sentence(rng, n_words - left)]
    return Tree(max(child.label for child in children), None, children)


@pytest.fixture
def treebank(tmp_path: Path) -> Any:
    rng = np.random.default_rng(0)
    for name, size, opener in (("train.txt.gz", 60, gzip.open), ("dev.txt", 20, open), ("test.txt", 20, open)):
        with opener(tmp_path / name, "wt") as file:
            file.writelines(f"{sentence(rng, int(rng.integers(1, 8)))}\n" for _ in range(size))
    return tmp_path


@pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"])
def test_training_on_bracketed_trees_reports_nodes_and_roots(treebank: Any, backend: Any) -> None:
    options = ("--dim", "8", "--epochs", "2", "--batch-size", "16", "--backend", backend)
    if backend == "cupy" and kernels.MISSING:
        pytest.skip(kernels.MISSING)
    with on_stand_in() if backend == "cupy" else contextlib.nullcontext():
        result = run("train", "trees", "--data", str(treebank), *options)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("trees: train 60, dev 20, test 20; 21 words, 5 classes")
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 2
    assert all(re.search(r"dev: nodes [\d.]+ %, root [\d.]+ %  [\d,]+ examples/s", line) for line in epochs)
    assert re.fullmatch(r"test: nodes [\d.]+ %, root [\d.]+ %", lines[-1])


def test_a_backend_that_is_missing_is_an_error_without_a_traceback(
    treebank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    result = run("train", "trees", "--data", str(treebank), "--backend", "cupy")
    assert result.exit_code == 1
    assert "CuPy is not installed\n  repair: pip install" in result.output
    assert "Traceback" not in result.output


def test_a_malformed_tree_is_named_without_a_traceback(treebank: Any) -> None:
    treebank.joinpath("dev.txt").write_text("(1 a)\n(2 (1 b)\n")
    result = run("train", "trees", "--data", str(treebank))
    assert result.exit_code == 1
    assert f"malformed tree in {treebank / 'dev.txt'}, line 2, column 9" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(1 (1 a) (1 b) (1 c))\n", "tree 1 that is neither a leaf nor binary"),
        ("\n", "no dev trees"),
        (None, "expected dev.txt, dev.txt.gz or dev.txt.xz"),
    ],
)
def test_a_treebank_that_cannot_be_used_is_an_error(treebank: Any, text: Any, message: Any) -> None:
    treebank.joinpath("dev.txt").unlink()
    if text is not None:
        treebank.joinpath("dev.txt").write_text(text)
    result = run("train", "trees", "--data", str(treebank))
    assert (result.exit_code, message in result.output) == (1, True)


def test_threads_are_set_inside_the_command_only() -> None:
    def counts() -> Any:
        pools = threadpoolctl.threadpool_info()
        return ab.get_num_threads(), [pool["num_threads"] for pool in pools if pool["internal_api"] == "openblas"]

    own, blas = counts()
    with pytest.raises(KeyError), command_settings(own + 2, "numpy"):
        assert counts() == (own + 2, [own + 2] * len(blas))
        raise KeyError
    assert counts() == (own, blas)


@pytest.mark.parametrize("arguments", [("--epochs", "0"), ("--batch-size", "0"), ("--dropout", "2"), ("--lr", "-1")])
def test_values_out_of_range_are_refused(arguments: Any) -> None:
    result = run("train", "syntax-trees", *arguments)
    assert result.exit_code == 2 and arguments[0] in result.output


def test_the_module_is_the_command() -> None:
    result = subprocess.run([sys.executable, "-m", "autobatch", "--help"], capture_output=True, text=True, check=True)
    assert "train on minibatches" in result.stdout


@pytest.mark.slow
def test_the_demo_ends_with_what_it_measured(tmp_path: Path) -> None:
    result = run("train", "syntax-trees", "--epochs", "1", "--dim", "16", "--embedding", "32", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    pattern = (
        r"held-out accuracy [\d.]+ %   \(bag of nodes [\d.]+ %, the same without identifiers [\d.]+ %, "
        r"majority [\d.]+ %\)\n"
        r"one minibatch of 64: [\d,]+ nodes → [\d,]+ launches \(bound [\d,]+\); "
        r"most frequent reason for not batching: \S.*\n"
        r"batched [\d,]+ examples/s, one by one \(this library, batched=False\) [\d,]+ examples/s: \d+ ×\n"
        r"largest difference batched / one by one: loss \S+, gradients \S+\n"
        r"learning curve: .*curve\.png\n\Z"
    )
    assert re.search(pattern, result.stdout), result.output
    assert tmp_path.joinpath("curve.png").stat().st_size > 10_000
