"""Rules: what an update does to one number of a parameter, declared once and made for NumPy, Numba and CUDA.

Input: assignments of scalar expressions, one a line. Output: a function of NumPy arrays, a compiled loop, or a kernel.

    g = g + weight_decay * w                      w: the parameter, g: its gradient
    sum = sum + g * g                             sum: an array that the optimiser keeps, as large as the parameter
    w = w - lr * g / (sqrt(sum) + eps)            lr, weight_decay, eps: scalars, the same for all numbers

What is assigned is stored if it is an array, except `g`; another name is a value of this line and those below it. A
name that is neither is a scalar. Constants take the dtype of the parameter. The functions are `FUNCTIONS`.

Where a gradient has only some rows of a table, `g` is what it has, and of every other array these rows are meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from ..backends.cuda import HEADER
from ..compile.cuda.scalars import in_c
from ..compile.host.cache import load

Array = np.ndarray[Any, Any]

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "sign": np.sign,
    "sqrt": np.sqrt,
}
"""Functions of a rule, as NumPy has them; NaN goes through all of them."""

_OPERAND = re.compile(r"(?P<name>[A-Za-z_]\w*)(?!\w*\()|(?P<number>\b\d+(?:\.\d*)?(?:e-?\d+)?)")
"""A name that is no function's, or a constant."""

RELAXED = ("afn", "arcp", "contract", "nsz", "reassoc")
"""Relaxations of IEEE order in compiled loops: vectorised, but NaN and infinities kept."""

_LOOP = """from autobatch.backends.host.parts import parts_done, take_part
from autobatch.backends.host.scalar_functions import maximum, minimum, sign, sqrt
from autobatch.base.jit import njit


@njit(error_model="numpy", fastmath={relaxed}, nogil=True)
def loop(n_, width_, {arguments}, scalars_, parts_):
{before}
    n_done_ = 0
    first_, last_ = take_part(parts_, 0, n_)
    while first_ < last_:
{part}
        n_done_ += 1
        first_, last_ = take_part(parts_, n_, n_)
    return parts_done(parts_, n_done_)
"""

