"""Programs over rows of any number, drawn at random: vectors and matrices whose axes differ from example to example.

Shapes are followed while drawing, so that programs are valid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.programs.drawing import draw_steps
from tests.programs.row_programs import (
    BINARY,
    LENGTHS,
    LISTS,
    REDUCTIONS,
    RUN,
    SLICES,
    SOURCES,
    UNARY,
    D,
    Example,
    Program,
    Shape,
    Step,
)

EVERYTHING = frozenset(RUN)
CELLS = frozenset(name for name in RUN if name.startswith("cell"))
NOT_TWICE = frozenset(["inner grad"])
"""Left out where a program is itself differentiated twice: a third derivative takes long and adds little."""

SLICED = {
    ("n", "tail"): "less",
    ("n", "head"): "less",
    ("n", "every other"): "half",
    ("both", "first part"): "n",
    ("both", "second part"): "m",
}


def broadcast(a: Shape, b: Shape) -> Shape | None:
    """The shape of an elementwise result, or None."""
    short, long = sorted((a, b), key=len)
    lined = (1,) * (len(long) - len(short)) + short
    pairs = list(zip(lined, long, strict=True))
    if any(x != y and 1 not in (x, y) for x, y in pairs):
        return None
    return tuple(y if x == 1 else x for x, y in pairs)


def product(a: Shape, b: Shape) -> Shape | None:
    """The shape of `a @ b` for vectors and matrices, or None."""
    if not 1 <= len(a) <= 2 or not 1 <= len(b) <= 2 or a[-1] != b[0] or a[-1] == 1:
        return None
    return a[:-1] + b[1:]


class _Drawer:
    """Adds steps; `least` is what an example must have of n and of m so that no axis is empty that must not be."""

    def __init__(self, draw: Any, allowed: frozenset[str]) -> None:
        self.draw = draw
        self.allowed = allowed
        self.steps: list[Step] = []
        self.shapes: list[Shape] = []
        self.least = {"n": 0, "m": 0}
        self.add("own", ("n", D), (), (("n", D), 0))

    def add(self, name: str, shape: Shape, inputs: tuple[int, ...] = (), rest: Any = None) -> None:
        self.steps.append(Step(name, inputs, rest))
        self.shapes.append(shape)

    def one(self, options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def fill(self, *lengths: int | str) -> None:
        """These axes must not be empty."""
        for length in lengths:
            if length == "m":
                self.least["m"] = 1
            if isinstance(length, str):
                self.least["n"] = max(self.least["n"], 2 if length == "less" else 1)

    def value(self, suits: Callable[[Shape], bool]) -> int | None:
        """A value of such a shape, most often one that nothing has used yet, so that programs grow deep."""
        found = [i for i, shape in enumerate(self.shapes) if suits(shape)]
        used = {i for step in self.steps for i in step.inputs}
        fresh = [i for i in found if i not in used]
        if not found:
            return None
        return int(self.one(fresh if fresh and self.draw(st.integers(0, 3)) else found))

    def source(self) -> None:
        name = self.one(sorted(self.allowed & set(SOURCES)))
        if name == "own":
            shapes: list[Shape] = [("n", D), ("m", D), ("n",), ("n", "m"), (D, "n"), (D,), ("n", "n"), ("n", 1)]
            shape = self.one(shapes)
            self.add(name, shape, (), (shape, len(self.steps)))
        elif name == "parameter":
            which, shape = self.one([("matrix", (D, D)), ("vector", (D,)), ("number", ())])
            self.add(name, shape, (), which)
        elif name == "words":
            self.add(name, ("n", D))
        else:
            self.fill("n")
            self.add(name, ("n", D) if name == "stack of vectors" else ("n",))

    def step(self) -> None:
        """Add one step where operands for it are there."""
        name = self.one(sorted(self.allowed - set(SOURCES)))
        if name in UNARY:
            i = self.value(lambda shape: True)
            assert i is not None
            self.add(name, self.shapes[i], (i,))
        elif name in BINARY or name in ("matmul", "squared_error"):
            self._pair(name)
        elif name in REDUCTIONS:
            self._reduction(name)
        else:
            getattr(self, "_" + name.replace(" ", "_"))(name)

    def _pair(self, name: str) -> None:
        rule = product if name == "matmul" else broadcast
        i = self.value(lambda shape: name != "matmul" or 1 <= len(shape) <= 2)
        assert i is not None
        j = self.value(lambda shape: rule(self.shapes[i], shape) is not None)
        if name == "squared_error":
            j = self.value(lambda shape: shape == self.shapes[i])
        if j is None:
            return
        shape = rule(self.shapes[i], self.shapes[j])
        assert shape is not None
        self.add(name, () if name == "squared_error" else shape, (i, j))

    def _reduction(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) > 0)
        assert i is not None
        shape = self.shapes[i]
        axis, keepdims = self.one([None, *range(-len(shape), len(shape))]), self.draw(st.booleans())
        gone = set(range(len(shape))) if axis is None else {axis % len(shape)}
        if name not in ("sum", "prod"):
            self.fill(*(shape[k] for k in gone))
        left = tuple(1 if k in gone else length for k, length in enumerate(shape) if keepdims or k not in gone)
        self.add(name, left, (i,), (axis, keepdims))

    def _softmax(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) > 0)
        assert i is not None
        axis = self.draw(st.integers(-len(self.shapes[i]), len(self.shapes[i]) - 1))
        if name != "cumsum":
            self.fill(self.shapes[i][axis])
        k = axis % len(self.shapes[i])
        left = self.shapes[i][:k] + self.shapes[i][k + 1 :]
        self.add(name, left if name == "logsumexp" else self.shapes[i], (i,), axis)

    _log_softmax = _logsumexp = _cumsum = _softmax

    def _transpose(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2)
        assert i is not None
        self.add(name, self.shapes[i][::-1], (i,))

    def _slice(self, name: str) -> None:
        part = self.one(sorted(SLICES))
        axis = self.draw(st.integers(0, 1))

        def sliced(length: int | str) -> int | str | None:
            return length if part == "reversed" else SLICED.get((str(length), part))

        i = self.value(lambda shape: len(shape) > axis and sliced(shape[axis]) is not None)
        if i is not None:
            shape = list(self.shapes[i])
            shape[axis] = sliced(shape[axis]) or 0
            self.add(name, tuple(shape), (i,), (part, axis))

    def _of_rows(
        self, name: str, lengths: tuple[str, ...] = ("n",), rest: Any = None, first: str | None = None
    ) -> None:
        """A step on a value with one of these lengths first, which stays or becomes another."""
        i = self.value(lambda shape: len(shape) > 0 and shape[0] in lengths)
        if i is not None:
            self.add(name, (first or self.shapes[i][0], *self.shapes[i][1:]), (i,), rest)

    def _gather(self, name: str) -> None:
        self._of_rows(name, first="m")

    def _permute(self, name: str) -> None:
        self._of_rows(name)

    def _rotate(self, name: str) -> None:
        self._of_rows(name, tuple(LENGTHS))

    def _columns(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D)
        if i is not None:
            which, left = self.one([(1, ()), (slice(1, 3), (2,)), ([2, 0, 1, 1], (D,)), (slice(2, 3), (1,))])
            self.add(name, (self.shapes[i][0], *left), (i,), which)

    def _expand(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 1)
        if i is not None:
            last = self.draw(st.booleans())
            self.add(name, (*self.shapes[i], 1) if last else (1, *self.shapes[i]), (i,), last)

    def _join_rows(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) > 0 and shape[0] == "n")
        j = self.value(lambda shape: shape == ("m", *self.shapes[i or 0][1:]))
        if i is not None and j is not None:
            self.add(name, ("both", *self.shapes[i][1:]), (i, j))

    def _join_columns(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] in (1, 2))
        if i is not None:
            j = self.value(lambda shape: shape == self.shapes[i])
            assert j is not None
            self.add(name, (self.shapes[i][0], 2 * int(self.shapes[i][1])), (i, j))

    def _attention(self, name: str) -> None:
        def suits(shape: Shape) -> bool:
            return shape[1:] in ((D,), (2, 2)) and isinstance(shape[0], str)

        i = self.value(suits)
        assert i is not None
        q = self.shapes[i]
        j = self.value(lambda shape: suits(shape) and shape[1:] == q[1:])
        assert j is not None
        k = self.value(lambda shape: shape == self.shapes[j])
        assert k is not None
        self.fill(self.shapes[j][0])
        mask = self.one([None, (self.shapes[j][0],), (q[0], self.shapes[j][0])])
        self.add(name, q, (i, j, k), (self.draw(st.booleans()), mask))

    def _heads(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D)
        if i is not None:
            self.add(name, (self.shapes[i][0], 2, 2), (i,))

    def _no_heads(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 3 and shape[1:] == (2, 2))
        if i is not None:
            self.add(name, (self.shapes[i][0], D), (i,))

    def _pick(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) > 0)
        assert i is not None
        self.fill(self.shapes[i][0])
        self.add(name, self.shapes[i][1:], (i,), self.one([0, -1, None]))

    def _list(self, name: str) -> None:
        how = self.one(sorted(LISTS))
        i = self.value(lambda shape: len(shape) > 0)
        assert i is not None
        self.fill(self.shapes[i][0])
        self.add(name, self.shapes[i] if how in ("stack", "softmax") else self.shapes[i][1:], (i,), how)

    def _cross_entropy(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 1)
        if i is not None:
            self.fill(self.shapes[i][0])
            self.add(name, (), (i,))

    def _convolution(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D and isinstance(shape[0], str))
        assert i is not None
        self.fill(self.shapes[i][0])
        self.add(name, self.shapes[i], (i,), self.one([1, "same"]))

    def _cell_each_row(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D)
        if i is not None:
            self.add(name, self.shapes[i], (i,))

    def _cell_all_rows(self, name: str) -> None:
        i = self.value(lambda shape: len(shape) == 2 and shape[1] == D)
        if i is not None:
            self.fill(self.shapes[i][0])
            self.add(name, (D,), (i,))

    def _inner_grad(self, name: str) -> None:
        i = self.value(lambda shape: True)
        assert i is not None
        self.fill(*self.shapes[i])
        self.add(name, self.shapes[i], (i,))


@st.composite
def programs(draw: Any, allowed: frozenset[str], n_steps: int = 10) -> Program:
    """A program made of the allowed steps, and one to six examples."""
    drawer = _Drawer(draw, allowed)
    summed, returned = draw_steps(draw, drawer, n_steps)
    examples = []
    for _ in range(draw(st.integers(1, 6))):
        n = draw(st.one_of(st.integers(drawer.least["n"], 5), st.just(19)))
        m = draw(st.integers(drawer.least["m"], 4)) if n else 0
        words, picked = (draw(st.lists(st.integers(0, 4), min_size=k, max_size=k)) for k in (n, m))
        examples.append(Example(tuple(words), tuple(picked), draw(st.integers(0, 2)), draw(st.integers(0, 1000))))
    return Program(tuple(drawer.steps), summed, returned, tuple(examples))
