"""What each program costs: batched, with its decisions taken from a teacher, one by one, and in PyTorch.

Forced are values needed at once inside `ab.map`; launches are those of the forward pass. A
step is one minibatch, gradients included where the program trains; every step has other examples, and all ways have the
same ones. Medians, interleaved, one thread. `/ teacher` is time batched over that with a teacher, the other ratios are
how many times longer the others take than batched.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from typing import Any

import autobatch as ab
from benchmarks import measure
from benchmarks.decisions import PROGRAMS
from benchmarks.decisions.program import Program
from benchmarks.twins import BATCHED, LOOP, N_WARM, SECONDS, TORCH_LOOP, asked
from benchmarks.workload import minibatches

TEACHER = "teacher"


def ways(program: Program) -> dict[str, Callable[[Sequence[Any]], object]]:
    """What is compared: functions of a minibatch."""
    model = program.model()
    found: dict[str, Callable[[Sequence[Any]], object]] = {
        BATCHED: lambda batch: program.outcomes(model, batch, batched=True),
        LOOP: lambda batch: program.outcomes(model, batch, batched=False),
    }
    if program.teacher is not None:
        found[TEACHER] = lambda batch: program.outcomes(model, batch, batched=True, method=program.teacher)
    try:
        twin = program.twin(model)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return found
    return found | {TORCH_LOOP: lambda batch: program.twins_outcomes(twin, batch)}


def counts(program: Program, examples: Sequence[Any]) -> tuple[int, int]:
    """Values that are forced in a step, and its launches, once everything is compiled."""
    model = program.model()
    program.outcomes(model, examples, batched=True)
    with ab.profile() as profile:
        program.outcomes(model, examples, batched=True)
    return sum(times for times, _ in profile.forced.lines.values()), profile.launches


def measured(program: Program, n_examples: int, n_steps: int) -> dict[str, Any]:
    """The row of one program."""
    batches = minibatches(program.examples(n_examples * (N_WARM + n_steps)), n_examples)
    forced, launches = counts(program, batches[0])

    def timed(way: str, run: Callable[[Sequence[Any]], object]) -> measure.Program:
        def step(k: int) -> None:
            run(batches[k])

        return measure.Program(way, step, warm=N_WARM)

    compared = [timed(*item) for item in ways(program).items()]
    running = measure.warm_up(compared, SECONDS)
    for each in running:
        each.every = max(1, math.ceil(n_steps * each.took / SECONDS))
    gc.collect()
    measure.take_turns(running, N_WARM, n_steps)
    times = {each.name: each.milliseconds for each in running}
    failed = [f"{each.name}: {each.failure}" for each in compared if each.failure]
    row = {"title": program.title, "examples": n_examples, "forced": forced, "launches": launches}
    return row | {"milliseconds": times, "failed": failed}


def text_of(rows: Sequence[dict[str, Any]]) -> str:
    """The table."""
    lines: list[list[object]] = []
    for row in rows:
        times = row["milliseconds"]

        def ratio(a: str, b: str, times: dict[str, float] = times) -> float | None:
            return times[a] / times[b] if a in times and b in times else None

        ratios = [ratio(BATCHED, TEACHER), ratio(LOOP, BATCHED), ratio(TORCH_LOOP, BATCHED)]
        shown = [times.get(way) for way in (BATCHED, TEACHER, LOOP, TORCH_LOOP)]
        lines.append([row["title"], row["examples"], row["forced"], row["launches"], *shown, *ratios])
    header = ["", "examples", "forced", "launches", f"{BATCHED}, ms", TEACHER, LOOP, TORCH_LOOP]
    header += [f"/ {TEACHER}", f"x {LOOP}", f"x {TORCH_LOOP}"]
    text = measure.table("\ndecisions: a step, float32, one thread, medians", header, lines)
    return "\n".join([text, *(f"FAILED: {row['title']}: {what}" for row in rows for what in row["failed"])])


def main(arguments: Sequence[str]) -> int:
    """Measure and print; returns 3 if a program failed."""
    names = sorted({program.file for program in PROGRAMS})
    options = asked("decisions", __doc__, names, "examples", arguments)
    chosen = [program for program in PROGRAMS if not options.names or program.file in options.names]
    rows = [measured(program, options.examples or program.n_examples, options.steps) for program in chosen]
    print(text_of(rows))
    if options.save:
        print(f"kept as {measure.save('decisions', {'rows': rows})}")
    return 3 if any(row["failed"] for row in rows) else 0
