"""The command line, from arguments to the lines it ends with."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import autobatch as ab
from autobatch.data import Tree
from autobatch.demo import cli
from autobatch.demo.bracketed import BracketedTrees
from autobatch.demo.cli import main
from autobatch.demo.machine import command_settings
from autobatch.demo.syntax_trees import SyntaxTrees
from autobatch.train import curve
from tests.stand_in import kernels
from tests.stand_in.session import on_stand_in


class Result(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


Run = Callable[..., Result]
SMALL = ("--dim", "8", "--epochs", "2", "--batch-size", "16", "--backend", "numpy")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def called(*arguments: Any) -> Result:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        return Result(code, *capsys.readouterr())

    return called


def sentence(rng: np.random.Generator, n_words: Any) -> Any:
    if n_words == 1:
        word = int(rng.integers(20))
        return Tree(word % 5, f"w{word}")
    left = int(rng.integers(1, n_words))
    children = [sentence(rng, left), sentence(rng, n_words - left)]
    return Tree(max(child.label for child in children), None, children)


pytestmark = pytest.mark.unchecked


@pytest.fixture
def treebank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(curve, "is_drawn", lambda: False)  # a second for each picture
    rng = np.random.default_rng(0)
    for name, size, opener in (("train.txt.gz", 60, gzip.open), ("dev.txt", 20, open), ("test.txt", 20, open)):
        with opener(tmp_path / name, "wt") as file:
            file.writelines(f"{sentence(rng, int(rng.integers(1, 8)))}\n" for _ in range(size))
    return tmp_path


@pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"])
def test_training_on_bracketed_trees_reports_nodes_and_roots(treebank: Any, backend: Any, run: Run) -> None:
    options = (*SMALL[:-2], "--backend", backend)
    if backend == "cupy" and kernels.MISSING:
        pytest.skip(kernels.MISSING)
    with on_stand_in() if backend == "cupy" else contextlib.nullcontext():
        result = run("train", "trees", "--data", treebank, "--out", treebank / "run", *options)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("trees: train 60, dev 20, test 20; 21 words, 5 classes")
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 2
    assert all(re.search(r"dev: loss [\d.]+  node accuracy [\d.]+ %  accuracy [\d.]+ %", line) for line in epochs)
    assert lines[-3].startswith("test: nodes ")
    names = {path.name for path in (treebank / "run").iterdir()}
    assert {"last.safetensors", "best.safetensors", "curve.csv", "curve.json"} <= names


def test_from_training_to_predictions(treebank: Any, run: Run) -> None:
    out, model = treebank / "run", treebank / "model.safetensors"
    assert run("train", "trees", "--data", treebank, "--out", out, *SMALL).exit_code == 0
    evaluated = run("evaluate", out)
    assert re.fullmatch(r"loss [\d.]+\nnode accuracy [\d.]+ %\naccuracy [\d.]+ %\n", evaluated.stdout)
    assert run("evaluate", out, "--data", treebank / "test.txt").stdout == evaluated.stdout
    new = treebank / "new.txt"
    new.write_text("(0 (0 w3) (0 unknown))\n(1 w7)\n")
    predicted = run("predict", out, new).stdout
    assert re.fullmatch(r"[0-4]\t0\.\d{3}\tw3 unknown\n[0-4]\t0\.\d{3}\tw7\n", predicted)
    assert run("export", out, model).stdout.startswith(f"{model}: ")
    assert run("predict", model, new).stdout == predicted
    assert {"embed.weight", "leaf.weight_ih", "node.weight_hh", "out.bias"} <= set(ab.load(model))
    # Nothing is trained over what is there.
    again = run("train", "trees", "--data", treebank, "--out", out, *SMALL)
    assert (again.exit_code, "--resume" in again.stderr) == (1, True)
    assert run("train", "trees", "--data", treebank, "--out", out, "--overwrite", *SMALL).exit_code == 0


def test_ctrl_c_saves_and_says_how_to_go_on(treebank: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def history(name: str) -> Any:
        rows = json.loads((treebank / name / "curve.json").read_text())
        return [{name: x for name, x in row.items() if "second" not in name} for row in rows]

    assert run("train", "trees", "--data", treebank, "--out", treebank / "whole", *SMALL).exit_code == 0
    steps = 0
    plain = ab.train.Progress.on_step

    def press(self: Any, run: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:  # in the second of two epochs
            signal.raise_signal(signal.SIGINT)
        plain(self, run)

    monkeypatch.setattr(ab.train.Progress, "on_step", press)
    out = treebank / "stopped"
    stopped = run("train", "trees", "--data", treebank, "--out", out, *SMALL)
    command = f"autobatch train trees --out {out} --resume"
    assert (stopped.exit_code, stopped.stdout.splitlines()[-1]) == (130, f"stopped; go on with: {command}")
    assert run(*command.split()[1:]).exit_code == 0
    assert history("stopped") == history("whole")
    first, second = (ab.load(treebank / name / "last.safetensors") for name in ("stopped", "whole"))
    assert all((first[name] == second[name]).all() for name in second if name != "seconds")
    # Other data are not gone on with, also where they are as many; other settings neither, but for more epochs.
    dev = (treebank / "dev.txt").read_text()
    (treebank / "dev.txt").write_text(dev.replace("(0", "(1"))
    other = run(*command.split()[1:])
    assert (other.exit_code, "got other trees" in other.stderr) == (1, True)
    (treebank / "dev.txt").write_text(dev)
    for options, text in (
        (("--dim", "9", "--lr", "1"), "expected --dim 8, --lr 0.006, got --dim 9, --lr 1.0"),
        (("--epochs", "1"), "expected --epochs 2, got --epochs 1"),
    ):
        other = run(*command.split()[1:], *options)
        assert (other.exit_code, text in other.stderr) == (1, True), other
    assert run(*command.split()[1:], "--epochs", "3", "--dim", "8").exit_code == 0
    assert len(history("stopped")) == 3


def test_no_epoch_has_ended(treebank: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    out = treebank / "run"
    arguments = ("train", "trees", "--data", treebank, "--out", out, "--dim", "8", "--epochs", "1")
    assert run(*arguments, "--backend", "numpy").exit_code == 0
    for name in ("last", "best"):  # exported over, a run could not go on
        refused = run("export", out, out / f"{name}.safetensors")
        assert (refused.exit_code, "training goes on from this file" in refused.stderr) == (1, True)
    monkeypatch.setattr(ab.train.Progress, "on_step", lambda *_: signal.raise_signal(signal.SIGINT))
    assert run(*arguments, "--backend", "numpy", "--overwrite").exit_code == 130
    assert not {"best.safetensors", "curve.csv", "curve.json"} & {path.name for path in out.iterdir()}
    result = run("predict", out, treebank / "dev.txt")
    assert result.exit_code == 1
    assert f"no epoch of this run has ended\n  got {out}\n  repair: autobatch train trees --out" in result.stderr


def test_out_is_checked_before_anything_is_read(treebank: Any, run: Run) -> None:
    treebank.joinpath("file").write_text("in the way")
    result = run("train", "syntax-trees", "--out", treebank / "file")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: this is a file\n  expected a folder, got {treebank / 'file'}\n"
    for command in (("predict", treebank / "none", "x"), ("train", "trees", "--out", treebank / "none", "--resume")):
        result = run(*command)
        assert (result.exit_code, "there is no such run" in result.stderr) == (1, True)
    result = run("evaluate", treebank / "file")
    assert (result.exit_code, "no complete safetensors file" in result.stderr) == (1, True)


def test_it_works_without_extras(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich", "matplotlib", "threadpoolctl", "sklearn", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    result = run("train", "trees", "--out", tmp_path, "--epochs", "1", "--dim", "4", "--backend", "numpy")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("left out: progress bar (rich), picture of the")
    assert f"learning curve: {tmp_path / 'curve.csv'}" in result.stdout


def test_a_backend_that_is_missing_is_an_error_without_a_traceback(
    treebank: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    result = run("train", "trees", "--data", treebank, "--out", treebank / "run", "--backend", "cupy")
    assert result.exit_code == 1
    assert "CuPy is not installed\n  repair: pip install" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_malformed_tree_is_named_without_a_traceback(treebank: Any, run: Run) -> None:
    treebank.joinpath("dev.txt").write_text("(1 a)\n(2 (1 b)\n")
    result = run("train", "trees", "--data", treebank, "--out", treebank / "run")
    assert result.exit_code == 1
    assert f"malformed tree in {treebank / 'dev.txt'}, line 2, column 9" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(1 (1 a) (1 b) (1 c))\n", "tree 1 that is neither a leaf nor binary"),
        ("\n", "got none in"),
        ("(1000000000 a)\n", "a label is too large for a class\n  expected classes from 0 to 999"),
        (None, "expected dev.txt, dev.txt.gz or dev.txt.xz"),
    ],
)
def test_a_treebank_that_cannot_be_used_is_an_error(treebank: Any, text: Any, message: Any, run: Run) -> None:
    treebank.joinpath("dev.txt").unlink()
    if text is not None:
        treebank.joinpath("dev.txt").write_text(text)
    result = run("train", "trees", "--data", treebank, "--out", treebank / "run")
    assert (result.exit_code, message in result.stderr) == (1, True)


def test_threads_are_set_inside_the_command_only() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def counts() -> Any:
        pools = threadpoolctl.threadpool_info()
        return ab.get_num_threads(), [pool["num_threads"] for pool in pools if pool["internal_api"] == "openblas"]

    own, blas = counts()
    with pytest.raises(KeyError), command_settings(own + 2, "numpy"):
        assert counts() == (own + 2, [own + 2] * len(blas))
        raise KeyError
    assert counts() == (own, blas)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--epochs", "0", "an integer, 1 or more"),
        ("--epochs", "1.5", "an integer, 1 or more"),
        ("--dropout", "2", "a number, 0 to 1"),
        ("--lr", "-1", "a number, 0"),
        ("--lr", "fast", "a number, 0"),
        ("--seed", "-1", "an integer, 0 or more"),
    ],
)
def test_values_out_of_range_are_refused(option: str, value: str, expected: str, run: Run) -> None:
    result = run("train", "syntax-trees", option, value)
    assert result.exit_code == 2 and f"argument {option}: expected {expected}" in result.stderr


def test_defaults_are_those_of_the_help() -> None:
    own, given = BracketedTrees.new_settings({}), BracketedTrees.new_settings({"data": Path("x"), "epochs": 3})
    assert (own["epochs"], own["batch_size"]) == (30, 2)
    assert (given["epochs"], given["batch_size"], given["data"]) == (3, 64, str(Path("x").absolute()))
    assert BracketedTrees.new_settings({"epochs": 3})["epochs"] == 3


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (b"x = 1\n", ": there is no function in this file"),
        (b"def f(:\n", ":1: invalid syntax"),
        (b"def f(): return '\xe9'\n", "'utf-8' codec can't decode byte 0xe9"),
        (b"(" * 5000 + b")" * 5000, "nested"),
        (b"\0", "null bytes"),
    ],
)
def test_python_files_that_cannot_be_predicted(tmp_path: Path, source: bytes, text: str) -> None:
    task = SyntaxTrees({"vocabulary": json.loads(ab.data.Vocabulary(["a"]).to_json())})
    path = tmp_path / "program.py"
    path.write_bytes(source)
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        list(task.read(path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    path.write_bytes("\ufeffdef f(): return 'é'\n".encode())
    assert [name for name, _ in task.read(path)] == [f"{path}:1 f"]
    path.write_text("class A:\n    def f(self): pass\ndef g(): pass\n")
    assert [name for name, _ in task.read(path)] == [f"{path}:2 f", f"{path}:3 g"]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
        (PermissionError(13, "Permission denied", "trees.txt"), 1, "Error: trees.txt: Permission denied\n"),
        (MemoryError(), 1, "Error: out of memory\n"),
    ],
)
def test_what_ends_a_command(
    error: BaseException, code: int, text: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "usage", fail)
    result = run("cache")
    assert (result.exit_code, result.stderr) == (code, text)


@pytest.mark.parametrize(
    "settings", ["[]", "null", "{", '{"task": []}', '{"task": "none"}', '{"task": "trees", "dim": 8}']
)
def test_a_file_that_the_command_did_not_write(treebank: Any, settings: str, run: Run) -> None:
    path = treebank / "model.safetensors"
    ab.save(path, {"x": np.ones(1)}, {"settings": settings})
    result = run("predict", path, treebank / "dev.txt")
    assert result.exit_code == 1 and str(path) in result.stderr
    assert re.match("Error: (settings_of: the settings in|this file was not written by the command)", result.stderr)


def test_commands_to_go_on_with_are_those_of_a_shell(treebank: Any, run: Run) -> None:
    out = treebank / "my run"
    result = run("train", "trees", "--data", treebank, "--out", out, *SMALL)
    assert result.stdout.endswith(f"saved: {out}; autobatch predict '{out}' FILE\n")


@pytest.mark.parametrize(("encoding", "closed"), [("ascii", False), ("utf-8", True)])
def test_what_a_console_does_not_have(treebank: Any, encoding: str, closed: bool, run: Run) -> None:
    """Letters are written as escapes, and nothing is where there is no stdout."""
    (treebank / "dev.txt").write_text("(1 (1 é) (1 →))\n(0 (1 a) (0 b))\n", encoding="utf-8")
    assert run("train", "trees", "--data", treebank, "--out", treebank / "run", *SMALL).exit_code == 0
    script = (
        "import sys; from autobatch.demo.cli import main; sys.stdout = None if CLOSED else sys.stdout; sys.exit(main())"
    )
    command = [sys.executable, "-c", script.replace("CLOSED", str(closed)), "predict", "run", "dev.txt"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(ab.__file__).parent.parent)}
    done = subprocess.run(command, cwd=treebank, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "" if closed else done.stdout.splitlines()[0].endswith("\\xe9 \\u2192")


def test_the_module_is_the_command() -> None:
    result = subprocess.run([sys.executable, "-m", "autobatch", "--help"], capture_output=True, text=True, check=True)
    assert "train on minibatches" in result.stdout


@pytest.mark.slow
def test_the_demo_ends_with_what_it_measured(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("sklearn")
    result = run("train", "syntax-trees", "--epochs", "1", "--dim", "16", "--embedding", "32", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    pattern = (
        r"held-out accuracy [\d.]+ %   \(bag of nodes [\d.]+ %, the same without identifiers [\d.]+ %, "
        r"majority [\d.]+ %\)\n"
        r"one minibatch of 64: [\d,]+ nodes → [\d,]+ launches \(bound [\d,]+\); "
        r"most frequent reason for not batching: \S.*\n"
        r"batched [\d,]+ examples/s, one by one \(this library, batched=False\) [\d,]+ examples/s: \d+ ×\n"
        r"largest difference batched / one by one: loss \S+, gradients \S+\n"
        r"learning curve: .*curve\.png\nsaved: .*\n\Z"
    )
    assert re.search(pattern, result.stdout), result.stderr
    assert tmp_path.joinpath("curve.png").stat().st_size > 10_000
    file = tmp_path / "program.py"
    file.write_text("def f(path):\n    return [line.strip() for line in open(path)]\n")
    predicted = run("predict", tmp_path, file)
    assert re.fullmatch(rf"\w+\t0\.\d+\t{file}:1 f\n", predicted.stdout), predicted
