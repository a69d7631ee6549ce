"""Trees and graphs of files with one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .files import DataFormatError, numbered_lines
from .trees import Tree, pop_last

__all__ = ["Graph", "read_json_graphs", "read_json_trees"]


def _objects(path: str | os.PathLike[str], reader: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of the line and object of each line that is not empty."""
    for number, line in numbered_lines(path, reader):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataFormatError(reader, str(path), number, "JSON", f"{error}") from None
        except RecursionError:
            repair = "write deep trees as words, labels and parents"
            raise DataFormatError(reader, str(path), number, "objects less deep", "a deep one", repair) from None
        if not isinstance(found, dict):
            raise DataFormatError(reader, str(path), number, "an object, {...}", f"{type(found).__name__}")
        yield number, found


def read_json_trees(path: str | os.PathLike[str]) -> Iterator[Tree]:
    """Read trees of a file at `path`, one a line, in either of two forms:

        {"label": 3, "children": [{"word": "good"}, {"word": "film"}]}
        {"words": [null, "good", "film"], "labels": [3, null, null], "parents": [-1, 0, 0]}

    In the first, what a node does not have may be left out. In the second, nodes stand in any order, the root has
    parent -1, children keep their order, and `labels` may be left out; such trees may be of any depth.

    Raises DataFormatError for lines that are neither; OSError.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "trees.jsonl")
    ...     _ = path.write_text('{"words": ["not", "bad"], "parents": [-1, 0]}\\n')
    ...     print(*read_json_trees(path))
    (not (bad))
    """
    for number, found in _objects(path, "read_json_trees"):
        try:
            yield _of_parents(found) if "parents" in found else _of_children(found)
        except (TypeError, ValueError, KeyError) as error:
            expected = "label, word, children; or words, labels, parents"
            raise DataFormatError("read_json_trees", str(path), number, expected, f"{error}") from None


def _of_children(root: Any) -> Tree:
    order: list[Any] = []
    pending = [root]
    while pending:
        node = pending.pop()
        if not isinstance(node, dict) or not node.keys() <= {"label", "word", "children"}:
            raise ValueError(f"the node {json.dumps(node)[:60]}")
        order.append(node)
        pending.extend(node.get("children", ()))
    made: list[Tree] = []
    for node in reversed(order):
        children = pop_last(made, len(node.get("children", ())))
        made.append(Tree(node.get("label"), node.get("word"), children))
    return made[0]


def _of_parents(found: dict[str, Any]) -> Tree:
    parents, words = found["parents"], found["words"]
    labels = found.get("labels", [None] * len(words))
    if not len(parents) == len(words) == len(labels):
        raise ValueError(f"{len(words)} words, {len(labels)} labels and {len(parents)} parents")
    below: list[list[int]] = [[] for _ in words]
    roots: list[int] = []
    for k, parent in enumerate(parents):
        if type(parent) is not int or not -1 <= parent < len(words):
            raise ValueError(f"the parent {parent!r}")
        (roots if parent == -1 else below[parent]).append(k)
    if len(roots) != 1:
        raise ValueError(f"{len(roots)} roots")
    order, pending = [], roots
    while pending:
        order.append(pending.pop())
        pending.extend(below[order[-1]])
    if len(order) != len(words):
        raise ValueError("a cycle")
    made: dict[int, Tree] = {}
    for k in reversed(order):
        made[k] = Tree(labels[k], words[k], [made.pop(child) for child in below[k]])
    return made[order[0]]


@dataclass(frozen=True)
class Graph:
    """Nodes and the edges between them.

    Attributes:
        nodes: what each node holds.
        edges: (source, target, what the edge holds), nodes by number.
        label: what the graph holds.

    >>> graph = Graph(("C", "O"), ((0, 1, 2), (1, 0, 2)))
    >>> graph.n_nodes, graph.neighbours
    (2, ((1,), (0,)))
    """

    nodes: tuple[Any, ...]
    edges: tuple[tuple[int, int, Any], ...]
    label: Any = None

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """For each node the sources of the edges that lead to it, in the order of `edges`."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for source, target, _ in self.edges:
            found[target].append(source)
        return tuple(map(tuple, found))


def read_json_graphs(
    path: str | os.PathLike[str],
    directed: bool = True,
    nodes: str | Sequence[str] = "nodes",
    edges: str = "edges",
    label: str = "label",
) -> Iterator[Graph]:
    """Read graphs of a file at `path`, one a line: {"nodes": ["C", "O"], "edges": [[0, 1, 2]], "label": 0.5}.

    An edge is [source, target] or [source, target, what it holds], nodes counted from 0; the label may be left out.

    Arguments:
        directed: if not, every edge is there in both directions.
        nodes: name of the list of nodes; or names of several lists, of which each node holds a tuple.
        edges, label: their names.

    Raises DataFormatError for lines that are no graphs, and for edges to nodes that are not there; OSError.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "graphs.jsonl")
    ...     _ = path.write_text('{"nodes": ["C", "O"], "edges": [[0, 1]]}\\n')
    ...     print(*read_json_graphs(path, directed=False))
    Graph(nodes=('C', 'O'), edges=((0, 1, None), (1, 0, None)), label=None)
    """
    reader = "read_json_graphs"
    columns = (nodes,) if isinstance(nodes, str) else tuple(nodes)
    for number, found in _objects(path, reader):
        lists: list[Any] = [found.get(name) for name in (*columns, edges)]
        if not all(isinstance(x, list) for x in lists):
            expected = f"lists {', '.join((*columns, edges))}"
            raise DataFormatError(reader, str(path), number, expected, ", ".join(found))
        *held, given = lists
        if any(len(x) != len(held[0]) for x in held):
            expected, got = f"lists of {len(held[0])} nodes", ", ".join(str(len(x)) for x in held)
            raise DataFormatError(reader, str(path), number, expected, got)
        made: list[tuple[int, int, Any]] = []
        for edge in given:
            is_edge = isinstance(edge, list) and len(edge) in (2, 3) and all(type(end) is int for end in edge[:2])
            if not is_edge or not all(0 <= end < len(held[0]) for end in edge[:2]):
                expected = f"[source, target] or [source, target, label], nodes from 0 to {len(held[0]) - 1}"
                raise DataFormatError(reader, str(path), number, expected, json.dumps(edge))
            source, target, holds = (*edge, None)[:3]
            made.append((source, target, holds))
            if not directed and source != target:
                made.append((target, source, holds))
        rows = held[0] if isinstance(nodes, str) else zip(*held, strict=True)
        yield Graph(tuple(rows), tuple(made), found.get(label))
