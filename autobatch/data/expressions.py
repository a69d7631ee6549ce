"""Expressions as trees, and CSV files of them."""

from __future__ import annotations

import ast
import csv
import os
from collections.abc import Callable, Iterator
from typing import Any

from ..base.errors import message
from .files import DataFormatError, numbered_lines
from .trees import Tree, pop_last

__all__ = ["expression_tree", "read_expressions"]

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.USub: "neg",
    ast.UAdd: "pos",
    ast.And: "and",
    ast.Or: "or",
    ast.Not: "not",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.Invert: "~",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


def expression_tree(text: str, label: Any = None) -> Tree:
    """The tree of `text`, an expression in Python's notation: operators, names, numbers and functions are words. The
    minus of a negative number is the word `neg`.

    Arguments:
        label: of the root; the other nodes have none.

    Raises ValueError for what is no such expression, and for `^`: a power is written `**`.

    >>> print(expression_tree("a * (b + 2) - sin(x)"))
    (- (* (a) (+ (b) (2))) (sin (x)))
    """
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(message("expression_tree: no expression", got=f"{text[:60]!r}: {error}")) from None
    order: list[tuple[str, int]] = []
    pending: list[ast.expr] = [body]
    while pending:
        word, children = _node(pending.pop(), text)
        order.append((word, len(children)))
        pending.extend(children)
    made: list[Tree] = []
    for word, n_children in reversed(order):
        made.append(Tree(None, word, pop_last(made, n_children)))
    root = made[0]
    return root if label is None else Tree(label, root.word, root.children)


def _node(node: ast.expr, text: str) -> tuple[str, list[ast.expr]]:
    """Word and children."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)], [node.left, node.right]
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)], [node.operand]
    if isinstance(node, ast.BoolOp):
        return _OPERATORS[type(node.op)], node.values
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
        return _OPERATORS[type(node.ops[0])], [node.left, *node.comparators]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return node.func.id, node.args
    if isinstance(node, ast.Name):
        return node.id, []
    if isinstance(node, ast.Constant):
        return str(node.value), []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
        raise ValueError(message("expression_tree: ^ is no power", got=repr(text[:60]), repair="write **"))
    what, expected = "expression_tree: not part of an expression", "operators, names, numbers and functions"
    raise ValueError(message(what, expected=expected, got=f"{ast.unparse(node)!r} in {text[:60]!r}"))


def read_expressions(
    path: str | os.PathLike[str],
    expression: str = "expression",
    label: str | None = "label",
    convert: Callable[[str], Any] = str,
    parse: Callable[[str], Tree] = expression_tree,
    delimiter: str = ",",
) -> Iterator[Tree]:
    """Read the expressions of a CSV file whose first line names its columns; each tree has its label at the root.

    Arguments:
        path: the file, plain, .gz or .xz.
        expression: name of the column with the expression.
        label: name of the column with the label; None for no labels.
        convert: makes a label of its text, such as `float`, raising ValueError if it cannot.
        parse: makes a tree of an expression, raising ValueError if it cannot.
        delimiter: between two columns.

    Raises DataFormatError for columns that are missing, expressions and labels; OSError.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "sums.csv")
    ...     _ = path.write_text("expression,value\\n1 + x * 2,7\\n")
    ...     [tree] = read_expressions(path, label="value", convert=float)
    >>> print(tree)
    (7.0 + (1) (* (x) (2)))
    """
    reader = "read_expressions"
    rows = csv.reader((f"{line}\n" for _, line in numbered_lines(path, reader)), delimiter=delimiter)
    given = _rows(rows, path)
    names = next(given, [])
    missing = [name for name in (expression, label) if name is not None and name not in names]
    if missing:
        raise DataFormatError(reader, str(path), 1, f"columns {', '.join(missing)}", ", ".join(names))
    at, label_at = names.index(expression), None if label is None else names.index(label)
    for row in given:
        if not row:
            continue
        if len(row) != len(names):
            raise DataFormatError(reader, str(path), rows.line_num, f"{len(names)} columns", f"{len(row)}")
        try:
            tree = parse(row[at])
            if label_at is not None:
                tree = Tree(convert(row[label_at]), tree.word, tree.children)
        except ValueError as error:
            raise DataFormatError(reader, str(path), rows.line_num, "an expression and its label", f"{error}") from None
        yield tree


def _rows(rows: Any, path: str | os.PathLike[str]) -> Iterator[list[str]]:
    """The rows of a reader of CSV; DataFormatError where it meets what is none."""
    try:
        yield from rows
    except csv.Error as error:
        repair = "a quote may not be closed"
        raise DataFormatError("read_expressions", str(path), rows.line_num, "CSV", str(error), repair) from None
