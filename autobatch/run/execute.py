"""execute: a layout of a `Plan` → values, launch by launch.

Input: a `HostRun`: tape, schedule, plan and their layout, the signatures they speak of, arrays of shared operands.
Output: its pools, and what the backward pass needs.
Invariants: a launch writes one contiguous block per result and reads rows written before. Cost: one loop over the
launches, a few microseconds each beyond arithmetic; half of that where a layout is used again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.clocks import profiles, timed_calls
from ..base.types import Array, Type
from ..ir.interpret import interpret
from ..schedule.structures import Expansion, Plan, Schedule, Tape
from .earlier import rows_of
from .feed import Feed, feed, form_of, from_lengths
from .layout import Access, Call, HostLaunch, Launch, Layout, Same
from .protocols import SharedOperand, Signature
from .together import Together, one_by_one

if TYPE_CHECKING:
    from .backward import Asked, ToReverse
    from .kept_plans import Use


@dataclass(eq=False, slots=True, weakref_slot=True)
class SharedArrays:
    """Arrays of the operands that signatures share, for one version of the parameters; runs may have them in common.

    memo: of the operands; derived: of what kernels compute from these alone, by signature and number
    pieces: of kernels on the host with those of their arguments, by signature, name, backend and whether they add
    """

    version: int = 0
    device: Any = None
    memo: dict[SharedOperand, Any] = field(default_factory=dict)
    derived: dict[tuple[Signature, int], Any] = field(default_factory=dict)
    pieces: dict[tuple[Signature, str, str, bool], ReadyPiece] = field(default_factory=dict)


@dataclass(eq=False, slots=True, kw_only=True)
class Run(ABC):
    """Values of one tape, and the residuals for its backward pass. Values are asked for by their recorded numbers.

    shared: arrays of the operands that signatures share
    needs: [nodes] whether they carry a gradient; needs_sig: [signatures] whether their results do
    facts: what backward passes do, by what was asked; runs of one structure share it
    """

    expansion: Expansion
    schedule: Schedule
    plan: Plan
    signatures: Sequence[Signature]
    backend: str
    shared: SharedArrays
    pools: list[Any]
    launches: Sequence[Launch]
    needs: Array
    needs_sig: Array
    facts: dict[Asked, ToReverse] = field(default_factory=dict)

    @property
    def tape(self) -> Tape:
        """What was scheduled."""
        return self.expansion.tape

    def rows(self, recorded: int) -> tuple[int, Any]:
        """Pool of a value and its row numbers."""
        value = self.expansion.value(recorded)
        node = int(self.tape.node_of(value))
        table = self.tape.signatures
        result = table.result_of[self.tape.sig[node]] + value - self.tape.value_of[node]
        start, count = int(self.plan.start[value]), int(self.plan.count[value])
        if start >= 0:
            return int(table.result_pool[result]), slice(start, start + count)
        at = -start - 2
        return int(table.result_pool[result]), self.plan.scattered[at : at + count]

    def is_placed(self, recorded: Array) -> Array:
        """Which values were computed."""
        placed: Array = self.plan.start[self.expansion.values(recorded)] != -1
        return placed

    @abstractmethod
    def accesses(self, number: int) -> Sequence[Access]:
        """What each slot of a launch reads."""

    @abstractmethod
    def value(self, recorded: int, type: Type) -> Any:
        """A copy of one value."""

    @abstractmethod
    def copies(self, recorded: Sequence[int], type: Type) -> Any:
        """Copies of values of one type."""


@dataclass(eq=False, slots=True, kw_only=True)
class HostRun(Run):
    """A run on the host. `use` holds its layout, if that is used again."""

    layout: Layout
    use: Use | None = None
    pools: list[Array]
    launches: list[HostLaunch]
    residuals: dict[int, list[Array]]

    def accesses(self, number: int) -> Sequence[Access]:
        """See `Run`."""
        return self.launches[number].accesses

    def same_for_all(self, s: int, kind: str, k: int) -> Array:
        """A shared operand of a signature, or what is derived from such, computed when it is first read."""
        signature, memo = self.signatures[s], self.shared.memo
        if kind == "shared":
            operand: Array = memo[signature.shared[k]]
            return operand
        found: Array | None = self.shared.derived.get((signature, k))
        if found is None:
            expression = signature.kernel.expressions[k]
            found = interpret(expression, lambda _, operand: memo[signature.shared[operand]])[0]
            self.shared.derived[signature, k] = found
        return found

    def name_of(self, number: int) -> str:
        """The op or cell of a launch."""
        return self.signatures[self.launches[number].sig].name

    def value(self, recorded: int, type: Type) -> Array:
        """A copy of one value."""
        pool, rows = self.rows(recorded)
        array: Array = type.unpack(np.array(self.pools[pool][rows]))
        return array

    def copies(self, recorded: Sequence[int], type: Type) -> Any:
        """Copies of values of one type, in the order given."""
        rows = rows_of(self, np.array(recorded)).rows
        pool = self.pools[self.tape.pools.index((type.width, type.dtype))]
        return type.unpack(pool.take(rows, axis=0), len(recorded))


def rows_of_launch(array: Array, type: Type, launch: HostLaunch) -> Array:
    """The part of a residual that belongs to a launch, as 2-D rows."""
    lead = type.shape[0]
    start = launch.at[lead.index] * lead.factor
    return array[start : start + launch.sizes[lead.index] * lead.factor]


ReadyPiece = tuple[Callable[..., list[Any]], Feed, list[Array], list[tuple[int, int]]]
"""Program, recipe for its arguments, those that are the same for all launches; of each residual that it writes index
and factor of the leading length."""


@dataclass(slots=True)
class Code:
    """A piece of a signature in a run: what every launch of it calls, and with what.

    program: the function; feed: how its arguments are assembled
    same: those that are the same for all launches
    residuals: for each residual that the piece writes the array, and index and factor of its leading length
    """

    program: Callable[..., list[Any]]
    feed: Feed
    same: list[Array]
    residuals: list[tuple[Array, int, int]]

    def arguments(self, launch: HostLaunch, *more: Array) -> Sequence[Any]:
        """What the program reads in a launch; `more` are cotangents, then residuals."""
        found = [*launch.accesses, *launch.data, *self.same, *more]
        if self.feed.derived:
            found += [from_lengths(kind, k, launch.offsets) for kind, k in self.feed.derived]
        return self.feed.pick(found)

    def keep(self, launch: HostLaunch, outputs: list[Any]) -> None:
        """Append the rows of residuals to what the program writes in a launch."""
        sizes, at = launch.sizes, launch.at
        for array, index, factor in self.residuals:
            start = at[index] * factor
            outputs.append(array[start : start + sizes[index] * factor])


def code_of(run: HostRun, s: int, piece: str, add: bool = True) -> Code:
    """The code of a piece of a signature, in this run."""
    signature = run.signatures[s]
    known = run.shared.pieces.get((signature, piece, run.backend, add))
    if known is None:
        known = run.shared.pieces[signature, piece, run.backend, add] = _ready_piece(run, s, piece, add)
    program, found, same, forms = known
    residuals = []
    if forms:
        n = signature.kernel.pieces.n_forward_residuals
        written = run.residuals[s][:n] if piece == "forward" else run.residuals[s][n:]
        residuals = [(array, *form) for array, form in zip(written, forms, strict=True)]
    return Code(program, found, same, residuals)


def _ready_piece(run: HostRun, s: int, piece: str, add: bool) -> ReadyPiece:
    signature = run.signatures[s]
    kernel = signature.kernel
    types: Sequence[Type] = () if piece == "inference" else kernel.pieces.residuals
    found = signature.feeds.get(piece)
    if found is None:
        graph = kernel.graph_of(piece)
        found = signature.feeds[piece] = feed(
            kernel.inputs(piece), len(signature.slots), len(signature.data), graph.types("cotangent"), types
        )
    if piece != "inference":
        n = kernel.pieces.n_forward_residuals
        types = types[:n] if piece == "forward" else types[n:]
    forms = [(form.index, form.factor) for form in map(form_of, types)]
    same = [run.same_for_all(s, kind, k) for kind, k in found.same]
    return kernel.program(piece, run.backend, add).run, found, same, forms


def unchanged(same: Same, run: HostRun) -> bool:
    """Whether the operands shared by all launches are those that the calls were prepared with."""
    return all(run.same_for_all(s, kind, k) is array for s, kind, k, array in same)


def note_same(same: Same, s: int, code: Code) -> None:
    """Note what a piece reads that is the same for all launches."""
    same += [(s, kind, k, array) for (kind, k), array in zip(code.feed.same, code.same, strict=True)]


def execute(run: HostRun, check: Callable[[HostLaunch, int], None] | None = None) -> None:
    """Run the launches in order; `check` sees every launch after it ran."""
    layout = run.layout
    with np.errstate(all="ignore"):
        if layout.forward is not None and unchanged(layout.forward[1], run):
            calls: Iterable[Call] = layout.forward[0]
        else:
            same: Same = []
            calls = _forward(run, same)
            if layout.is_shared:
                calls = list(calls)
                layout.forward = calls, same
        if check is not None or profiles.get():
            calls = one_by_one(calls)
        for program, n, sizes, arguments, outputs, number in timed_calls(calls, "forward", run.name_of):
            program(n, sizes, arguments, outputs)
            if check is not None:
                check(run.launches[number], number)


def _forward(run: HostRun, same: Same) -> Iterator[Call]:
    """The launches with their arguments, those that follow each other as one call."""
    every = np.ones(len(run.launches), bool)
    together = Together(run, every, every, None, same)
    return together.in_groups(_prepared(run, same, together.joins))


def _prepared(run: HostRun, same: Same, joins: Sequence[bool]) -> Iterator[Call | int]:
    """The launches, lazily: with many it is fastest to prepare each when it runs. Of those that join, the number."""
    pools = run.pools
    codes: dict[int, Code] = {}
    for number, launch in enumerate(run.launches):
        n = launch.sizes[0]
        if n == 0:
            continue
        if joins[number]:
            yield number
            continue
        s = launch.sig
        code = codes.get(s)
        if code is None:
            code = codes[s] = code_of(run, s, "forward" if run.needs_sig[s] else "inference")
            note_same(same, s, code)
        outputs = [pools[pool][start : start + rows] for pool, start, rows in launch.writes]
        code.keep(launch, outputs)
        yield code.program, n, launch.sizes, code.arguments(launch), outputs, number
