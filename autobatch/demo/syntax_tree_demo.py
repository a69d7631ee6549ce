"""The demo: a child-sum Tree-LSTM learns which module of the standard library a function comes from.

Everything that it prints at its end was measured in the same run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import autobatch as ab

from ..data import SyntaxTreeTask, minibatches
from ..models.child_sum_tree_lstm import ChildSumTreeClassifier
from .baselines import baseline_accuracies
from .batching_report import batching_report
from .optional import demo_package
from .training import Epoch, TrainingOptions, train

__all__ = ["syntax_tree_demo"]


def draw_learning_curve(epochs: Sequence[Epoch], baselines: Mapping[str, float], path: Path) -> None:
    """Draw accuracy in training and held out by epoch, with baselines as level lines, into a PNG file."""
    matplotlib = demo_package("matplotlib")
    matplotlib.use("Agg")
    pyplot = demo_package("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    numbers = [epoch.number for epoch in epochs]
    axes.plot(numbers, [100 * epoch.train.root_accuracy for epoch in epochs], "o--", color="C0", label="in training")
    axes.plot(numbers, [100 * epoch.test.root_accuracy for epoch in epochs], "o-", color="C1", label="held out")
    for name, accuracy in baselines.items():
        axes.axhline(100 * accuracy, color="0.6", linewidth=1)
        axes.annotate(name, (numbers[0], 100 * accuracy), va="bottom", fontsize="small", color="0.35")
    axes.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 100), xticks=numbers)
    axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def syntax_tree_demo(
    options: TrainingOptions, embedding: int, dim: int, dropout: float, out: Path, say: Callable[[str], None]
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
    model = ChildSumTreeClassifier(len(task.vocabulary), len(task.modules), embedding, dim, dropout)
    epochs = []
    for epoch in train(model, task.train, task.held_out, options):
        epochs.append(epoch)
        say(
            f"epoch {epoch.number:2}  loss {epoch.train.loss:.3f}  accuracy {epoch.train.root_accuracy:6.1%}  "
            f"held out {epoch.test.root_accuracy:6.1%}  {epoch.examples_per_second:,.0f} examples/s"
        )
    (batch, *_) = minibatches(task.train, options.batch_size, shuffle=True, seed=options.seed)
    rate = sorted(epoch.examples_per_second for epoch in epochs)[len(epochs) // 2]
    report = batching_report(model, batch, rate, options.seed)
    curve = out / "curve.png"
    lines = {name.replace("the same", "bag of nodes"): accuracy for name, accuracy in baselines.items()}
    draw_learning_curve(epochs, lines, curve)

    accuracies = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in baselines.items())
    say("")
    say(f"held-out accuracy {100 * epochs[-1].test.root_accuracy:.1f} %   ({accuracies})")
    for line in report:
        say(line)
    say(f"learning curve: {curve}")
