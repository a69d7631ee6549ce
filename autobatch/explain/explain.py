"""explain: a recording or a cell at any stage, as text.

Once per signature: graph → batch → vjp → split → fuse → lower. For every minibatch: tape → expand → schedule → place.
Nothing is run: what is pending is assembled and scheduled as a copy.

    3 launches of 6 nodes, by frontier; 8 of 8 recorded nodes are live; pending
      launch  nodes  signature
           0      2  matmul(f32[3], shared f32[2, 3])  first at model.py:7 in score
           1      2  tanh(f32[2])                      first at model.py:7 in score
           2      2  sum(f32[2], (-1,), False)         first at model.py:7 in score
    3 launches of 6 nodes (no order needs fewer than 3): one for each of 3 ops
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backends import current_backend
from ..backends.transfer import DEVICES
from ..base.errors import CellError, user_error
from ..base.types import short_dtype
from ..ir.simplify import simplify
from ..ir.vjp import differentiable, vjp
from ..record.shared import Shared, SharedExpression, in_order
from ..record.signature import Signature
from ..record.tensor import RecordedTensor, iterate_tensors
from .inspection import Inspected, inspect_recordings
from .reasons import counted, reasons_of, why_not_together

_SHOWN = 40


def explain(x: Any, stage: str = "schedule") -> str:
    """The recorded program that leads to `x`, at a stage, as text. Nothing is run.

    x: a tensor or nested tensors, pending or executed; or a cell that has been called, for the stages of a signature.

    stage: for each signature "graph" (the ops of one example), "batch" (of a whole launch), "vjp" (continued by
    cotangents), "split" (the programs that run at different times), "fuse" (loops and calls), "lower" (their source);
    for the recording "tape" (what was recorded), "expand", "schedule" (launches, beside the fewest possible, and why
    there are not fewer), "place" (rows of the values, what is read as one block and what is gathered), "reasons" (why
    there are not fewer launches, and what values forced inside `ab.map` cost; for a list of two tensors: why these two
    were or were not run together).

    A pending recording is shown as it would run if nothing else were asked of it. Raises `ValueError` for another
    stage, `OpTypeError` where `x` holds no tensor, `CellError` for a cell that was not traced, or one with a stage of
    recordings.

    >>> a, b, c = ab.map(lambda x: ab.tensor(x) * 2.0, [1.0, 2.0, [3.0, 4.0]])
    >>> print(ab.explain([a, b, c], stage="reasons"))
    2 launches of 3 nodes (no order needs fewer than 2): one for each of 1 op, and 1 more
           1  mul: operand 1 differs, f32[] / f32[2]
    >>> print(ab.explain([a, b], stage="reasons").splitlines()[-1])
    one launch: number 0, of 2 nodes
    """
    if stage not in STAGES:
        raise user_error(ValueError, "explain: there is no such stage", expected=", ".join(STAGES), got=repr(stage))
    cell = getattr(x, "cell", None)
    if cell is not None:
        return _explain_cell(cell, getattr(x, "__self__", None), stage)
    tensors = list(iterate_tensors(x))
    if not tensors and isinstance(x, Shared):
        return f"{x!r}: computed from parameters and constants alone, computed once for all examples, in no launch"
    if stage == "reasons" and isinstance(x, list | tuple) and [*map(type, x)] == [RecordedTensor] * 2:
        return why_not_together(x[0], x[1])
    recordings = inspect_recordings(x)
    if stage in _KERNEL_STAGES:
        return _explain_signatures(_signatures(recordings), stage, recordings[-1].backend)
    if stage == "reasons":
        return str(reasons_of(recordings))
    parts = [_RECORDING_STAGES[stage](r) for r in recordings]
    if len(parts) > 1:
        parts = [f"recording {k + 1} of {len(parts)}\n{part}" for k, part in enumerate(parts)]
    if stage == "schedule" and (forced := reasons_of(recordings).about_forced()):
        parts.append("\n".join(forced))
    return "\n\n".join(parts)


# Once per signature.

Chosen = dict[Signature, tuple[int, bool]]
"""Signatures with the number of their nodes, and whether some of these are differentiated."""


def _signatures(recordings: Sequence[Inspected]) -> Chosen:
    chosen: Chosen = {}
    for r in recordings:
        counts = np.bincount(r.tape.sig[r.schedule.nodes], minlength=len(r.signatures))
        for s in r.kernels:
            before, differentiated = chosen.get(r.signatures[s], (0, False))
            chosen[r.signatures[s]] = before + int(counts[s]), differentiated or r.differentiated(s)
    return chosen


def _explain_cell(cell: Any, owner: Any, stage: str) -> str:
    if stage not in _KERNEL_STAGES:
        what = f"explain: a cell has no stage {stage!r}"
        raise user_error(CellError, what, expected=", ".join(_KERNEL_STAGES), repair="pass a tensor that the cell gave")
    traced = [entry.signature for entry in cell.traced(owner)]
    if not traced:
        raise user_error(CellError, f"explain: cell {cell.name} has not been traced", repair="call it once")
    chosen = {s: (0, not s.frozen) for s in dict.fromkeys(traced)}
    return _explain_signatures(chosen, stage, current_backend())


def _explain_signatures(chosen: Chosen, stage: str, backend: str) -> str:
    parts = []
    for signature, (n_nodes, differentiated) in chosen.items():
        nodes = f": {counted(n_nodes, 'node', 'nodes')}" if n_nodes else ""
        lines = _explain_signature(signature, stage, differentiated, backend).splitlines()
        parts.append("\n".join([f"{signature}{nodes}", *(f"  {line}" if line else "" for line in lines)]))
    return "\n\n".join(parts) or "nothing is launched"


def _explain_signature(signature: Signature, stage: str, differentiated: bool, backend: str) -> str:
    kernel, batched = signature.kernel, signature.kernel.batched
    if stage == "graph":
        return str(signature.graph)
    if stage == "batch":
        return str(batched)
    if stage == "vjp":
        if not differentiated:
            return "constant: it has no derivative"
        return str(simplify(vjp(batched, differentiable(batched, signature.trainable, signature.constant)).graph)[0])
    if stage == "split":
        pieces = kernel.device_pieces if backend in DEVICES else kernel.pieces
        return str(pieces) if differentiated else f"inference:\n{batched}"
    names = ["inference"]
    if differentiated:  # without those that have nothing to do
        names = [p for p in ("forward", "backward", "final") if kernel.graph_of(p).outputs]
    if stage == "fuse":
        return "\n\n".join(f"{p}:\n{kernel.steps(p, backend)}" for p in names)
    return "\n\n".join(kernel.text(p, backend) for p in names)


# For every minibatch.


def _tape(r: Inspected) -> str:
    return "\n".join([str(r.recorded), *(f"  signature {k}: {s}" for k, s in enumerate(r.recording.signatures))])


def _expand(r: Inspected) -> str:
    if r.expansion.origin is None:
        return f"every call is one piece, and no nodes are joined: the tape stays as it was recorded\n{_tape(r)}"
    lines = [str(r.tape)]
    for k, s in enumerate(r.signatures):
        joined = f" joins {len(s.members)} nodes: {' '.join(m.name for m in s.members)}" if s.members else ""
        lines.append(f"  signature {k}: {s}{joined}")
    return "\n".join(lines)


def _schedule(r: Inspected) -> str:
    schedule = r.schedule
    n_launches, n_nodes = schedule.launch_sig.size, schedule.nodes.size
    live = f"{int(schedule.live.sum()):,} of {schedule.live.size:,} recorded nodes are live; {r.status}"
    if r.unbatched:
        return f"{n_nodes:,} nodes one by one (batched=False); {live}"
    counts = f"{counted(n_launches, 'launch', 'launches')} of {counted(n_nodes, 'node', 'nodes')}"
    lines = [f"{counts}, by {schedule.by}; {live}"]
    rows = []
    for number, size in enumerate(np.diff(schedule.launch_of)[:_SHOWN].tolist()):
        where = r.where(int(schedule.nodes[schedule.launch_of[number]]))
        rows.append((number, size, str(r.signatures[schedule.launch_sig[number]]), where))
    width = max((len(text) for _, _, text, where in rows if where), default=0)
    lines += ["  launch  nodes  signature"] if rows else []
    for number, size, text, where in rows:
        lines.append(f"  {number:>6}  {size:>5,}  {text:<{width}}  {f'first at {where}' if where else ''}".rstrip())
    if n_launches > _SHOWN:
        lines.append(f"  … and {n_launches - _SHOWN:,} more")
    values = in_order(x for s in r.kernels for x in r.signatures[s].shared)
    if n := sum(isinstance(x, SharedExpression) for x in values):
        lines.append(f"  {counted(n, 'op', 'ops')} on parameters and constants alone, run once before the first launch")
    if n_links := len(r.links):
        lines.append(f"  {counted(n_links, 'value', 'values')} of earlier recordings, with their gradients")
    return "\n".join([*lines, *reasons_of([r]).about_launches()])


def _place(r: Inspected) -> str:
    if r.unbatched:
        return "every value is an array of its own (batched=False)"
    plan = r.plan
    lines = []
    for pool, ((width, dtype), n_rows) in enumerate(zip(r.tape.pools, plan.pool_rows.tolist(), strict=True)):
        kind = np.dtype(dtype)
        lines.append(f"  pool {pool}: {counted(n_rows, 'row', 'rows')} of {width} {short_dtype(kind)}, "
                     f"{n_rows * width * kind.itemsize:,} bytes")  # fmt: skip
    gathered = np.flatnonzero(plan.block < 0)
    rows = np.diff(plan.rows_of)[gathered]
    types = [slot.type for s in r.schedule.launch_sig for slot in r.signatures[s].slots]
    n_bytes = sum(int(n) * types[a].width * types[a].dtype.itemsize for a, n in zip(gathered, rows, strict=True))
    lines.append(
        f"  reads: {counted(plan.block.size - gathered.size, 'operand', 'operands')} as one block, {gathered.size:,} "
        f"gathered ({counted(int(rows.sum()), 'row', 'rows')}, {n_bytes:,} bytes)"
    )
    return "\n".join([str(plan), *lines])


_KERNEL_STAGES = ("graph", "batch", "vjp", "split", "fuse", "lower")
_RECORDING_STAGES: dict[str, Callable[[Inspected], str]] = {
    "tape": _tape, "expand": _expand, "schedule": _schedule, "place": _place,
}  # fmt: skip
STAGES = (*_KERNEL_STAGES, *_RECORDING_STAGES, "reasons")
"""What `explain` knows, in the order in which the stages run."""
