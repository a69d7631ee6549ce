"""The demo: a child-sum Tree-LSTM learns which module of the standard library a function comes from.

Everything that it says at its end was measured in the same run.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import autobatch as ab
from autobatch import nn

from ..data import SyntaxTreeTask, Tree, Vocabulary, minibatches, syntax_tree
from ..data.syntax_trees import RARE, node_type
from ..models.child_sum_tree_lstm import ChildSumTreeClassifier
from .baselines import baseline_accuracies
from .batching_report import batching_report
from .optional import installed
from .task import Say, Task

__all__ = ["SyntaxTrees"]


class SyntaxTrees(Task):
    """Functions of the standard library of the running Python; Python files are predicted function by function."""

    name = "syntax-trees"
    packages = ("rich", "matplotlib", "sklearn", "threadpoolctl")

    def load(self, say: Say) -> tuple[list[Tree], list[Tree]]:
        say("reading the standard library")
        self.task = task = SyntaxTreeTask.load()
        counts = Counter(tree.label for tree in (*task.train, *task.held_out))
        say(
            f"{len(task.train):,} functions to train on, {len(task.held_out):,} held out, of the modules "
            + ", ".join(f"{name} ({counts[label]})" for label, name in enumerate(task.modules))
        )
        self.settings |= {"vocabulary": json.loads(task.vocabulary.to_json()), "classes": list(task.modules)}
        self._baselines = baseline_accuracies(task) if installed("sklearn") else {}
        return task.train, task.held_out

    def model(self) -> ChildSumTreeClassifier:
        s = self.settings
        return ChildSumTreeClassifier(len(self._words()), len(s["classes"]), s["embedding"], s["dim"], s["dropout"])

    def read(self, path: Path) -> Iterator[tuple[str, Tree]]:
        words = self._words()

        def number(node: Tree) -> tuple[None, int]:
            return None, words[node.word if node.word in words else f"{node_type(node.word)} {RARE}"]

        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path}:{node.lineno} {node.name}", syntax_tree(node).map(number)

    def held_out(self, path: Path | None) -> list[Tree]:
        if path is not None:
            raise ValueError("syntax-trees: only the functions that were held out have labels; leave out --data")
        return SyntaxTreeTask.load().held_out

    def levels(self) -> dict[str, float]:
        return {name.replace("the same", "bag of nodes"): accuracy for name, accuracy in self._baselines.items()}

    def finish(self, model: nn.Module, run: ab.train.Run, train: list[Tree], say: Say) -> None:
        s = self.settings
        (batch, *_) = minibatches(train, s["batch_size"], shuffle=True, seed=s["seed"])
        rates = sorted(record["examples_per_second"] for record in run.history)
        report = batching_report(self._as_trained(model), batch, rates[len(rates) // 2], s["seed"])
        baselines = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in self._baselines.items())
        beside = f"   ({baselines})" if baselines else ""
        say("")
        say(f"held-out accuracy {100 * run.history[-1]['test_accuracy']:.1f} %{beside}")
        for line in report:
            say(line)

    @staticmethod
    def _as_trained(model: nn.Module) -> ChildSumTreeClassifier:
        assert isinstance(model, ChildSumTreeClassifier)
        return model

    def _words(self) -> Vocabulary:
        return Vocabulary.from_json(json.dumps(self.settings["vocabulary"]))
