"""Scalars: types, constants and the scalar expressions of the ops, in C.

Input: what `Op.scalar` says, in Python. Output: a C expression. Functions get the prefix `ab_`; C++ chooses among those
of `backends/cuda/kernels.h` by the type of what it is given, and among those of the C library for functions of `math`.

    "{1} if {0} else {2}"   x0, x1, x2   →   (x0 ? x1 : x2)
    "tanh({0})"             x4           →   ab_tanh(x4)
    "math.sin({0})"         x5           →   sin(x5)
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ...base.errors import CompilerBug
from ...ir.graph import Node
from ...ops.elementwise import CAST
from ...ops.functions import POWER_OF
from ...ops.movement import BROADCAST, RESHAPE
from ..text import power

DType = np.dtype[Any]
INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)

_TYPES = {"float32": "float", "float64": "double", "int32": "int", "int64": "i64", "bool": "bool"}
_OPERATORS = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.USub: "-",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


def c_type(dtype: DType) -> str:
    """The type of C that has this dtype.

    >>> c_type(np.dtype(np.int64))
    'i64'
    """
    return _TYPES[dtype.name]


def literal(number: Any, dtype: DType) -> str:
    """A constant of a dtype.

    >>> literal(0.1, np.dtype(np.float32)), literal(2, np.dtype(np.float64)), literal(True, np.dtype(bool))
    ('0.1f', '2.0', 'true')
    """
    if dtype.kind == "b":
        return "true" if number else "false"
    if dtype.kind in "iu":
        if number == np.iinfo(dtype).min:  # C has no literal for it
            return f"({literal(number + 1, dtype)} - 1)"
        return f"({c_type(dtype)}){int(number)}" if int(number) >= 0 else f"(-({c_type(dtype)}){-int(number)})"
    with np.errstate(over="ignore"):
        exact = dtype.type(number)
    if math.isnan(exact):
        return f"({c_type(dtype)})AB_NAN"
    if math.isinf(exact):
        return f"({'-' if exact < 0 else ''}({c_type(dtype)})AB_INFINITY)"
    text = f"{exact!s}{'f' if dtype.itemsize == 4 else ''}"
    return f"({text})" if text.startswith("-") else text


@cache
def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def in_c(expression: str, operands: Sequence[str]) -> str:
    """A scalar expression of operands with these names.

    >>> in_c("maximum({0}, -{1})", ["x", "y"])
    'ab_maximum(x, (-y))'
    """
    names = {f"_{k}": operand for k, operand in enumerate(operands)}
    return _translated(_parsed(expression.format(*names)), names)


def _translated(tree: ast.expr, names: dict[str, str]) -> str:
    def inner(part: ast.expr) -> str:
        return _translated(part, names)

    if isinstance(tree, ast.Name):
        return names[tree.id]
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Pow):
        return f"ab_power({inner(tree.left)}, {inner(tree.right)})"
    if isinstance(tree, ast.BinOp):
        return f"({inner(tree.left)} {_OPERATORS[type(tree.op)]} {inner(tree.right)})"
    if isinstance(tree, ast.UnaryOp):
        return f"({_OPERATORS[type(tree.op)]}{inner(tree.operand)})"
    if isinstance(tree, ast.Compare) and len(tree.ops) == 1:
        return f"({inner(tree.left)} {_OPERATORS[type(tree.ops[0])]} {inner(tree.comparators[0])})"
    if isinstance(tree, ast.IfExp):
        return f"({inner(tree.test)} ? {inner(tree.body)} : {inner(tree.orelse)})"
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        return f"ab_{tree.func.id}({', '.join(inner(a) for a in tree.args)})"
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Attribute):  # of Python's math: C has it by that name
        return f"{tree.func.attr}({', '.join(inner(a) for a in tree.args)})"
    raise CompilerBug(f"no translation to C: {ast.unparse(tree)}")


def affine(row: str, width: int, column: str) -> str:
    """The place of a column in rows of this width.

    >>> affine("i", 3, "j"), affine("i", 1, "0")
    ('i * 3 + j', 'i')
    """
    start = row if width == 1 else "0" if row == "0" else f"{row} * {width}"
    return start if column == "0" else column if start == "0" else f"{start} + {column}"


def elementwise(node: Node, operands: Sequence[str]) -> str:
    """One element of an elementwise node."""
    if node.op in (RESHAPE, BROADCAST):
        return operands[0]
    if node.op is CAST:
        return f"(({c_type(node.type.dtype)}){operands[0]})"
    if node.op is POWER_OF:
        expression, number = power(node.attrs[0], node.type.dtype)
        return in_c(expression, [operands[0], literal(number, node.type.dtype)])
    return in_c(node.op.scalar, operands)


def combined(node: Node, total: str, x: str) -> str:
    """One step of a reduction."""
    assert node.op.combine is not None
    return in_c(node.op.combine.scalar, (total, x))


def identity(node: Node) -> str:
    """What a reduction starts from."""
    return literal(node.op.identity_of(node.type.dtype), node.type.dtype)
