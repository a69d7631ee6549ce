"""together: launches that follow each other, as one call of compiled code.

Input: a `HostRun`, and which piece of which signature each launch of a pass is. Output: calls, each of a run of
launches. A call table says what a launch of a piece calls; what differs between launches follows from the arrays of the
plan, what differs between runs from the addresses of their memory. Invariants: launches whose piece has no table, whose
rows lie apart where a matmul reads them, or whose work threads may share are left out. Cost: some 20 µs for each
signature of a pass, and 0.1 µs for a launch.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.host.arena import lend
from ..backends.host.matmul import is_own
from ..backends.host.native_calls import MOST_WORDS, run_calls
from ..backends.host.packed_weights import kept
from ..backends.host.threads import get_num_threads
from ..backends.host.tiles import LINE
from ..base.errors import CompilerBug
from ..base.types import Array
from ..compile.host.call_tables import CallTable, Operands, call_table, column, n_columns
from ..compile.host.symbolic import Variable
from ..schedule.structures import bounds
from .earlier import address_of
from .layout import Call, Same, pool_number

if TYPE_CHECKING:
    from .execute import HostRun

_SAME = ("shared", "derived", "panels")

LEAST, LEAST_AGAIN = 12, 2
"""Launches of a pass from which on it pays to prepare this; and of one that is prepared to be run again."""


def table_of(run: HostRun, s: int, piece: str, add: bool) -> CallTable | None:
    """The table of a piece of a signature."""
    signature = run.signatures[s]
    key = piece, add
    if key not in signature.tables:
        signature.tables[key] = _made(run, s, piece, add)
    found: CallTable | None = signature.tables[key]
    return found


def _made(run: HostRun, s: int, piece: str, add: bool) -> CallTable | None:
    signature = run.signatures[s]
    if signature.lists or signature.is_paired or signature.by_rows:
        return None
    kernel = signature.kernel
    graph = kernel.graph_of(piece)
    residuals = () if piece == "inference" else kernel.pieces.residuals
    n = 0 if piece == "inference" else kernel.pieces.n_forward_residuals
    if piece == "backward":
        written = [("rows", k) for k in kernel.pieces.slots]
        written += [("residual", k) for k in range(n, len(residuals))]
    else:
        written = [("result", k) for k in range(len(signature.results))] + [("residual", k) for k in range(n)]
    operands = Operands(
        [(slot.pool, slot.type.rows) for slot in signature.slots],
        [(result.width, result.dtype) for result in signature.results],
        signature.data, residuals, written,
    )  # fmt: skip
    return call_table(kernel.program(piece, run.backend, add), graph, operands)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A signature with its table: the most nodes of a launch, and what is the same for all launches."""

    s: int
    table: CallTable
    nodes: int
    arrays: dict[Variable, Array]


@dataclass(frozen=True, slots=True)
class _Joined:
    """Tables one after the other.

    base, factors, of_constant: of all words, as in `CallTable`
    changed_of, changed, call_of, calls: as `run_calls` takes them
    constants: (number of the table, constant), with a last one that is zero
    panels: constants that are packed copies, and the words that are their address
    """

    base: Array
    factors: Array
    of_constant: Array
    changed_of: Array
    changed: Array
    call_of: Array
    calls: Array
    constants: list[tuple[int, Variable]]
    panels: list[tuple[int, Array]]


@functools.lru_cache(maxsize=256)
def _joined(tables: tuple[CallTable, ...]) -> _Joined:
    words = bounds([table.words.size for table in tables]).tolist()
    constants: list[tuple[int, Variable]] = []
    changed, calls, of_constant, panels = [], [], [], []
    for t, (table, first) in enumerate(zip(tables, words, strict=False)):
        changed.append(table.changed + np.array([first, 0, 0, 0]))
        calls.append(table.calls + np.array([0, first, 0]))
        of_constant.append(table.of_constant + len(constants))
        for number, key in enumerate(table.constants):
            if key[0] == "panels":
                own = np.flatnonzero((table.of_constant == number) & (table.factors != 0))
                panels.append((len(constants) + number, own + first))
        constants += [(t, key) for key in table.constants]
    room = [np.zeros(MOST_WORDS, np.int64)]
    return _Joined(
        np.concatenate([table.words for table in tables] + room),
        np.concatenate([table.factors for table in tables] + room),
        np.concatenate(of_constant + room),
        bounds(map(len, changed)).astype(np.int64), np.concatenate(changed),
        bounds(map(len, calls)).astype(np.int64), np.concatenate(calls), constants, panels,
    )  # fmt: skip


