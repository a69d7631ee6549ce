"""Growth: `python -m benchmarks growth` measures the time per node as recordings grow, from 10³ nodes on.

First whole training steps of a chain model of tiny width, whose time is that of the machinery (10⁷ nodes take 4 GB);
then the stages list → tape → schedule → plan alone, on tapes that repeat a recorded one. Larger recordings are more
examples, of the same lengths on average.

*Growth* is how much longer a node takes at some size than at a smaller one, at worst. It leaves out what small sizes
pay for: the fixed cost of launches, which few nodes share.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn, optim
from autobatch.explain.profile import Profile
from autobatch.record.assemble import assemble
from autobatch.record.tape import Recording, state
from autobatch.schedule.place import place
from autobatch.schedule.schedule import schedule
from autobatch.schedule.structures import Tape
from benchmarks import measure

STAGES = ("list → tape", "tape → schedule", "schedule → plan")
BASE_NODES = 100_000  # of the recording that larger tapes repeat
DIM = 4


class Chain(nn.Module):
    """A cell along a chain: the least arithmetic for its nodes."""

    def __init__(self) -> None:
        self.w = ab.Parameter(np.random.default_rng(0).normal(0, 0.1, size=(DIM, DIM)).astype(np.float32))

    @ab.cell
    def advance(self, x: ab.Tensor) -> ab.Tensor:
        return ab.tanh(self.w @ x + 0.5)

    def loss(self, length: int) -> ab.Tensor:
        x = ab.zeros(DIM)
        for _ in range(length):
            x = self.advance(x)
        return ab.sum(x)


def lengths(n_nodes: int) -> list[int]:
    """Lengths of chains with so many nodes in all, or a few more: a node a step, and one for the sum."""
    rng = np.random.default_rng(0)
    drawn: list[int] = []
    while sum(drawn) + len(drawn) < n_nodes:
        drawn += rng.integers(5, 35, size=max((n_nodes - sum(drawn)) // 20, 1)).tolist()
    return drawn


def step_growth(sizes: Sequence[int]) -> list[dict[str, float]]:
    """Microseconds a node of training steps, by stage."""
    model = Chain()
    optimizer = optim.SGD(model.parameters(), lr=1e-3)

    def step(chains: list[int]) -> Profile:
        optimizer.zero_grad()
        with ab.profile() as prof:
            loss = ab.sum(ab.map(model.loss, chains))
            loss.backward()
            optimizer.step()
        return prof

    figures = []
    for size in sizes:
        chains = lengths(size)
        taken = []
        for _ in range(_repeats(size)):
            gc.collect()
            start = time.perf_counter()
            prof = step(chains)
            taken.append((time.perf_counter() - start, prof))
        seconds, prof = sorted(taken, key=lambda pair: pair[0])[len(taken) // 2]
        stages = {stage: 1e6 * each / prof.nodes for stage, each in prof.seconds.items()}
        figures.append({"nodes": prof.nodes, "all": 1e6 * seconds / prof.nodes, **stages})
    return figures


def _repeats(size: int) -> int:
    return 9 if size <= 10_000 else 5 if size <= 100_000 else 3


def recorded(n_nodes: int) -> tuple[Tape, list[Any]]:
    """Tape and signatures of a recording of so many nodes that is never run."""
    results = ab.map(Chain().loss, lengths(n_nodes))
    recording = state.tape
    assert recording is not None
    tape = assemble(recording, [result._id for result in results])
    state.tape = None
    return tape, list(recording.signatures)


def repeated(tape: Tape, times: int) -> Tape:
    """A tape that holds another so many times."""

    def bounds(starts: np.ndarray) -> Any:
        shifted = starts[:-1][None, :] + starts[-1] * np.arange(times)[:, None]
        return np.append(shifted.ravel(), starts[-1] * times).astype(np.int32)

    def values(numbers: np.ndarray) -> Any:
        return (numbers[None, :] + tape.value_of[-1] * np.arange(times)[:, None]).ravel().astype(np.int32)

    return dataclasses.replace(
        tape,
        sig=np.tile(tape.sig, times),
        slot_of=bounds(tape.slot_of),
        arg_of=bounds(tape.arg_of),
        args=values(tape.args),
        value_of=bounds(tape.value_of),
        int_of=bounds(tape.int_of),
        float_of=bounds(tape.float_of),
        ints=np.tile(tape.ints, times),
        floats=np.tile(tape.floats, times),
        roots=values(tape.roots),
    )


def as_recording(tape: Tape, signatures: Sequence[Any]) -> Recording:
    """The lists that a recording of this tape would hold; its slots are all of one value."""
    recording = Recording(False, False)
    recording.signatures = list(signatures)
    recording.stream.extend(np.insert(tape.args, tape.arg_of[tape.slot_of[:-1]], tape.sig).tolist())
    recording.ints.extend(tape.ints.tolist())
    recording.floats.extend(tape.floats.tolist())
    recording.places.extend([0] * tape.sig.size)
    return recording


def stage_growth(sizes: Sequence[int]) -> list[dict[str, float]]:
    """Microseconds a node of each stage between recording and execution."""
    ab.evaluate(ab.map(Chain().loss, [3]))  # what is compiled is compiled now
    figures = []
    for size in sizes:
        base, signatures = recorded(min(size, BASE_NODES))
        tape = repeated(base, max(size // base.sig.size, 1))
        recording = as_recording(tape, signatures)
        roots = tape.roots.tolist()
        taken: list[list[float]] = []
        for _ in range(
            max(_repeats(size), 7)
        ):  # the first two find fresh memory: results of one go after the next began
            gc.collect()
            marks = [time.perf_counter()]
            made = assemble(recording, roots)
            marks.append(time.perf_counter())
            launches = schedule(made)
            marks.append(time.perf_counter())
            place(made, launches)
            marks.append(time.perf_counter())
            taken.append([1e6 * (b - a) / tape.sig.size for a, b in itertools.pairwise(marks)])
        each = [statistics.median_low(column) for column in zip(*taken, strict=True)]
        figures.append({"nodes": tape.sig.size, "all": sum(each), **dict(zip(STAGES, each, strict=True))})
    return figures


def growth_of(figures: Sequence[dict[str, float]]) -> float:
    """How much longer a node takes at some size than at a smaller one, at worst.

    >>> growth_of([{"all": 3.0}, {"all": 2.0}, {"all": 2.5}])
    1.25
    """
    times = [figure["all"] for figure in figures]
    return max(late / min(times[: k + 1]) for k, late in enumerate(times))


def main(arguments: Sequence[str]) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks growth", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000_000, help="nodes of the largest training step")
    parser.add_argument("--stages", type=int, default=10_000_000, help="nodes of the largest tape")
    parser.add_argument("--quick", action="store_true", help="a tenth of these")
    parser.add_argument("--out", metavar="FILE", help="keep the figures there")
    options = parser.parse_args(arguments)
    text: list[str] = []
    figures: dict[str, Any] = {}
    for name, largest, run in (
        ("training steps", options.steps, step_growth),
        ("stages between recording and execution", options.stages, stage_growth),
    ):
        sizes = [10**k for k in range(3, 9) if 10**k <= largest // (10 if options.quick else 1)]
        rows = run(sizes)
        stages = list(dict.fromkeys(stage for row in rows for stage in row if stage not in ("nodes", "all")))
        table = [[f"{row['nodes']:,.0f} nodes", *(f"{row[s]:.3f}" for s in ("all", *stages))] for row in rows]
        text.append(measure.table(f"{name}: microseconds a node", ["", "all", *stages], table))
        text.append(f"growth: {growth_of(rows):.2f} x\n")
        figures[name] = rows
    growth = {name: growth_of(rows) for name, rows in figures.items()}
    print("\n".join(text))
    if options.out:
        result = {"growth": growth, "figures": figures, "text": "\n".join(text)}
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    return 0