_KERNEL = """
AB_KERNEL update({arguments}, const i64* rows_, i64 n_, i64 width_{bits}) {{
{before}
    AB_THREADS AB_EACH(t_, n_) {{
        const i64 k_ = rows_ == 0 ? t_ : rows_[t_ / width_] * width_ + t_ % width_;
{body}
    }}
}}
"""


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule in all its forms.

    Attributes:
        text: its assignments.
        arrays: names of the arrays, `w` first.
    """

    text: str
    arrays: tuple[str, ...]

    @cached_property
    def _assignments(self) -> list[tuple[str, str]]:
        """Name and expression of each line."""
        lines = (line.partition(" = ") for line in self.text.splitlines())
        return [(target, expression) for target, _, expression in lines]

    @cached_property
    def scalars(self) -> tuple[str, ...]:
        """Names of the scalars, in the order in which the rule reads them."""
        known: set[str] = set(self.arrays)
        found: dict[str, None] = {}
        for target, expression in self._assignments:
            found |= {name: None for name in _names(expression) if name not in known}
            known.add(target)
        return tuple(found)

    @cached_property
    def stored(self) -> tuple[str, ...]:
        """Names of the arrays that change."""
        targets = {target for target, _ in self._assignments}
        return tuple(name for name in self.arrays if name in targets and name != "g")

    @cached_property
    def _code(self) -> Any:
        return compile(self.text, "<rule>", "exec")

    def values(self, arrays: Mapping[str, Any], scalars: Mapping[str, Any]) -> list[Any]:
        """What the stored arrays become, by NumPy; nothing is written.

        >>> rule = rule_of("w = w - lr * g", "w", "g")
        >>> rule.values({"w": np.ones(2), "g": np.array([1.0, 3.0])}, {"lr": np.float64(0.5)})
        [array([ 0.5, -0.5])]
        """
        names = {**FUNCTIONS, **scalars, **arrays}
        with np.errstate(all="ignore"):
            exec(self._code, names)
        return [names[name] for name in self.stored]

    @cached_property
    def loop(self) -> Callable[..., int]:
        """The compiled loop `loop(n, 1, w, *other arrays, scalars, parts)` over arrays of one axis; see `moves`."""
        return load(self.loop_text(False))

    @cached_property
    def loop_by_rows(self) -> Callable[..., int]:
        """The same over matrices: `loop(n, width, w, rows, *other arrays, scalars, parts)`; `g` has n rows."""
        return load(self.loop_text(True))

    def loop_text(self, by_rows: bool) -> str:
        constants: list[str] = []
        body = [f"{target} = {_template(expression, constants)}" for target, expression in self._assignments]
        reads = [f"{name} = {name}_part[k_]" for name in self.arrays]
        stores = [f"{name}_part[k_] = {name}" for name in self.stored]
        parts = ", ".join(f"{name}_part" for name in self.arrays)
        # Numbers counted from 0 are known not to be negative, without which the loop does not vectorise.
        inner = ["for k_ in range(w_part.size):", *(f"    {line}" for line in (*reads, *body, *stores))]
        if by_rows:
            places = ", ".join(f"{name}_all[{'i_' if name == 'g' else 'row_'}]" for name in self.arrays)
            inner = ["row_ = rows_[i_]", f"{parts}, = {places},", *inner]
            inner = ["for i_ in range(first_, last_):", *(f"    {line}" for line in inner)]
        else:
            inner = [f"{parts}, = {', '.join(f'{name}_all[first_:last_]' for name in self.arrays)},", *inner]
        before = [f"{', '.join(self.scalars)}, = scalars_"] if self.scalars else []
        before += [f"c{k}_ = w_all.dtype.type({number})" for k, number in enumerate(constants)]
        names = [f"{name}_all" for name in self.arrays]
        return _LOOP.format(
            relaxed="{" + ", ".join(f'"{name}"' for name in RELAXED) + "}",
            arguments=", ".join([names[0], *(["rows_"] if by_rows else []), *names[1:]]),
            before="\n".join(f"    {line}" for line in before),
            part="\n".join(f"        {line}" for line in inner),
        )

    @cached_property
    def kernels(self) -> dict[str, str]:
        """The programs of `kernel_text` on "float" and "double"."""
        return {kind: self.kernel_text(kind) for kind in ("float", "double")}

    def kernel_text(self, kind: str) -> str:
        """A program with the kernel `update(*arrays, rows, n, width, *bits of scalars)`, on "float" or "double".

        `n` counts the numbers of the gradient; `rows` is 0 where it has all of them.
        """
        body, defined = [], set(self.arrays)
        body += [f"{kind} {name} = {name}_all[{'t_' if name == 'g' else 'k_'}];" for name in self.arrays]
        constants: list[str] = []
        for target, expression in self._assignments:
            operands = _names(expression)
            first = len(constants)
            template = _template(expression, constants, operands)
            value = in_c(template, [*operands, *(f"c{k}_" for k in range(first, len(constants)))])
            body.append(f"{'' if target in defined else f'{kind} '}{target} = {value};")
            defined.add(target)
        body += [f"{name}_all[k_] = {name};" for name in self.stored]
        before = [f"const {kind} {name} = ({kind})ab_double({name}_bits);" for name in self.scalars]
        before += [f"const {kind} c{k}_ = ({kind}){float(number)};" for k, number in enumerate(constants)]
        return HEADER + _KERNEL.format(
            arguments=", ".join(f"{'' if x in self.stored else 'const '}{kind}* {x}_all" for x in self.arrays),
            bits="".join(f", i64 {name}_bits" for name in self.scalars),
            before="\n".join(f"    {line}" for line in before),
            body="\n".join(f"        {line}" for line in body),
        )


@cache
def rule_of(text: str, *arrays: str) -> Rule:
    """The rule of a text; the same object for the same text.

    Arguments:
        text: assignments, one a line.
        arrays: names of what is an array, `w` first.

    >>> rule = rule_of("step = lr * g\\nw = w - step", "w", "g")
    >>> rule.scalars, rule.stored
    (('lr',), ('w',))
    """
    return Rule("\n".join(line.strip() for line in text.splitlines() if line.strip()), arrays)


def _names(expression: str) -> list[str]:
    """Names in an expression, each once, without those of functions."""
    return list(dict.fromkeys(match["name"] for match in _OPERAND.finditer(expression) if match["name"]))


def _template(expression: str, constants: list[str], operands: list[str] | None = None) -> str:
    """The expression with names in the place of constants, which are added to the list: `c0_`, `c1_` and so on, or with
    `operands` the places `{0}`, `{1}` and so on of these and then of the constants."""
    first = len(constants)

    def put(match: re.Match[str]) -> str:
        if match["name"]:
            return match["name"] if operands is None else f"{{{operands.index(match['name'])}}}"
        constants.append(match["number"])
        k = len(constants) - 1
        return f"c{k}_" if operands is None else f"{{{len(operands) + k - first}}}"

    return _OPERAND.sub(put, expression)
