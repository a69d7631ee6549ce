"""Why nodes of one op were not batched together, counted.

Input: recordings as `inspection` shows them. Output: `Reasons`. With launches counted by op, l(s) launches of signature
s, c(s) the longest chain of nodes of s each of which needs the one before, and c(op) the longest chain of all nodes of
the op, the launches of an op are

    1 + (c(op) − 1) + (Σ c(s) − c(op)) + (Σ l(s) − Σ c(s)):

one launch that every op needs, those that dependencies force, those that differences between signatures cost, and those
that the order costs, because it ran some nodes before others were ready. Every launch beyond the first is therefore
counted once, under the reason that it would not be there without. Cost: O(nodes × signatures), meant for reports.

    6 launches of 40 nodes (no order needs fewer than 6): one for each of 3 ops, and 3 more
           2  compose: a node depends on another
           1  sum: axes differ, (-1,) / (-2,)
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ir.graph import Graph
from ..ops.declare import OPS
from ..record.forced_values import Forcing
from ..record.shared import SharedExpression
from ..record.signature import Signature
from ..record.tensor import RecordedTensor
from ..schedule.merged import counts_together
from ..schedule.schedule import lower_bound
from ..schedule.structures import CONCAT_ROWS, KERNEL, PAYLOAD
from .inspection import Inspected, inspect_recordings

DEPENDS = "a node depends on another"
NOT_READY = "some ran before others were ready"
FORCED = "forced separately, in different recordings"
SEVERAL = 3
"""Launches from which on a length that differs is taken for one that varies."""
_ROWS = "the length varies, and this op has a launch for each: let the axis that varies be the first of its matrices"
_INSTEAD = {
    "matmul": "the length varies: of x f[n, d] these share launches: x @ w, a @ x, x.T @ a, x @ y.T, and ab.attention",
    "concat": "the length varies: matrices f[n, d] joined along axis 0, or ab.stack of vectors, take no launch",
    "reshape": "the length varies: leave the axis that varies the first one",
    "transpose": "the length varies: it shares launches for matrices f[n, d], whose axes are swapped",
}
"""What to write instead of an op that has a launch for each length."""
COMPARED = 64
"""Signatures of one op that a further one is compared with."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an op has more launches than one.

    op: name of the op or cell; why: what keeps nodes apart; example: the two things that differ, where there are such
    launches: how many fewer there would be without; of_length: whether nothing but extents of operands differs
    """

    op: str
    why: str
    launches: int
    example: str = ""
    of_length: bool = False

    def __str__(self) -> str:
        instead = f"; {_INSTEAD.get(self.op, _ROWS)}" if self.of_length and self.launches >= SEVERAL else ""
        return f"{self.op}: {self.why}{f', {self.example}' if self.example else ''}{instead}"


@dataclass(frozen=True, slots=True)
class Reasons:
    """The launches of some recordings, explained: launches = ops + the launches of all reasons.

    launches, nodes: run or to be run; bound: launches that no order can do without; ops: different ops and cells
    reasons: the most frequent first
    forced: values forced inside `ab.map`; together: launches that there would be without, as far as they lead here
    """

    launches: int
    nodes: int
    bound: int
    ops: int
    reasons: list[Reason] = field(default_factory=list)
    forced: Forcing = field(default_factory=Forcing)
    together: int = 0

    def most_frequent(self) -> str:
        """The most frequent reason as one phrase."""
        if not self.reasons:
            return "none, every op has one launch"
        first = self.reasons[0]
        return f"{first} ({counted(first.launches, 'launch', 'launches')})"

    def __str__(self) -> str:
        return "\n".join([*self.about_launches(), *self.about_forced()])

    def about_forced(self) -> list[str]:
        """Lines on what was forced inside `ab.map`, and what that cost."""
        return self.forced.describe(self.launches, self.together)

    def about_launches(self) -> list[str]:
        """Lines on the launches and their reasons."""
        more = sum(r.launches for r in self.reasons)
        lines = [f"{counted(self.launches, 'launch', 'launches')} of {counted(self.nodes, 'node', 'nodes')} "
                 f"(no order needs fewer than {self.bound:,}): one for each of {counted(self.ops, 'op', 'ops')}"
                 f"{f', and {more:,} more' if more else ''}"]  # fmt: skip
        return lines + [f"  {reason.launches:>6,}  {reason}" for reason in self.reasons]


def counted(n: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{n:,} {one if n == 1 else many}"


def batching_reasons(x: Any) -> Reasons:
    """Why the nodes that `x` depends on take more launches than one for each op; nothing is run.

    x: a tensor or nested tensors, pending or executed.

    >>> from autobatch.explain.reasons import batching_reasons
    >>> a, b = ab.tensor([1.0]), ab.tensor([2.0, 3.0])
    >>> print(batching_reasons(ab.tanh(ab.tanh(a)).sum() + ab.tanh(b).sum()))
    6 launches of 6 nodes (no order needs fewer than 6): one for each of 3 ops, and 3 more
           1  tanh: operand 1 differs, f32[1] / f32[2]
           1  tanh: a node depends on another
           1  sum: operand 1 differs, f32[1] / f32[2]
    """
    return reasons_of(inspect_recordings(x))


def reasons_of(recordings: Sequence[Inspected]) -> Reasons:
    """Count the reasons of some recordings together."""
    found: dict[tuple[str, str], list[Any]] = {}

    def count(op: str, why: str, launches: int, example: str = "", of_length: bool = False) -> None:
        if launches:
            entry = found.setdefault((op, why), [0, example, of_length])
            entry[0] += launches

    met: set[str] = set()
    recordings = [r for r in recordings if not r.unbatched]
    for r in recordings:
        groups: dict[str, list[int]] = {}
        for s in r.kernels:
            groups.setdefault(r.signatures[s].name, []).append(s)
        for op, members in groups.items():
            if op in met:
                count(op, FORCED, 1)
            met.add(op)
            _count_group(r, op, members, count)
    forced = Forcing()
    for one in dict.fromkeys(r.recording.forcing for r in recordings):
        if one is not None:
            forced.add(one)
    pieces = [r.recording.piece(r.expansion, r.signatures) for r in recordings]
    together, bound = counts_together(pieces) if pieces else (0, 0)
    launches = sum(r.schedule.launch_sig.size for r in recordings)
    return Reasons(
        launches=launches,
        nodes=sum(r.schedule.nodes.size for r in recordings),
        bound=bound,
        ops=len(met),
        reasons=sorted((Reason(op, why, *rest) for (op, why), rest in found.items()), key=lambda r: -r.launches),
        forced=forced,
        together=min(together, launches),  # what was done is an order of the whole, too
    )


def _count_group(r: Inspected, op: str, members: Sequence[int], count: Any) -> None:
    launches = np.bincount(r.schedule.launch_sig, minlength=len(r.signatures))
    total = int(launches[list(members)].sum())
    if total == 1:
        return
    chains = {s: _longest_chain(r, [s]) if launches[s] > 1 else 1 for s in members}
    order = sorted(members, key=lambda s: (-chains[s], s))
    chain = chains[order[0]]
    for k, s in enumerate(order[1:], 1):
        joined = _longest_chain(r, order[: k + 1])
        saved, chain = chain + chains[s] - joined, joined
        if saved:
            others = [differences(r.signatures[other], r.signatures[s]) for other in order[:k][:COMPARED]]
            closest = min(others, key=len)
            nearest = r.signatures[order[others.index(closest)]]
            example = ", ".join(values for _, values in closest if values)
            of_length = _differ_in_length(nearest, r.signatures[s])
            count(op, " and ".join(dict.fromkeys(what for what, _ in closest)), saved, example, of_length)
    count(op, DEPENDS, chain - 1)
    count(op, NOT_READY, total - sum(chains.values()))


def _longest_chain(r: Inspected, members: Sequence[int]) -> int:
    """Nodes of these signatures each of which needs the one before, directly or through others: the bound, were they
    one signature. All other nodes count as views, which chains lead through."""
    flags = np.zeros(len(r.signatures), bool)
    flags[list(members)] = True
    table = dataclasses.replace(r.tape.signatures, kind=np.array([KERNEL, CONCAT_ROWS], np.int32))
    sig = np.where(flags[r.tape.sig], 0, 1).astype(np.int32)
    return lower_bound(dataclasses.replace(r.tape, sig=sig, signatures=table), r.schedule)


def differences(a: Signature, b: Signature) -> list[tuple[str, str]]:
    """What keeps two signatures of one op apart: (what differs, the two values); never empty."""
    found: list[tuple[str, str]] = []
    if len(a.attrs) == len(b.attrs):
        names = _attribute_names(a)
        for k, (x, y) in enumerate(zip(a.attrs, b.attrs, strict=True)):
            if repr(x) != repr(y):
                found.append((f"{names[k]} differs", f"{x} / {y}"))
    mine, other = a.operands(), b.operands()
    if len(mine) != len(other):
        found.append(("operands differ", f"({', '.join(mine)}) / ({', '.join(other)})"))
    elif not found or a.by_rows == b.by_rows:  # an attribute may decide whether an op works row by row
        changed = [k for k in range(len(mine)) if mine[k] != other[k]]
        if changed:
            which = " and ".join(str(k + 1) for k in changed)
            values = dict.fromkeys(f"{mine[k]} / {other[k]}" for k in changed)
            what = f"operand {which} differs" if len(changed) == 1 else f"operands {which} differ"
            found.append((what, "; ".join(values)))
    for x, y in zip(a.shared, b.shared, strict=False):
        if x is not y and x._type is y._type:
            kind = "shared expression" if isinstance(x, SharedExpression) else type(x).__name__.lower()
            found.append(("shared operand differs", f"two {kind}s {x._type}"))
    if a.frozen != b.frozen and [r.dtype for r in a.results] == [r.dtype for r in b.results]:
        late = a.late or b.late  # constant only because gradients are wanted of something else
        found.append(("one does not lead to what is differentiated" if late else "one is constant (no_grad)", ""))
    if not found:
        found.append(("traced code differs", _first_difference(a.graph, b.graph)))
    return found


def _differ_in_length(a: Signature, b: Signature) -> bool:
    """Whether two signatures differ in nothing but extents of their operands."""

    def rest(s: Signature) -> Any:
        return (
            [(x.kind, x.type.dtype, x.type.ndim) for x in s.slots],
            [*map(id, s.shared)],
            s.data,
            repr(s.attrs),
            s.frozen,
        )

    return rest(a) == rest(b)


def _attribute_names(signature: Signature) -> list[str]:
    """Names of the attributes, as the op's own function calls them."""
    op = OPS.get(signature.name)
    rule = (op.body or op.numpy) if op is not None else None
    names: list[str] = []
    try:
        if rule is not None:
            n_operands = len(signature.slots) + len(signature.data) + len(signature.shared)
            parameters = list(inspect.signature(rule).parameters.values())[n_operands:]
            names = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    except ValueError:
        pass
    return [names[k] if k < len(names) else f"attribute {k + 1}" for k in range(len(signature.attrs))]


