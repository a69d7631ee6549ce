"""Models written for one example, beside twins by hand in PyTorch: `python -m benchmarks lengths`, and alike.

A folder of this package holds, for each name in the `PROGRAMS` of its `__init__.py`,

    NAME.py         PROGRAM: a model as a user of autobatch writes it, examples drawn from a fixed seed, a width
    NAME_torch.py   TWINS: classes of `TorchTrainer` with the same parameters under the same names

The table has a row for each program: launches of a training step and the least possible, milliseconds of a step
(batched, one by one, each twin; medians, interleaved, one thread, every step another minibatch), and the others'
times as multiples of the batched one. A row is void where the losses of the first steps differ.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import math
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import measure
from benchmarks.validity import disagreements
from benchmarks.workload import Trainer, minibatches

BATCHED, LOOP = "batched", "one by one"
TORCH_LOOP, TORCH_PADDED = "pytorch, one by one", "pytorch, padded"
N_STEPS, N_WARM = 12, 3
SECONDS = 8.0  # what the timed steps of one program may take


@dataclass(frozen=True, slots=True)
class Program:
    """One model.

    title: for tables
    model: width → an `nn.Module` with a method `loss` of one example
    examples: n → that many examples, the same at every call
    dim: the width that is measured
    batch: examples in a minibatch
    """

    title: str
    model: Callable[[int], Any]
    examples: Callable[[int], list[Any]]
    dim: int = 64
    batch: int = 16


def load(folder: str, name: str) -> Program:
    """The program of this name."""
    program: Program = importlib.import_module(f"benchmarks.{folder}.{name}").PROGRAM
    return program


def trainers(folder: str, name: str, dim: int) -> dict[str, Trainer]:
    """All training programs that can run here, from the same starting point; the twins only where torch is there."""
    import autobatch as ab
    from autobatch.backends.transfer import to_host
    from benchmarks.autobatch_trainer import AutobatchTrainer

    def model() -> Any:
        ab.seed(1)
        return load(folder, name).model(dim)

    made: dict[str, Trainer] = {way: AutobatchTrainer(way, model(), way == BATCHED) for way in (BATCHED, LOOP)}
    try:
        twins = importlib.import_module(f"benchmarks.{folder}.{name}_torch").TWINS
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return made
    values = {key: to_host(p.value) for key, p in model().named_parameters()}
    return made | {twin.name: twin(values) for twin in twins}


def counts(trainer: Trainer, examples: Sequence[Any]) -> tuple[int, int]:
    """Launches of a training step once everything is compiled, and the least possible for these signatures."""
    import autobatch as ab

    trainer.loss_and_gradients(examples)
    with ab.profile() as profile:
        trainer.loss_and_gradients(examples)
    return profile.launches, profile.bound


def measured(folder: str, name: str, batch: int, n_steps: int) -> dict[str, Any]:
    """The row of one program."""
    program = load(folder, name)
    batches = minibatches(program.examples(batch * (N_WARM + n_steps)), batch)
    compared = trainers(folder, name, program.dim)

    def timed(way: str, trainer: Trainer) -> measure.Program:
        return measure.Program(way, lambda k: trainer.step(batches[k % len(batches)]), warm=N_WARM)

    running = measure.warm_up([timed(*item) for item in compared.items()], math.inf)
    void = disagreements(running) + [f"{way} failed" for way in compared if way not in [p.name for p in running]]
    for each in running:
        each.every = max(1, math.ceil(n_steps * each.took / SECONDS))
    gc.collect()
    measure.take_turns(running, N_WARM, n_steps)
    launches, bound = counts(compared[BATCHED], batches[0])
    times = {each.name: each.milliseconds for each in running}
    return {"title": program.title, "launches": launches, "bound": bound, "milliseconds": times, "void": void}


def text_of(folder: str, batch: int | None, rows: Sequence[dict[str, Any]]) -> str:
    """The table."""
    ways = (BATCHED, LOOP, TORCH_LOOP, TORCH_PADDED)
    lines: list[list[object]] = []
    for row in rows:
        times = row["milliseconds"]
        ratios = [times[way] / times[BATCHED] if way in times else None for way in ways[1:]]
        lines.append([row["title"], row["launches"], row["bound"], *map(times.get, ways), *ratios])
    header = ["", "launches", "bound", *(f"{way}, ms" for way in ways), *(f"x {way}" for way in ways[1:])]
    title = f"\n{folder}: a training step, float32, one thread, medians" + (f", batch {batch}" if batch else "")
    notes = [f"VOID: {row['title']}: {reason}" for row in rows for reason in row["void"]]
    return "\n".join([measure.table(title, header, lines), *notes])


def asked(command: str, text: str | None, names: Sequence[str], size: str, arguments: Sequence[str]) -> Namespace:
    """What the command line asks for; `size` names the number of examples in a minibatch. Prints the machine."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {command}", description=text)
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help=", ".join(names))
    parser.add_argument(f"--{size}", type=int, help="examples in a minibatch (default: each program's own number)")
    parser.add_argument("--steps", type=int, default=N_STEPS, help=f"timed steps of every program (default {N_STEPS})")
    parser.add_argument("--quick", action="store_true", help="two steps of four examples: does it run at all?")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args(arguments)
    if options.quick:
        options.steps = 2
        setattr(options, size, 4)
    for key, value in measure.machine().items():
        print(f"{key:9} {value}")
    return options


def main(folder: str, arguments: Sequence[str]) -> int:
    """Measure and print the programs of a folder; returns 3 if a row is void."""
    names: tuple[str, ...] = importlib.import_module(f"benchmarks.{folder}").PROGRAMS
    options = asked(folder, __doc__, names, "batch", arguments)
    rows = [
        measured(folder, name, options.batch or load(folder, name).batch, options.steps)
        for name in options.names or names
    ]
    print(text_of(folder, options.batch, rows))
    if options.save:
        print(f"kept as {measure.save(folder, {'rows': rows})}")
    return 3 if any(row["void"] for row in rows) else 0
