"""What a profile counts, on programs small enough to count by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab


class Pair:
    """Cells of one model: what they read is counted in float32, four numbers a row."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.w = ab.Parameter(rng.normal(size=(4, 4)).astype(np.float32))
        self.v = ab.Parameter(rng.normal(size=(8, 4)).astype(np.float32))

    @ab.cell
    def mapped(self, x: ab.Tensor) -> ab.Tensor:
        return x @ self.w

    @ab.cell
    def joined(self, x: ab.Tensor, y: ab.Tensor) -> ab.Tensor:
        return ab.concat([x, y]) @ self.v

    @ab.cell
    def added(self, x: ab.Tensor, y: ab.Tensor) -> ab.Tensor:
        return ab.tanh(x + y)


ROW = 4 * 4


def profiled(name: str, reads: list[tuple[int, ...]], n: int = 6) -> tuple[int, int]:
    """Bytes (copied, read in place) of one cell that reads these of n values from outside."""
    pair = Pair()
    with ab.profile() as prof, ab.no_grad():
        values = [ab.tensor(np.full(4, k, np.float32)) for k in range(n)]
        ab.evaluate([getattr(pair, name)(*(values[k] for k in read)) for read in reads])
    entries = [found for kernel, found in prof.kernel_bytes.items() if name in kernel]
    assert [sum(column) for column in zip(*prof.kernel_bytes.values(), strict=True)] == [
        prof.bytes_copied,
        prof.bytes_in_place,
    ]
    assert len(entries) == 1
    copied, in_place = entries[0]
    return copied, in_place


def test_a_product_reads_a_block_in_place_and_gathers_other_rows() -> None:
    assert profiled("mapped", [(k,) for k in range(6)]) == (0, 6 * ROW)
    assert profiled("mapped", [(0,), (2,), (1,), (3,), (4,), (5,)]) == (6 * ROW, 0)


def test_loops_read_rows_where_they_lie() -> None:
    assert profiled("added", [(0, 5), (3, 1), (2, 4)]) == (0, 6 * ROW)


def test_rows_put_side_by_side_are_copied() -> None:
    assert profiled("joined", [(0, 1), (2, 3), (4, 5)]) == (6 * ROW, 0)


def test_the_reverse_pass_counts_where_gradients_are_kept_for() -> None:
    pair = Pair()
    with ab.profile() as prof:
        values = [ab.tensor(np.full(4, k, np.float32)) for k in range(4)]
        pairs = zip(values, values[::-1], strict=True)
        loss = ab.sum(ab.stack([ab.sum(pair.added(pair.mapped(x), y)) for x, y in pairs]))
        loss.backward()
    copied, in_place = next(found for kernel, found in prof.kernel_bytes.items() if "added" in kernel)
    assert (copied, in_place) == (0, 2 * 8 * ROW)
    assert f"{in_place:,}" in prof.table()


def small_profile() -> Any:
    pair = Pair()
    with ab.profile() as prof:
        values = [ab.tensor(np.full(4, k, np.float32)) for k in range(4)]
        ab.sum([ab.sum(pair.mapped(pair.mapped(x))) for x in values]).backward()
    return prof


def test_launches_are_timed_forward_and_backward_by_kernel() -> None:
    prof = small_profile()
    kinds = {(name, kind) for name, kind, _, _ in prof.spans}
    assert {("mapped", "forward"), ("mapped", "backward"), ("schedule", "stage"), ("reverse", "stage")} <= kinds
    assert set(prof.kernel_seconds) == set(prof.kernels)
    assert sum(prof.kernel_seconds.values()) <= prof.seconds["forward"] + prof.seconds["reverse"]


def test_a_trace_is_nested_events_and_a_counter(tmp_path: Path) -> None:
    """The form that Perfetto and chrome://tracing read: complete events in microseconds, each inside of its stage."""
    prof = small_profile()
    prof.trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "C"}
    spans = [event for event in events if event["ph"] == "X"]
    assert len(spans) == len(prof.spans)
    open_until: list[float] = []
    for span in spans:
        assert set(span) == {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"}
        assert span["ts"] >= 0 and span["dur"] >= 0
        while open_until and open_until[-1] <= span["ts"] + 1e-3:
            open_until.pop()
        assert not open_until or span["ts"] + span["dur"] <= open_until[-1] + 1e-3
        open_until.append(span["ts"] + span["dur"])
    counts = [event for event in events if event["ph"] == "C"]
    assert len(counts) == len(prof.memory)
    assert all(isinstance(event["args"]["bytes"], int) for event in counts)


def test_memory_rises_where_a_recording_runs_and_falls_after_it() -> None:
    w = ab.Parameter(np.eye(64, dtype=np.float32))
    rows = np.ones((4096, 64), np.float32)
    with ab.profile() as prof:
        float((ab.tensor(rows) @ w).sum())
        float(ab.tensor(1.0) * w[0, 0])
    sizes = [n for _, n in prof.memory]
    assert max(sizes) - sizes[0] >= rows.nbytes
    assert sizes[-1] < max(sizes)


def test_a_profile_shows_itself_with_a_legend(tmp_path: Path) -> None:
    prof = small_profile()
    assert repr(prof) == prof.table()
    assert "bound: launches that no order can do without" in repr(prof)
    page = prof._repr_html_()
    assert page.count("<tr>") == page.count("</tr>") > 10
    assert "mapped" in page
    pytest.importorskip("matplotlib")
    prof.plot(tmp_path / "profile.svg")
    assert (tmp_path / "profile.svg").stat().st_size > 1000
