"""Checks of the results of `schedule` and `place`, by independent code. Tests run these after each stage."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.errors import CompilerBug
from .structures import (
    AS_SLOT,
    CONCAT_ROWS,
    FIXED,
    KERNEL,
    LIST,
    OF_LIST,
    ONE,
    PAYLOAD,
    PER_ELEMENT,
    TAKE_ROWS,
    Plan,
    Schedule,
    Tape,
)

__all__ = ["check_plan", "check_schedule"]

Bools = np.ndarray[Any, np.dtype[np.bool_]]


def check_schedule(tape: Tape, schedule: Schedule) -> None:
    """Check the invariants of the stage, by independent code.

    Raises:
        CompilerBug: one of them is broken; the message shows both structures.
    """
    n, n_launches = len(tape.sig), len(schedule.launch_sig)
    kind = tape.signatures.kind.tolist()
    sig, live, depth, args = tape.sig.tolist(), schedule.live.tolist(), schedule.depth.tolist(), tape.args.tolist()
    first_arg = tape.arg_of[tape.slot_of].tolist()
    producer = np.repeat(np.arange(n), np.diff(tape.value_of)).tolist()

    def hold(true: bool, what: str) -> None:
        if not true:
            raise CompilerBug(f"schedule: {what}\n{tape}\n{schedule}")

    needed = [False] * n
    for root in tape.roots.tolist():
        needed[producer[root]] = True
    for i in reversed(range(n)):
        if needed[i]:
            for value in args[first_arg[i] : first_arg[i + 1]]:
                needed[producer[value]] = True
    hold(len(live) == len(depth) == n, "not one entry for each node")
    for i in range(n):
        hold(live[i] == needed[i], f"node {i} is {'not ' * (not live[i])}live")

    bounds, nodes = schedule.launch_of.tolist(), schedule.nodes.tolist()
    hold(
        len(bounds) == n_launches + 1 and bounds[0] == 0 and bounds[-1] == len(nodes), "launches do not cover the nodes"
    )
    launch = [-1] * n
    for l, s in enumerate(schedule.launch_sig.tolist()):
        members = nodes[bounds[l] : bounds[l + 1]]
        hold(bool(members), f"launch {l} is empty")
        for i, following in zip(members, [*members[1:], n], strict=True):
            hold(0 <= i < following, f"launch {l} is not in tape order")
            hold(sig[i] == s, f"node {i} in launch {l} has another signature")
            hold(launch[i] < 0, f"node {i} runs twice")
            launch[i] = l
    made_by = [-1] * n  # the launch after which a node's values are there
    for i in range(n):
        hold((launch[i] >= 0) == (needed[i] and kind[sig[i]] == KERNEL), f"node {i} {'never ' * (launch[i] < 0)}runs")
        if not needed[i]:
            continue
        made_by[i] = launch[i]
        deepest = 0
        for value in args[first_arg[i] : first_arg[i + 1]]:
            source = producer[value]
            deepest = max(deepest, depth[source])
            if kind[sig[i]] == KERNEL:
                hold(made_by[source] != launch[i], f"nodes {source} and {i} in launch {launch[i]} depend on each other")
                hold(made_by[source] < launch[i], f"node {i} runs before node {source}, which it reads")
            else:
                made_by[i] = max(made_by[i], made_by[source])
        hold(depth[i] == deepest + (kind[sig[i]] == KERNEL), f"node {i} is not at depth {depth[i]}")


def check_plan(tape: Tape, schedule: Schedule, plan: Plan, keep: bool | Bools = True) -> None:
    """Check the invariants of the stage by running the plan on names: a row holds what was written there last.

    Why so long: one replay of all launches, over what the tape says that each value holds.

    Args:
        tape, schedule, keep: what `place` was given.
        plan: what it gave.

    Raises:
        CompilerBug: one of them is broken; the message shows the structures.
    """
    s = tape.signatures
    n = len(tape.sig)
    kind, sig, live = s.kind.tolist(), tape.sig.tolist(), schedule.live.tolist()
    result_of, result_pool, rule = s.result_of.tolist(), s.result_pool.tolist(), s.result_rule.tolist()
    arg_of, args, slot_of = tape.arg_of.tolist(), tape.args.tolist(), tape.slot_of.tolist()
    value_of, ints, floats = tape.value_of.tolist(), tape.ints.tolist(), tape.floats.tolist()
    start, count, scattered = plan.start.tolist(), plan.count.tolist(), plan.scattered.tolist()
    pool_rows = plan.pool_rows.tolist()

    def hold(true: bool | np.bool_, what: str) -> None:
        if not true:
            raise CompilerBug(f"place: {what}\n{tape}\n{schedule}\n{plan}")

    def rows_of(value: int) -> list[int]:
        first, n_rows = start[value], count[value]
        return list(range(first, first + n_rows)) if first >= 0 else scattered[-first - 2 : -first - 2 + n_rows]

    # What each row of a value holds, as (value that was written, row of it), found from the tape alone.
    held: list[list[tuple[int, int]]] = [[] for _ in range(value_of[-1])]
    pool_of = [-1] * value_of[-1]
    holds: list[dict[int, tuple[int, int]]] = [{} for _ in tape.pools]

    def write(value: int, row: int) -> None:
        for r in range(count[value]):
            holds[pool_of[value]][row + r] = (value, r)

    hold(len(start) == len(count) == value_of[-1], "not one entry for each value")
    for i in range(n):
        slots = [args[arg_of[q] : arg_of[q + 1]] for q in range(slot_of[i], slot_of[i + 1])]
        for j, value in enumerate(range(value_of[i], value_of[i + 1])):
            if not live[i]:
                hold(start[value] == -1, f"value {value} is dead and has rows")
                continue
            r = result_of[sig[i]] + j
            pool_of[value] = result_pool[r]
            if kind[sig[i]] == CONCAT_ROWS:
                held[value] = [row for arg in slots[0] for row in held[arg]]
            elif kind[sig[i]] == TAKE_ROWS:
                first, step, n_rows, *numbers = ints[tape.int_of[i] : tape.int_of[i + 1]]
                base = held[slots[0][0]]
                taken = [first + step * k for k in range(n_rows)] if step else numbers
                hold(len(taken) == n_rows, f"node {i} has not the numbers of {n_rows} rows")
                hold(all(0 <= k < len(base) for k in taken), f"node {i} takes rows that value {slots[0][0]} has not")
                held[value] = [base[k] for k in taken]
            else:
                ref = int(s.result_ref[r])
                if rule[r] == FIXED:
                    n_rows = int(s.result_rows[r])
                elif rule[r] == AS_SLOT:
                    n_rows = sum(len(held[arg]) for arg in slots[ref])
                elif rule[r] == PER_ELEMENT:
                    listed = s.slot_kind[s.slot_of[sig[i]] + ref] == LIST
                    n_rows = int(s.result_rows[r]) * (len(slots[ref]) if listed else len(held[slots[ref][0]]))
                elif rule[r] == OF_LIST:
                    n, m = ints[tape.int_of[i] : tape.int_of[i] + 2]
                    n_rows = [1, n, m, n * m][ref]
                else:
                    n_rows = ints[tape.int_of[i] + 2]
                held[value] = [(value, k) for k in range(n_rows)]
            hold(count[value] == len(held[value]), f"value {value} has {len(held[value])} rows, not {count[value]}")
            rows = rows_of(value)
            hold(len(rows) == count[value] and start[value] != -1, f"value {value} has no rows")
            hold(all(0 <= row < pool_rows[pool_of[value]] for row in rows), f"value {value} lies outside its pool")
            if kind[sig[i]] == PAYLOAD:
                hold(start[value] >= 0, f"value {value} is not one block")
                hold(holds[pool_of[value]].keys().isdisjoint(rows), f"value {value} lies on another payload")
                write(value, start[value])

    def check_rows(value: int, when: str) -> None:
        held_there = [holds[pool_of[value]].get(row) for row in rows_of(value)]
        hold(held_there == held[value], f"the rows of value {value} do not hold it {when}")

    n_nodes = np.diff(schedule.launch_of)
    for name, sizes in (
        ("access_of", np.diff(s.slot_of)[schedule.launch_sig]),
        ("write_of", np.diff(s.result_of)[schedule.launch_sig]),
        ("int_of", s.n_ints[schedule.launch_sig] * n_nodes),
        ("float_of", s.n_floats[schedule.launch_sig] * n_nodes),
    ):
        hold(np.array_equal(getattr(plan, name), np.append(0, np.cumsum(sizes))), f"{name} is wrong")
    n_rows_read = np.diff(plan.rows_of)
    hold(len(n_rows_read) == plan.access_of[-1] and plan.rows_of[0] == 0, "not one run of rows for each access")
    hold((n_rows_read >= 0).all() and plan.rows_of[-1] == len(plan.rows), "rows that no launch reads")
    for l, launched in enumerate(schedule.launch_sig.tolist()):
        nodes = schedule.nodes[schedule.launch_of[l] : schedule.launch_of[l + 1]].tolist()
        accesses = range(plan.access_of[l], plan.access_of[l + 1])
        read: set[tuple[int, int]] = set()
        for j, access in enumerate(accesses):
            form, n_rows = int(s.slot_kind[s.slot_of[launched] + j]), int(s.slot_rows[s.slot_of[launched] + j])
            values = [args[arg_of[slot_of[i] + j] : arg_of[slot_of[i] + j + 1]] for i in nodes]
            for value in (value for listed in values for value in listed):
                check_rows(value, f"when launch {l} reads it")
                hold(form != LIST or count[value] == n_rows, f"launch {l} lists value {value}, not of {n_rows} rows")
                read.update((pool_of[value], row) for row in rows_of(value))
            rows = plan.rows[plan.rows_of[access] : plan.rows_of[access + 1]].tolist()
            expected = [row for listed in values for value in listed for row in rows_of(value)]
            hold(rows == expected, f"launch {l}, slot {j}: reads {rows}, its values have {expected}")
            first = rows[0] if rows else 0
            block = first if rows == list(range(first, first + len(rows))) else -1
            hold(plan.block[access] == block, f"launch {l}, slot {j}: its block is {block}, not {plan.block[access]}")
            if form == ONE:
                hold(all(len(listed) == 1 for listed in values), f"launch {l}, slot {j}: not one value")
                hold(plan.offsets_of[access] == -1, f"launch {l}, slot {j}: offsets, but no list")
            else:
                elements = [len(listed) if form == LIST else sum(count[v] for v in listed) for listed in values]
                offsets = plan.offsets[plan.offsets_of[access] :][: len(nodes) + 1]
                hold(
                    np.array_equal(offsets, np.append(0, np.cumsum(elements))),
                    f"launch {l}, slot {j}: offsets are {offsets}",
                )
        writes = range(plan.write_of[l], plan.write_of[l + 1])
        written: set[tuple[int, int]] = set()
        for j, w in enumerate(writes):
            row = first = int(plan.write_start[w])
            for i in nodes:
                value = value_of[i] + j
                hold(start[value] == row, f"value {value} is not at its place in the block of launch {l}")
                write(value, row)
                row += count[value]
            hold(row - first == plan.write_rows[w], f"launch {l} writes {row - first} rows, not {plan.write_rows[w]}")
            block_rows = {(result_pool[result_of[launched] + j], r) for r in range(first, row)}
            hold(written.isdisjoint(block_rows), f"results of launch {l} overlap")
            written |= block_rows
        hold(written.isdisjoint(read), f"launch {l} writes rows that it reads")
        for columns, column_of, data, data_of, n_data in (
            (plan.ints, plan.int_of, ints, tape.int_of, s.n_ints),
            (plan.floats, plan.float_of, floats, tape.float_of, s.n_floats),
        ):
            wanted = [data[data_of[i] + c] for c in range(n_data[launched]) for i in nodes]
            given = columns[column_of[l] : column_of[l + 1]]
            hold(np.array_equal(given, np.array(wanted, given.dtype), equal_nan=True), f"launch {l} has other data")

    kept = np.full(value_of[-1], keep) if isinstance(keep, bool) else np.array(keep)
    kept[tape.roots] = True
    for value in np.flatnonzero(kept).tolist():
        if pool_of[value] >= 0:
            check_rows(value, "in the end")
    row_bytes = [width * np.dtype(dtype).itemsize for width, dtype in tape.pools]
    hold(
        plan.peak_bytes == sum(n * size for n, size in zip(pool_rows, row_bytes, strict=True)),
        "peak bytes are not those of the pools",
    )
