"""Tapes from a few readable lines, and strategies that draw them.

    a, b@1 = leaf # 3 0.5       two results, the second in pool 1; int datum 3, float datum 0.5
    p*2 = payload               two rows that came from outside
    c = cell a a                one row from two operands
    l = join [a c]              a view of the rows of a list
    s = take l # 1 -1 2         a view of rows 1 and 0
    s = take l # 0 0 3 1 1 0    a view of rows 1, 1 and 0
    t~0 = tanh l                as many rows as operand 0
    u*2^0 = each l:             two rows for each row of l
    y = sum [a c]               one row from a list

A signature is a name with the forms of its operands and results. Everything is a root that the caller names.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from autobatch.schedule.structures import (
    AS_SLOT,
    CONCAT_ROWS,
    EACH,
    FIXED,
    FROM_DATA,
    KERNEL,
    LIST,
    ONE,
    PAYLOAD,
    PER_ELEMENT,
    TAKE_ROWS,
    SignatureTable,
    Tape,
)

KINDS = {"join": CONCAT_ROWS, "take": TAKE_ROWS, "payload": PAYLOAD}
RESULT = re.compile(r"(\w+?)(?:\*(\d+))?(?:([~^])(\d+))?(?:@(\d+))?$")


class Drawing:
    """A tape that grows line by line, and knows the pool and the rows of each value."""

    def __init__(self) -> None:
        self.signatures: dict[Any, int] = {}
        self.number: dict[str, int] = {}
        self.pool: list[int] = []
        self.rows: list[int] = []
        self.sig: list[int] = []
        self.slots: list[list[list[int]]] = []
        self.values: list[int] = []
        self.ints: list[list[int]] = []
        self.floats: list[list[float]] = []

    def line(self, text: str) -> list[str]:
        left, _, right = text.partition("=")
        right, _, data = right.partition("#")
        op, *operands = re.findall(r"\[[^]]*\]|[\w:]+", right)
        ints = [int(datum) for datum in data.split() if "." not in datum]
        floats = [float(datum) for datum in data.split() if "." in datum]
        kind = KINDS.get(op, KERNEL)
        forms, slots = [], []
        for operand in operands:
            names = operand.strip("[]:").split()
            slots.append([self.number[name] for name in names])
            pools = tuple(sorted({self.pool[value] for value in slots[-1]}))
            if operand.startswith("["):
                element = self.rows[slots[-1][0]] if slots[-1] and kind == KERNEL else 0
                forms.append((LIST, element, pools))
            else:
                forms.append((EACH, 1, pools) if operand.endswith(":") else (ONE, 0, pools))
        results, names = [], []
        for target in left.split(","):
            match = RESULT.match(target.strip())
            assert match, target
            name, factor, rule, ref, pool = match.groups()
            n_rows = int(factor or 1)
            result = (FIXED, 0, n_rows, int(pool or 0))
            if kind == CONCAT_ROWS:
                n_rows = sum(self.rows[value] for value in slots[0])
                result = (PER_ELEMENT, 0, 1, forms[0][2][0] if forms[0][2] else int(pool or 0))
            elif kind == TAKE_ROWS:
                n_rows = ints[2]
                result = (FROM_DATA, 0, 1, forms[0][2][0])
            elif rule:
                elements = slots[int(ref)]
                read = sum(self.rows[value] for value in elements)
                per = len(elements) if forms[int(ref)][0] == LIST else read
                result = (AS_SLOT if rule == "~" else PER_ELEMENT, int(ref), int(factor or 1), int(pool or 0))
                n_rows = read if rule == "~" else n_rows * per
            results.append(result)
            names.append(name)
            self.number[name] = len(self.rows)
            self.rows.append(n_rows)
            self.pool.append(result[3])
        n_ints = 3 if kind == TAKE_ROWS else len(ints)
        key = (op, kind, tuple(forms), tuple(results), n_ints, len(floats))
        self.sig.append(self.signatures.setdefault(key, len(self.signatures)))
        self.slots.append(slots)
        self.values.append(len(names))
        self.ints.append(ints)
        self.floats.append(floats)
        return names

    def tape(self, roots: list[str]) -> Tape:
        keys = list(self.signatures)
        slot_forms = [form for key in keys for form in key[2]]
        results = [result for key in keys for result in key[3]]
        flat_slots = [slot for slots in self.slots for slot in slots]
        tape = Tape(
            SignatureTable(
                kind=_ints([key[1] for key in keys]),
                slot_of=_bounds([len(key[2]) for key in keys]),
                slot_kind=_ints([form[0] for form in slot_forms]),
                slot_rows=_ints([form[1] for form in slot_forms]),
                result_of=_bounds([len(key[3]) for key in keys]),
                result_pool=_ints([result[3] for result in results]),
                result_rule=_ints([result[0] for result in results]),
                result_ref=_ints([result[1] for result in results]),
                result_rows=_ints([result[2] for result in results]),
                n_ints=_ints([key[4] for key in keys]),
                n_floats=_ints([key[5] for key in keys]),
                frozen=_ints([0] * len(keys)),
                trainable=_ints([0] * len(keys)),
            ),
            sig=_ints(self.sig),
            slot_of=_bounds([len(slots) for slots in self.slots]),
            arg_of=_bounds([len(slot) for slot in flat_slots]),
            args=_ints([value for slot in flat_slots for value in slot]),
            value_of=_bounds(self.values),
            int_of=_bounds([len(ints) for ints in self.ints]),
            float_of=_bounds([len(floats) for floats in self.floats]),
            ints=np.array([datum for ints in self.ints for datum in ints], np.int64),
            floats=np.array([datum for floats in self.floats for datum in floats], np.float64),
            roots=_ints([self.number[root] for root in roots]),
            pools=[(4, np.float32), (1, np.int64)],
        )
        tape.check()
        return tape


def _ints(numbers: list[int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array(numbers, np.int32)


def _bounds(sizes: list[int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.cumsum([0, *sizes], dtype=np.int32)


def draw_tape(text: str, roots: str) -> Tape:
    drawing = Drawing()
    for line in text.strip().splitlines():
        drawing.line(line)
    return drawing.tape(roots.split())


@st.composite
def random_tapes(choose: st.DrawFn) -> Tape:
    drawing = Drawing()
    names: list[str] = []

    def pick(of: list[str]) -> str:
        return choose(st.sampled_from(of))

    def some(of: list[str]) -> str:
        return "[" + " ".join(choose(st.lists(st.sampled_from(of), max_size=4))) + "]"

    for i in range(choose(st.integers(1, 24))):
        name = f"n{i}"
        usual = [old for old in names if drawing.pool[drawing.number[old]] == 0]
        single = [old for old in usual if drawing.rows[drawing.number[old]] == 1]
        ops = ["leaf", "payload"]
        ops += ["cell", "tanh", "each", "join", "take"] if usual else []
        ops += ["sum", "twice"] if single else []
        op = choose(st.sampled_from(ops))
        if op == "leaf":
            text = f"{name}, m{i}@1 = leaf # {choose(st.integers(0, 9))} {choose(st.sampled_from(['0.5', '2.0']))}"
        elif op == "payload":
            text = f"{name}*{choose(st.integers(0, 3))} = payload"
        elif op == "cell":
            text = f"{name}, m{i}*2 = cell {pick(usual)} {pick(usual)}"
        elif op == "tanh":
            text = f"{name}~0 = tanh {pick(usual)} # {i}"
        elif op == "each":
            text = f"{name}*{choose(st.integers(0, 2))}^1 = each {pick(usual)} {pick(usual)}:"
        elif op == "join":
            text = f"{name} = join {some(usual)}"
        elif op == "take" and choose(st.booleans()):
            base = pick(usual)
            rows = drawing.rows[drawing.number[base]]
            numbers = choose(st.lists(st.integers(0, rows - 1), max_size=5)) if rows else []
            text = f"{name} = take {base} # 0 0 {len(numbers)} {' '.join(map(str, numbers))}"
        elif op == "take":
            base = pick(usual)
            rows = drawing.rows[drawing.number[base]]
            n = choose(st.integers(0, rows))
            step = choose(st.sampled_from([1, 1, 2, -1]))
            reach = abs(step) * (n - 1)
            if n == 0 or reach >= rows:
                n, step, reach = min(n, 1), 1, 0
            low = choose(st.integers(0, max(rows - 1 - reach, 0)))
            text = f"{name} = take {base} # {low if step > 0 else low + reach} {step} {n}"
        elif op == "sum":
            text = f"{name} = sum {some(single)}"
        else:
            text = f"{name}*2^0 = twice {some(single)} {pick(usual)} # {i} 7"
        names += drawing.line(text)
    return drawing.tape(choose(st.lists(st.sampled_from(names), min_size=1, max_size=4)))


def chain(n: int) -> Tape:
    """`leaf`, then n - 1 times `cell` of the one before."""
    tape = draw_tape("a = leaf\nb = cell a", "b")
    numbers = np.arange(n, dtype=np.int32)
    return replace(
        tape,
        sig=np.minimum(numbers, 1),
        slot_of=np.append(np.int32(0), numbers),
        arg_of=numbers,
        args=numbers[:-1],
        value_of=np.arange(n + 1, dtype=np.int32),
        int_of=np.zeros(n + 1, np.int32),
        float_of=np.zeros(n + 1, np.int32),
        roots=numbers[-1:],
    )
