"""The demo: a child-sum Tree-LSTM learns which module of the standard library a function comes from.

Everything that it prints at its end was measured in the same run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import autobatch as ab

from ..data import SyntaxTreeTask, Tree, minibatches
from ..models.bag_of_nodes import BagOfNodes
from ..models.child_sum_tree_lstm import ChildSumTreeClassifier
from .batching_report import batching_report
from .learning_curve import draw_learning_curve
from .training import TrainingOptions, train

__all__ = ["baseline_accuracies", "syntax_tree_demo"]


def baseline_accuracies(task: SyntaxTreeTask) -> dict[str, float]:
    """Held-out accuracy of models that do not see the arrangement of the nodes, the best first."""
    classes = [tree.label for tree in task.train]
    wanted = [tree.label for tree in task.held_out]
    n_types, n_words = len(task.types), len(task.vocabulary)

    def types(tree: Tree) -> list[int]:
        return [task.type_of_word[node.word] for node in tree]

    def types_and_words(tree: Tree) -> list[int]:
        return types(tree) + [n_types + node.word for node in tree]

    def bag(features: Callable[[Tree], list[int]], n_features: int) -> float:
        model = BagOfNodes(n_features, len(task.modules)).fit([features(tree) for tree in task.train], classes)
        return model.accuracy([features(tree) for tree in task.held_out], wanted)

    majority, _ = Counter(classes).most_common(1)[0]
    return {
        "bag of nodes": bag(types_and_words, n_types + n_words),
        "the same without identifiers": bag(types, n_types),
        "majority": wanted.count(majority) / len(wanted),
    }


def syntax_tree_demo(
    options: TrainingOptions,
    embedding_size: int,
    hidden_size: int,
    dropout: float,
    out: Path,
    say: Callable[[str], None],
) -> None:
    """Train, test, measure, draw; `say` is given each line of the report."""
    say("reading the standard library")
    task = SyntaxTreeTask.load()
    counts = Counter(tree.label for tree in (*task.train, *task.held_out))
    say(
        f"{len(task.train):,} functions to train on, {len(task.held_out):,} held out, of the modules "
        + ", ".join(f"{name} ({counts[label]})" for label, name in enumerate(task.modules))
    )
    baselines = baseline_accuracies(task)

    ab.seed(options.seed)
    model = ChildSumTreeClassifier(len(task.vocabulary), len(task.modules), embedding_size, hidden_size, dropout)
    epochs = []
    for epoch in train(model, task.train, task.held_out, options):
        epochs.append(epoch)
        say(
            f"epoch {epoch.number:2}  loss {epoch.train.loss:.3f}  accuracy {epoch.train.root_accuracy:6.1%}  "
            f"held out {epoch.test.root_accuracy:6.1%}  {epoch.examples_per_second:,.0f} examples/s"
        )
    (batch, *_) = minibatches(task.train, options.batch_size, shuffle=True, seed=options.seed)
    report = batching_report(model, batch, options.seed)
    curve = out / "curve.png"
    lines = {name.replace("the same", "bag of nodes"): accuracy for name, accuracy in baselines.items()}
    draw_learning_curve(epochs, lines, curve)

    accuracies = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in baselines.items())
    rate = sorted(epoch.examples_per_second for epoch in epochs)[len(epochs) // 2]
    say("")
    say(f"held-out accuracy {100 * epochs[-1].test.root_accuracy:.1f} %   ({accuracies})")
    say(
        f"one minibatch of {report.n_examples}: {report.n_nodes:,} nodes → {report.n_launches:,} launches "
        f"(bound {report.bound:,}); most frequent reason for not batching: {report.reason}"
    )
    say(
        f"batched {rate:,.0f} examples/s, one by one (this library, batched=False) "
        f"{report.one_by_one_per_second:,.0f} examples/s: {rate / report.one_by_one_per_second:.0f} ×"
    )
    say(
        f"largest difference batched / one by one: loss {report.loss_difference:.0e}, "
        f"gradients {report.gradient_difference:.0e}"
    )
    say(f"learning curve: {curve}")
