"""What the device does in one step, call by call: a device that marks a moment before and after each of its calls.

The step is run twice: as it comes, which shows gaps in which the device waits for the host, and behind a kernel that
holds the queue until all has been launched, which leaves the device's own time. A mark costs the device about a
microsecond, and the host a few: gaps are longer than in a step that nobody looks at. A queue holds some thousand
entries, and each call is three: of a step of many hundred calls only the beginning is free of the host.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.gpu.place import Clock

VERBS = ("launch", "gemm", "zero", "copy", "upload", "argsort")
MOST_SHOWN = 600


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its name, multiplications and additions where it is a product, moments before and after."""

    name: str
    n_operations: int
    start: Any
    end: Any


def watched(device_class: type) -> Any:
    """A device of this class that keeps its calls in `calls` while `clock` is one."""
    names: dict[int, str] = {}

    def kernel(self: Any, source: str, name: str) -> Any:
        found = device_class.kernel(self, source, name)  # type: ignore[attr-defined]
        names[id(found)] = name  # the device keeps it
        return found

    members: dict[str, Any] = {"clock": None, "calls": [], "kernel": kernel}
    members |= {verb: _marked(verb, getattr(device_class, verb), names) for verb in VERBS}
    return type(f"Watched{device_class.__name__}", (device_class,), members)()


def _marked(verb: str, call: Callable[..., Any], names: dict[int, str]) -> Callable[..., Any]:
    def marked(self: Any, *arguments: Any) -> Any:
        if self.clock is None:
            return call(self, *arguments)
        start = self.clock.mark()
        found = call(self, *arguments)
        self.calls.append(Call(*_described(verb, arguments, names), start, self.clock.mark()))
        return found

    return marked


def _described(verb: str, arguments: tuple[Any, ...], names: dict[int, str]) -> tuple[str, int]:
    if verb == "launch":
        return names.get(id(arguments[0]), verb), 0
    if verb == "gemm":
        (n, k, p), count = arguments[0], arguments[6] if len(arguments) > 6 else 1
        return f"{'' if count == 1 else f'{count} '}gemm {n}x{k}x{p}", 2 * count * n * k * p
    return verb, 0


def timeline(device: Any, clock: Clock, step: Callable[[], Any], host_milliseconds: float) -> dict[str, Any]:
    """Run a step twice on a watched device that is in use, and say where the time went."""
    free, held = (_calls(device, clock, step, hold) for hold in (0.0, 3.0 * host_milliseconds + 2.0))
    return {"free": spans(free, clock), "held": spans(held, clock), "kinds": kinds(held, clock)}


def _calls(device: Any, clock: Clock, step: Callable[[], Any], hold: float) -> list[Call]:
    clock.synchronize()
    device.calls = []
    if hold:
        clock.hold(hold)
    device.clock = clock
    try:
        step()
    finally:
        device.clock = None
    clock.synchronize()
    return list(device.calls)


def spans(calls: list[Call], clock: Clock) -> dict[str, Any]:
    """Microseconds: the whole, what calls took, gaps between them and the longest of these; then call by call."""
    if not calls:
        return {"calls": 0}
    origin = calls[0].start
    each = [
        (call.name, round(1e3 * clock.milliseconds(origin, call.start), 2), _microseconds(call, clock))
        for call in calls
    ]
    gaps = [(round(1e3 * clock.milliseconds(a.end, b.start), 2), f"{a.name} → {b.name}") for a, b in pairwise(calls)]
    return {
        "calls": len(calls),
        "whole": round(1e3 * clock.milliseconds(origin, calls[-1].end), 2),
        "busy": round(sum(took for *_, took in each), 2),
        "gaps": round(sum(gap for gap, _ in gaps), 2),
        "longest gaps": sorted(gaps, reverse=True)[:8],
        "each": each[:MOST_SHOWN],
    }


def kinds(calls: list[Call], clock: Clock) -> list[dict[str, Any]]:
    """Calls of one name together, those that take most first; TFLOP/s of products."""
    by_name: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_name[call.name].append(call)
    found = []
    for name, same in by_name.items():
        total = sum(_microseconds(call, clock) for call in same)
        n_operations = sum(call.n_operations for call in same)
        rate = 1e-6 * n_operations / total if n_operations and total else None
        found.append({"name": name, "calls": len(same), "microseconds": round(total, 2), "TFLOP/s": rate})
    return sorted(found, key=lambda kind: -kind["microseconds"])


def _microseconds(call: Call, clock: Clock) -> float:
    return round(1e3 * clock.milliseconds(call.start, call.end), 2)
