"""The figures of a profile as a table, in HTML, as a plot and as a trace."""

from __future__ import annotations

import html
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import MissingExtraError, user_error
from ..base.notebooks import table

if TYPE_CHECKING:
    from .profile import Profile

Span = tuple[str, str, float, float]
"""A stage or kernel; "stage", "forward" or "backward"; begin and end in seconds."""

Rows = list[tuple[str, ...]]

STAGES = ("record", "assemble", "shared", "expand", "schedule", "place", "allocate", "forward", "reverse", "update")

_STAGE_HEADS = ("stage", "ms", "share")
_KERNEL_HEADS = ("kernel", "launches", "nodes", "ms", "bytes copied", "read in place")

_LEGEND = {
    "record": "your Python code and the recording of its ops",
    "assemble": "the recording becomes integer arrays",
    "shared": "what depends on parameters alone",
    "expand": "cells are found, joined and cut",
    "schedule": "nodes are assigned to launches",
    "place": "values are assigned to rows of memory",
    "allocate": "memory and host inputs",
    "forward": "launches, and compilation of new kernels",
    "reverse": "launches backwards, and gradients of parameters",
    "update": "the optimiser",
    "bound": "launches that no order can do without",
    "bytes copied": "of rows that were scattered, and copied side by side for a matmul or call",
    "read in place": "of rows read where they lie; each time that one is read, forward and backward",
}


def _stages(profile: Profile) -> list[tuple[str, float]]:
    names = (*STAGES, *(s for s in profile.seconds if s not in STAGES))
    return [(name, profile.seconds[name]) for name in names if name in profile.seconds]


def _kernels(profile: Profile) -> list[tuple[str, int, int, float, int, int]]:
    """Name, launches, nodes, seconds, bytes copied and read in place, those with most nodes first."""
    found = []
    for name, (launches, nodes) in sorted(profile.kernels.items(), key=lambda item: -item[1][1]):
        found.append((name, launches, nodes, profile.kernel_seconds.get(name, 0.0), *profile.kernel_bytes[name]))
    return found  # type: ignore[return-value]


def _rows(profile: Profile) -> tuple[Rows, Rows]:
    """What the table says of stages and of kernels, as text."""
    total = sum(profile.seconds.values())
    stages: Rows = [(s, f"{x * 1e3:.3f}", f"{x / total if total else 0.0:.1%}") for s, x in _stages(profile)]
    kernels: Rows = [
        (name, f"{launches:,}", f"{nodes:,}", f"{seconds * 1e3:.3f}", f"{copied:,}", f"{in_place:,}")
        for name, launches, nodes, seconds, copied, in_place in _kernels(profile)
    ]
    return stages, kernels


def _columns(rows: Rows, widths: tuple[int, ...]) -> list[str]:
    """Lines of text: the first column on the left, numbers on the right."""
    first, *others = widths
    return [
        f"{name:<{first}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, others, strict=True))
        for name, *cells in rows
    ]


def _summary(profile: Profile) -> list[str]:
    p = profile
    by = f" by {next(iter(p.schedules))}" if len(p.schedules) == 1 else ""
    lines = [
        f"{p.nodes:,} nodes → {p.launches:,} launches{by} (bound {p.bound:,}), {p.rows:,} rows read, "
        f"pools of {p.peak_bytes:,} bytes",
        f"{p.bytes_copied:,} bytes of rows copied for matmuls and calls, {p.bytes_in_place:,} read in place",
    ]
    lines += [f"{n:,} of them by {by}" for by, (_, n) in p.schedules.items() if len(p.schedules) > 1]
    lines += p.forced.describe(p.launches, p.together)
    if p.replayed:
        lines.append(f"recordings of {p.replayed:,} examples reused")
    if p.device_launches:
        lines.append(f"{p.device_launches:,} launches on the device, {p.launch_seconds * 1e6:.1f} µs of the host each")
    return lines


def _legend(profile: Profile) -> list[tuple[str, str]]:
    """What the words of the table mean, those that stand in it."""
    absent = {stage for stage in STAGES if stage not in profile.seconds}
    return [(word, meaning) for word, meaning in _LEGEND.items() if word not in absent]


def text(profile: Profile) -> str:
    """The table, and what its words mean."""
    stages, kernels = _rows(profile)
    lines = [
        *_columns([_STAGE_HEADS, *stages], (12, 10, 8)),
        *_summary(profile),
        *_columns([_KERNEL_HEADS, *kernels], (28, 10, 10, 10, 16, 16)),
    ]
    return "\n".join([*lines, "", *(f"{word}: {meaning}" for word, meaning in _legend(profile))])


def html_tables(profile: Profile) -> str:
    """The table for a notebook."""
    stages, kernels = _rows(profile)
    return "".join([
        "<div>",
        table(stages, _STAGE_HEADS, numbers=1),
        *(f"<p>{html.escape(line)}</p>" for line in _summary(profile)),
        table(kernels, _KERNEL_HEADS, numbers=1),
        f"<details><summary>what this means</summary>{table(_legend(profile))}</details></div>",
    ])  # fmt: skip


def trace(profile: Profile, path: str | os.PathLike[str]) -> None:
    """Write the Chrome trace: complete events of stages and launches, in microseconds, and a counter of memory."""
    start = min((begin for _, _, begin, _ in profile.spans), default=0.0)
    process, thread = os.getpid(), threading.get_ident() & 0x7FFFFFFF
    where: dict[str, Any] = {"pid": process, "tid": thread}
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", **where, "args": {"name": "autobatch"}},
        {"name": "thread_name", "ph": "M", **where, "args": {"name": "stages and launches"}},
    ]
    for name, kind, begin, end in sorted(profile.spans, key=lambda span: (span[2], -span[3])):
        times = {"ts": (begin - start) * 1e6, "dur": (end - begin) * 1e6}
        events.append({"name": name, "cat": kind, "ph": "X", **times, **where, "args": {"kind": kind}})
    for when, n_bytes in profile.memory:
        times = {"ts": (when - start) * 1e6}
        events.append({"name": "memory", "ph": "C", **times, "pid": process, "args": {"bytes": n_bytes}})
    content = {"traceEvents": events, "displayTimeUnit": "ms"}
    Path(path).write_text(json.dumps(content), encoding="utf-8")


def plot(profile: Profile, path: str | os.PathLike[str]) -> None:
    """Draw bars of stages and kernels, and memory over time."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        repair = 'pip install "autobatch-compiler[demo]"'
        raise user_error(MissingExtraError, "profile.plot: matplotlib is not installed", repair=repair) from error
    figure = Figure(figsize=(8, 7), layout="constrained")
    above, middle, below = figure.subplots(3)
    kernels = sorted(_kernels(profile), key=lambda kernel: -kernel[3])[:12]
    for axes, title, bars in (
        (above, "stages", _stages(profile)),
        (middle, "kernels, forward and backward", [(kernel[0], kernel[3]) for kernel in kernels]),
    ):
        axes.barh([name for name, _ in bars], [seconds * 1e3 for _, seconds in bars])
        axes.invert_yaxis()
        axes.set(title=title, xlabel="milliseconds")
    first = profile.memory[0][0] if profile.memory else 0.0
    times, sizes = [(when - first) * 1e3 for when, _ in profile.memory], [n / 1e6 for _, n in profile.memory]
    below.step(times, sizes, where="post")
    below.set(title="memory: values, residuals, cotangents and gradients", xlabel="milliseconds", ylabel="megabytes")
    below.set_ylim(bottom=0)
    figure.savefig(path)
