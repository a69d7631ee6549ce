"""A drawing of how accuracy grew from epoch to epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .optional import demo_package
from .training import Epoch

__all__ = ["draw_learning_curve"]


def draw_learning_curve(epochs: Sequence[Epoch], baselines: Mapping[str, float], path: Path) -> None:
    """Draw accuracy in training and on held-out examples, with baselines as level lines, into a PNG file.

    Arguments:
        epochs: what `train` gave.
        baselines: accuracies between 0 and 1 by what they are called.
        path: the file; its folder is made if it is not there.
    """
    matplotlib = demo_package("matplotlib")
    matplotlib.use("Agg")
    figure, axes = demo_package("matplotlib.pyplot").subplots(figsize=(7, 4.5), layout="constrained")
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
    demo_package("matplotlib.pyplot").close(figure)
