"""explain: a recording or a cell at any stage, as text or drawn.

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

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..backends import current_backend
from ..backends.transfer import DEVICES
from ..base.errors import CellError, user_error
from ..base.types import short_dtype
from ..ir.graph import Graph
from ..ir.simplify import simplify
from ..ir.vjp import differentiable, vjp
from ..record.shared import Shared, SharedExpression, in_order
from ..record.signature import Signature
from ..record.tensor import RecordedTensor, iterate_tensors
from .inspection import Inspected, inspect_recordings
from .page import page
from .picture import Picture, picture_of_graph, picture_of_launches, picture_of_tape
from .reasons import counted, reasons_of, why_not_together

_SHOWN = 40

Format = Literal["text", "dot", "html"]


def explain(x: Any, stage: str = "schedule", format: Format = "text") -> str:
    """The recorded program that leads to `x`, at a stage. Nothing is run.

    x: a tensor or nested tensors, pending or executed; or a cell that has been called, for the stages of a signature.

    stage: for each signature "graph" (the ops of one example), "batch" (of a whole launch), "vjp" (continued by
    cotangents), "split" (the programs that run at different times), "fuse" (loops and calls), "lower" (their source);
    for the recording "tape" (what was recorded), "expand", "schedule" (launches, beside the fewest possible, and why
    there are not fewer), "place" (rows of the values, what is read as one block and what is gathered), "reasons" (why
    there are not fewer launches, and what values forced inside `ab.map` cost; for a list of two tensors: why these two
    were or were not run together).

    format: "text"; "html", one page that loads nothing from elsewhere, with a drawing: levels and launches (the
    recorded nodes of a tape, the ops of a graph), coloured by signature, with source lines, and why a launch was not
    part of an earlier one; "dot", that drawing in the language of Graphviz.

    A pending recording is shown as it would run if nothing else were asked of it. Raises `ValueError` for another
    stage or format, and for "dot" of a stage that is a text alone; `OpTypeError` where `x` holds no tensor, `CellError`
    for a cell that was not traced, or one with a stage of recordings.

    >>> a, b, c = ab.map(lambda x: ab.tensor(x) * 2.0, [1.0, 2.0, [3.0, 4.0]])
    >>> print(ab.explain([a, b, c], stage="reasons"))
    2 launches of 3 nodes (no order needs fewer than 2): one for each of 1 op, and 1 more
           1  mul: operand 1 differs, f32[] / f32[2]
    >>> print(ab.explain([a, b], stage="reasons").splitlines()[-1])
    one launch: number 0, of 2 nodes
    >>> ab.explain([a, b, c], format="html").count("<rect")
    2
    """
    for what, given, known in (("stage", stage, STAGES), ("format", format, ("text", "dot", "html"))):
        if given not in known:
            raise user_error(
                ValueError, f"explain: there is no such {what}", expected=", ".join(known), got=repr(given)
            )
    recordings = functools.cache(lambda: inspect_recordings(x))
    text = "" if format == "dot" else _text(x, stage, recordings)
    if format == "text":
        return text
    pictures = _pictures(x, stage, recordings)
    if format == "html":
        return page(f"autobatch: {stage}", pictures, text)
    if not pictures:
        if stage not in _TEXT_ALONE:
            raise user_error(ValueError, "explain: there is nothing to draw", got=_text(x, stage, recordings))
        drawn = [s for s in STAGES if s not in _TEXT_ALONE]
        raise user_error(ValueError, "explain: there is no drawing of this stage", expected=", ".join(drawn), got=stage)
    return "\n\n".join(picture.dot(f"g{k + 1}") for k, picture in enumerate(pictures))


def _text(x: Any, stage: str, inspected: Callable[[], list[Inspected]]) -> str:
    cell = getattr(x, "cell", None)
    if cell is not None:
        return _explain_signatures(_traced(cell, getattr(x, "__self__", None), stage), stage, current_backend())
    if _is_shared(x):
        return f"{x!r}: computed from parameters and constants alone, computed once for all examples, in no launch"
    if stage == "reasons" and isinstance(x, list | tuple) and [*map(type, x)] == [RecordedTensor] * 2:
        return why_not_together(x[0], x[1])
    recordings = inspected()
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


def _pictures(x: Any, stage: str, inspected: Callable[[], list[Inspected]]) -> list[Picture]:
    """What is drawn of a stage, one for each recording or signature."""
    if stage in _TEXT_ALONE or _is_shared(x):
        return []
    cell = getattr(x, "cell", None)
    if cell is not None:
        chosen = _traced(cell, getattr(x, "__self__", None), stage)
    else:
        recordings = inspected()
        if stage == "tape":
            return [picture_of_tape(r, k) for k, r in enumerate(recordings)]
        if stage not in _KERNEL_STAGES:
            met: set[str] = set()
            pictures = []
            for k, r in enumerate(recordings):
                pictures.append(picture_of_launches(r, k, met))
                met.update(box.name for box in pictures[-1].boxes)
            return pictures
        chosen = _signatures(recordings)
    graphs = [(s, _graph(s, stage, differentiated)) for s, (_, differentiated) in chosen.items()]
    return [picture_of_graph(str(s), graph) for s, graph in graphs if graph is not None]


def _is_shared(x: Any) -> bool:
    return isinstance(x, Shared) and next(iterate_tensors(x), None) is None


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


def _traced(cell: Any, owner: Any, stage: str) -> Chosen:
    if stage not in _KERNEL_STAGES:
        what = f"explain: a cell has no stage {stage!r}"
        raise user_error(CellError, what, expected=", ".join(_KERNEL_STAGES), repair="pass a tensor that the cell gave")
    traced = [entry.signature for entry in cell.traced(owner)]
    if not traced:
        raise user_error(CellError, f"explain: cell {cell.name} has not been traced", repair="call it once")
    return {s: (0, not s.frozen) for s in dict.fromkeys(traced)}


def _explain_signatures(chosen: Chosen, stage: str, backend: str) -> str:
    parts = []
    for signature, (n_nodes, differentiated) in chosen.items():
        nodes = f": {counted(n_nodes, 'node', 'nodes')}" if n_nodes else ""
        lines = _explain_signature(signature, stage, differentiated, backend).splitlines()
        parts.append("\n".join([f"{signature}{nodes}", *(f"  {line}" if line else "" for line in lines)]))
    return "\n\n".join(parts) or "nothing is launched"


def _explain_signature(signature: Signature, stage: str, differentiated: bool, backend: str) -> str:
    if stage not in _TEXT_ALONE:
        return str(_graph(signature, stage, differentiated) or "constant: it has no derivative")
    kernel = signature.kernel
    if stage == "split":
        pieces = kernel.device_pieces if backend in DEVICES else kernel.pieces
        return str(pieces) if differentiated else f"inference:\n{kernel.inference}"
    names = ["inference"]
    if differentiated:  # without those that have nothing to do
        names = [p for p in ("forward", "backward", "final") if kernel.graph_of(p).outputs]
    if stage == "fuse":
        return "\n\n".join(f"{p}:\n{kernel.steps(p, backend)}" for p in names)
    return "\n\n".join(kernel.text(p, backend) for p in names)


def _graph(signature: Signature, stage: str, differentiated: bool) -> Graph | None:
    """The graph of a signature; None where it has no derivative."""
    if stage == "graph":
        return signature.graph
    batched = signature.kernel.batched
    if stage == "batch":
        return batched
    if not differentiated:
        return None
    return simplify(vjp(batched, differentiable(batched, signature.trainable, signature.constant)).graph)[0]


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
    plan, pools = r.plan, r.tape.pools
    n_launches = r.schedule.launch_sig.size
    lines = [
        f"{counted(n_launches, 'launch', 'launches')} and {counted(int((plan.start != -1).sum()), 'value', 'values')} "
        f"in {counted(len(pools), 'pool', 'pools')} of {plan.peak_bytes:,} bytes; a value is rows of the pool of its "
        "width and dtype"
    ]
    for pool, ((width, dtype), n_rows) in enumerate(zip(pools, plan.pool_rows.tolist(), strict=True)):
        kind = np.dtype(dtype)
        lines.append(f"  pool {pool}: {counted(n_rows, 'row', 'rows')} of {width} {short_dtype(kind)}, "
                     f"{n_rows * width * kind.itemsize:,} bytes")  # fmt: skip
    table = [("launch", "op", "reads", "writes")]
    for number in range(min(n_launches, _SHOWN)):
        s = r.schedule.launch_sig[number]
        reads = _reads(r, number)
        table.append((str(number), r.signatures[s].name, reads[0], _writes(r, number)))
        table += [("", "", read, "") for read in reads[1:]]
    widths = [max(len(row[k]) for row in table) for k in range(4)]
    for launch, op, read, write in table if n_launches else ():
        text = f"  {launch:>{widths[0]}}  {op:<{widths[1]}}  {read:<{widths[2]}}  {write}"
        lines.append(text.rstrip())
    if n_launches > _SHOWN:
        lines.append(f"  … and {n_launches - _SHOWN:,} more")
    return "\n".join([*lines, *_gathered(r)])


def _reads(r: Inspected, number: int) -> list[str]:
    """What a launch reads, one text for each operand."""
    plan, found = r.plan, []
    first, end = plan.access_of[number], plan.access_of[number + 1]
    for slot, access in zip(r.signatures[r.schedule.launch_sig[number]].slots, range(first, end), strict=True):
        rows = plan.rows[plan.rows_of[access] : plan.rows_of[access + 1]].tolist()
        pool = r.tape.pools.index(slot.pool)
        if not rows:
            found.append("no rows")
        elif plan.block[access] >= 0:
            found.append(f"{_range(rows[0], len(rows))} of pool {pool}")
        else:
            some = [*map(str, rows[:6]), *["…"][: len(rows) > 6]]
            found.append(f"{counted(len(rows), 'scattered row', 'scattered rows')} of pool {pool}: {' '.join(some)}")
    return found or ["no rows"]


def _writes(r: Inspected, number: int) -> str:
    """What a launch writes."""
    plan, s = r.plan, int(r.schedule.launch_sig[number])
    first = r.tape.signatures.result_of[s]
    found = []
    for k, write in enumerate(range(plan.write_of[number], plan.write_of[number + 1])):
        pool = r.tape.signatures.result_pool[first + k]
        found.append(f"{_range(int(plan.write_start[write]), int(plan.write_rows[write]))} of pool {pool}")
    return ", ".join(found)


def _range(start: int, n_rows: int) -> str:
    return f"row {start}" if n_rows == 1 else f"rows {start}-{start + n_rows - 1}"


def _gathered(r: Inspected) -> list[str]:
    plan = r.plan
    gathered = np.flatnonzero(plan.block < 0)
    rows = np.diff(plan.rows_of)[gathered]
    types = [slot.type for s in r.schedule.launch_sig for slot in r.signatures[s].slots]
    n_bytes = sum(int(n) * types[a].width * types[a].dtype.itemsize for a, n in zip(gathered, rows, strict=True))
    return [
        f"{counted(plan.block.size - gathered.size, 'operand is', 'operands are')} read as one block, "
        f"{gathered.size:,} of scattered rows ({counted(int(rows.sum()), 'row', 'rows')}, {n_bytes:,} bytes): loops "
        "read these where they lie, and they are copied side by side for matmuls"
    ]


_TEXT_ALONE = ("split", "fuse", "lower")
_KERNEL_STAGES = ("graph", "batch", "vjp", *_TEXT_ALONE)
_RECORDING_STAGES: dict[str, Callable[[Inspected], str]] = {
    "tape": _tape, "expand": _expand, "schedule": _schedule, "place": _place,
}  # fmt: skip
STAGES = (*_KERNEL_STAGES, *_RECORDING_STAGES, "reasons")
"""What `explain` knows, in the order in which the stages run."""
