"""The demo: a child-sum Tree-LSTM learns which module of the standard library a function comes from.

Everything that it says at its end was measured in the same run.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import autobatch as ab

from ..base.extras import fault
from ..data import SyntaxTreeTask, Tree, minibatches, syntax_tree
from ..data.syntax_trees import RARE, node_type
from ..models.child_sum_tree_lstm import ChildSumTreeClassifier
from .baselines import baseline_accuracies
from .batching_report import batching_report
from .task import Say, Task

__all__ = ["SyntaxTrees"]


class SyntaxTrees(Task):
    """Functions of the standard library of the running Python; Python files are predicted function by function."""

    name = "syntax-trees"
    packages = ("rich", "matplotlib", "sklearn", "threadpoolctl")
    defaults: ClassVar = {
        "embedding": 256,
        "dim": 64,
        "epochs": 12,
        "batch_size": 64,
        "lr": 8e-3,
        "dropout": 0.3,
        "seed": 0,
        "threads": 1,
        "backend": "numba",
    }
    tested_on = "held out"

    def load(self, say: Say) -> tuple[list[Tree], list[Tree]]:
        say("reading the standard library")
        task = SyntaxTreeTask.load()
        counts = Counter(tree.label for tree in (*task.train, *task.held_out))
        say(
            f"{len(task.train):,} functions to train on, {len(task.held_out):,} held out, of the modules "
            + ", ".join(f"{name} ({counts[label]})" for label, name in enumerate(task.modules))
        )
        self.settings |= {"vocabulary": json.loads(task.vocabulary.to_json()), "classes": list(task.modules)}
        self._baselines = baseline_accuracies(task) if not fault("sklearn") else {}
        return task.train, task.held_out

    def model(self) -> ChildSumTreeClassifier:
        s = self.settings
        return ChildSumTreeClassifier(len(self.words()), len(self.classes()), s["embedding"], s["dim"], s["dropout"])

    def read(self, path: Path) -> Iterator[tuple[str, Tree]]:
        words = self.words()

        def number(node: Tree) -> tuple[None, int]:
            return None, words[node.word if node.word in words else f"{node_type(node.word)} {RARE}"]

        functions = [x for x in ast.walk(_parsed(path)) if isinstance(x, (ast.FunctionDef, ast.AsyncFunctionDef))]
        if not functions:
            raise ValueError(f"{path}: there is no function in this file")
        for node in sorted(functions, key=lambda node: node.lineno):
            yield f"{path}:{node.lineno} {node.name}", syntax_tree(node).map(number)

    def held_out(self, path: Path | None) -> list[Tree]:
        if path is not None:
            raise ValueError("syntax-trees: only the functions that were held out have labels; leave out --data")
        return SyntaxTreeTask.load().held_out

    def levels(self) -> dict[str, float]:
        return {name.replace("the same", "bag of nodes"): accuracy for name, accuracy in self._baselines.items()}

    def finish(self, model: Any, run: ab.train.Run, train: list[Tree], say: Say) -> None:
        s = self.settings
        (batch, *_) = minibatches(train, s["batch_size"], shuffle=True, seed=s["seed"])
        rates = sorted(record["examples_per_second"] for record in run.history)
        report = batching_report(model, batch, rates[len(rates) // 2], s["seed"])
        baselines = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in self._baselines.items())
        beside = f"   ({baselines})" if baselines else ""
        say("")
        say(f"held-out accuracy {100 * run.history[-1]['test_accuracy']:.1f} %{beside}")
        for line in report:
            say(line)


def _parsed(path: Path) -> ast.AST:
    """A Python file, in the encoding that it says; ValueError, with the name of the file, where it is none."""
    try:
        return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        place = f"{path}:{error.lineno}" if error.lineno else f"{path}"
        raise ValueError(f"{place}: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"{path}: nested too deeply") from None
    except ValueError as error:  # null bytes
        raise ValueError(f"{path}: {error}") from None