class Together:
    """The launches of one pass that tables have been made for.

    joins: [launches] whether each is among them
    """

    # It holds no run: a layout that is used again holds it, and gets free when its run does.

    def __init__(
        self, run: HostRun, wanted: Array, adds: Array, cotangents: Sequence[Array] | None, same: Same
    ) -> None:
        """Prepare a pass.

        Args:
            run: what is run.
            wanted: [launches] whether they are part of the pass.
            adds: [launches] whether they add cotangents to rows.
            cotangents: the pools of these in a backward pass, else None.
            same: what is the same for all launches of a signature is noted there.
        """
        self.joins: list[bool] = [False] * wanted.size
        least = LEAST_AGAIN if run.layout.is_shared else LEAST
        if run.backend != "numba" or int(np.count_nonzero(wanted)) < least or not is_own():
            return
        if run.layout.variables is None:
            run.layout.variables = _variables(run)
        self.signatures, self.launch_sig, self.variables = run.signatures, run.schedule.launch_sig, run.layout.variables
        self.table_of = np.zeros(wanted.size, np.int32)
        pieces = np.where(wanted, 2 * self.launch_sig + adds, -1)
        joins = np.zeros(wanted.size, bool)
        chosen: list[_Chosen] = []
        for number in sorted(set(pieces.tolist()) - {-1}):
            s, add = divmod(number, 2)
            piece = "backward" if cotangents is not None else "forward" if run.needs_sig[s] else "inference"
            table = table_of(run, s, piece, bool(add))
            if table is None:
                continue
            ready = self._fitting(table, np.flatnonzero(pieces == number))
            arrays = {key: run.same_for_all(s, *key[-2:]) for key in table.constants if key[0] in _SAME}
            if ready.size and all(array.flags.c_contiguous and array.flags.aligned for array in arrays.values()):
                same += [(s, *key[-2:], array) for key, array in arrays.items()]
                self.table_of[ready] = len(chosen)
                joins[ready] = True
                chosen.append(_Chosen(s, table, int(self.variables[ready, 0].max()), arrays))
        if int(np.count_nonzero(joins)) >= least:
            self.joined = _joined(tuple([one.table for one in chosen]))
            self._address(run, chosen, cotangents)
            self.joins = joins.tolist()

    def _fitting(self, table: CallTable, own: Array) -> Array:
        """Those of some launches that the table of their piece holds for."""
        variables = self.variables[own]
        fits = variables[:, 0] > 0
        if get_num_threads() > 1:
            fits &= variables[:, 0] < table.limit
        for k in table.consecutive:
            fits &= variables[:, column(("start", k))] >= 0
        found: Array = own[fits]
        return found

    def _address(self, run: HostRun, chosen: list[_Chosen], cotangents: Sequence[Array] | None) -> None:
        """Put the addresses of this pass into the words."""
        sizes = [[-(-n_bytes * one.nodes // LINE) * LINE for n_bytes in one.table.scratch] for one in chosen]
        self.scratch = lend((max(map(sum, sizes)),), np.uint8)
        scratch = [list(itertools.accumulate(own, initial=address_of(self.scratch))) for own in sizes]
        self.packed: dict[int, Array] = {}
        table = run.tape.signatures
        at = {f"all {name}": address_of(getattr(run.plan, name)) for name in ("rows", "ints", "floats")}
        of_values, of_cotangents = ([address_of(pool) for pool in pools or ()] for pools in (run.pools, cotangents))
        constants = []
        for number, (t, key) in enumerate(self.joined.constants):
            s, arrays = chosen[t].s, chosen[t].arrays
            name, *_, k = key
            if name == "scratch":
                constant = scratch[t][k]
            elif name == "residual":
                constant = address_of(run.residuals[s][k])
            elif name == "panels":
                self.packed[number] = arrays[key]
                constant = 0  # until it runs
            elif name in _SAME:
                constant = address_of(arrays[key])
            elif name in at:
                constant = at[name]
            elif name in ("result", "cotangent"):
                pool = int(table.result_pool[table.result_of[s] + k])
                constant = (of_values if name == "result" else of_cotangents)[pool]
            else:
                pool = pool_number(run.tape, run.signatures[s].slots[k])
                constant = (of_cotangents if name == "reverse" else of_values)[pool]
                if name == "length":
                    constant = len(run.pools[pool])
            constants.append(constant)
        joined = self.joined
        self.base = joined.base + joined.factors * np.array([*constants, 0])[joined.of_constant]
        self.words = self.base.copy()

    def in_groups(self, calls: Iterable[Call | int]) -> Iterator[Call]:
        """The same calls, and the numbers of launches that join, which follow each other, as one call."""
        joined: list[int] = []
        for call in calls:
            if isinstance(call, int):
                joined.append(call)
                continue
            if joined:
                yield self.call(joined)
                joined = []
            yield call
        if joined:
            yield self.call(joined)

    def call(self, numbers: list[int]) -> Call:
        """Some launches, in this order, as one call."""
        return self._run, 0, (), [np.array(numbers, np.int32)], [], numbers[-1]

    def _run(self, _n: int, _sizes: Any, arguments: Sequence[Array], _outputs: Any) -> None:
        joined = self.joined
        packed = [kept(self.packed[number]) for number, _ in joined.panels]  # none is freed before the calls return
        for (_, words), panels in zip(joined.panels, packed, strict=True):
            self.words[words] = address_of(panels)
        failed = run_calls(
            arguments[0], self.table_of, self.variables, self.base, self.words, joined.changed_of, joined.changed,
            joined.call_of, joined.calls,
        )  # fmt: skip
        if failed >= 0:
            name = self.signatures[self.launch_sig[failed]].name
            raise CompilerBug(f"{name}: compiled code failed in launch {failed}")


def one_by_one(calls: Iterable[Call]) -> Iterator[Call]:
    """The same calls, of one launch each."""
    for call in calls:
        together = getattr(call[0], "__self__", None)
        if isinstance(together, Together):
            yield from (together.call([number]) for number in call[3][0].tolist())
        else:
            yield call


def _variables(run: HostRun) -> Array:
    """[launches, variables] what differs between launches."""
    plan, schedule = run.plan, run.schedule
    launch_sig, nodes = schedule.launch_sig, np.diff(schedule.launch_of)
    n_slots = np.diff(run.tape.signatures.slot_of).max(initial=0)
    n_results = np.diff(run.tape.signatures.result_of).max(initial=0)
    found = np.zeros((nodes.size, n_columns(max(n_slots, n_results))), np.int64)
    found[:, 0] = nodes
    order = np.argsort(launch_sig, kind="stable")
    before = np.cumsum(nodes[order]) - nodes[order]
    sigs = launch_sig[order]
    first = np.searchsorted(sigs, sigs)
    found[order, 1] = before - before[first]
    found[:, 2] = plan.int_of[:-1]
    found[:, 3] = plan.float_of[:-1]
    for k in range(n_slots):
        at = np.minimum(plan.access_of[:-1] + k, plan.block.size - 1)
        if plan.block.size:
            found[:, column(("rows", k))] = plan.rows_of[at]
            found[:, column(("start", k))] = plan.block[at]
    for k in range(n_results):
        found[:, column(("write", k))] = plan.write_start[np.minimum(plan.write_of[:-1] + k, plan.write_start.size - 1)]
    return found