def _first_difference(a: Graph, b: Graph) -> str:
    lines = ([f"{node} {node.type}" for node in graph.nodes] for graph in (a, b))
    for x, y in zip(*lines, strict=False):
        if x != y:
            return f"{x} / {y}"
    return f"{len(a.nodes)} / {len(b.nodes)} ops"


def why_not_together(a: RecordedTensor, b: RecordedTensor) -> str:
    """Why two nodes did, or did not, share a launch; nothing is run."""
    found = {r.recording: r for r in inspect_recordings([a, b], whole=True)}
    first, second = found[a._tape], found[b._tape]
    i, j = first.node_of(a), second.node_of(b)
    return "\n".join([first.title(i), second.title(j), _verdict(first, i, second, j)])


def _verdict(first: Inspected, i: int, second: Inspected, j: int) -> str:
    if first is not second:
        return "not one launch: " + FORCED
    r = first
    if i == j:
        return "one node: both are results of it, or views of them"
    for node in (i, j):
        kind = {PAYLOAD: "a host input", CONCAT_ROWS: "a view"}.get(r.kind(node))
        if kind is not None:
            return f"not one launch: {r.signatures[r.tape.sig[node]]} is {kind}, nothing is run for it"
    if r.unbatched:
        return "not one launch: recorded with batched=False, every node runs by itself"
    launches = int(r.launch[i]), int(r.launch[j])
    if launches[0] == launches[1]:
        size = int(np.diff(r.schedule.launch_of)[launches[0]])
        return f"one launch: number {launches[0]}, of {counted(size, 'node', 'nodes')}"
    a, b = (r.signatures[r.tape.sig[node]] for node in (i, j))
    if a.name != b.name:
        return f"not one launch: different ops, {a.name} / {b.name}"
    parts = differences(a, b) if a is not b else []
    found = [f"{what}{f', {values}' if values else ''}" for what, values in parts]
    early, late = (i, j) if i < j else (j, i)
    names = {i: "first", j: "second"}
    if r.depends(late, early):
        found.append(f"the {names[late]} depends on the {names[early]}")
    if found:
        return "\n".join(f"not one launch: {reason}" for reason in found)
    ran, waited = (i, j) if launches[0] < launches[1] else (j, i)
    source = max(r.sources(waited), key=lambda node: int(r.launch[node]))
    return (
        f"not one launch: launch {r.launch[ran]} ran the {names[ran]} when the {names[waited]} was not ready; "
        f"it reads a result of launch {r.launch[source]}, {r.signatures[r.tape.sig[source]]}"
    )
