"""Trees and graphs in JSON lines, and expressions in CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autobatch.data import DataFormatError, Tree, expression_tree, read_expressions, read_json_graphs, read_json_trees


def written(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return path


def test_trees_in_both_forms(tmp_path: Path) -> None:
    tree = Tree(3, children=[Tree(2, "good"), Tree(None, "ol", [Tree(1, "film")])])
    nested = {
        "label": 3,
        "children": [{"label": 2, "word": "good"}, {"word": "ol", "children": [{"label": 1, "word": "film"}]}],
    }
    flat = {"words": ["film", None, "good", "ol"], "labels": [1, 3, 2, None], "parents": [3, -1, 1, 1]}
    path = written(tmp_path / "trees.jsonl", nested, "", flat)
    assert list(read_json_trees(path)) == [tree, tree]


def test_a_tree_of_any_depth(tmp_path: Path) -> None:
    n = 20_000
    flat = {"words": list(range(n)), "parents": list(range(-1, n - 1))}
    [tree] = read_json_trees(written(tmp_path / "trees.jsonl", flat))
    assert tree.depth == n
    path = written(tmp_path / "deep.jsonl", '{"children": [' * 200_000 + "]}" * 200_000)
    with pytest.raises(DataFormatError, match="write deep trees as words, labels and parents"):
        list(read_json_trees(path))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2 in .*\n  expected JSON"),
        ([1], r"expected an object, \{...\}, got list"),
        ({"wrod": "a"}, "expected label, word, children; or words, labels, parents, got the node"),
        ({"children": [3]}, "got the node 3"),
        ({"children": 3}, "expected label, word, children"),
        ({"words": ["a"], "parents": [0, 0]}, "got 1 words, 1 labels and 2 parents"),
        ({"words": ["a", "b"], "parents": [-1, 2]}, "got the parent 2"),
        ({"words": ["a", "b"], "parents": [-1, -1]}, "got 2 roots"),
        ({"words": ["a", "b", "c"], "parents": [-1, 2, 1]}, "got a cycle"),
        ({"parents": [-1]}, "got 'words'"),
    ],
)
def test_a_line_that_is_no_tree_is_named(line: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=problem):
        list(read_json_trees(written(tmp_path / "trees.jsonl", {"word": "a"}, line)))


def test_graphs(tmp_path: Path) -> None:
    path = written(tmp_path / "graphs.jsonl", {"nodes": ["C", "O", "N"], "edges": [[0, 1, "="], [2, 2]], "label": 0.5})
    [graph] = read_json_graphs(path)
    assert graph.edges == ((0, 1, "="), (2, 2, None)) and graph.label == 0.5 and graph.n_nodes == len(graph) == 3
    [graph] = read_json_graphs(path, directed=False)
    assert graph.neighbours == ((1,), (0,), (2,))
    for edges in ([[0, 3]], [[0]], [[0, "1"]], [[0, -1]], [0], [[True, 0]]):
        written(path, {"nodes": [1, 2, 3], "edges": edges})
        with pytest.raises(DataFormatError, match=r"expected \[source, target\] or .*, nodes from 0 to 2, got"):
            list(read_json_graphs(path))
    molecule = {"y": -1.5, "atoms": ["C", "O"], "charge": [0, 1], "bonds": [[0, 1]]}
    written(path, molecule)
    [graph] = read_json_graphs(path, nodes=("atoms", "charge"), edges="bonds", label="y")
    assert graph.nodes == (("C", 0), ("O", 1)) and graph.label == -1.5
    with pytest.raises(DataFormatError, match="expected lists of 2 nodes, got 2, 1"):
        list(read_json_graphs(written(path, molecule | {"charge": [0]}), nodes=("atoms", "charge"), edges="bonds"))
    with pytest.raises(DataFormatError, match="expected lists nodes, edges, got nodes"):
        list(read_json_graphs(written(path, {"nodes": []})))


def test_expressions() -> None:
    with pytest.raises(ValueError, match=r"repair: write \*\*"):
        expression_tree("1+2^3")
    tree = expression_tree("-a**2 + f(x, 3.5) < (p or q or not r)", label=1)
    assert str(tree) == "(1 < (+ (neg (** (a) (2))) (f (x) (3.5))) (or (p) (q) (not (r))))"
    for text in ("", "a +", "a; b", "x.y", "f(a=1)", "a < b < c", "[a]", "a @ b", "(" * 5000 + ")" * 5000):
        with pytest.raises(ValueError, match="expression_tree: "):
            expression_tree(text)


def test_expressions_in_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "sums.csv"
    path.write_text('value,expression\n1.5,"f(a, b)"\n\n-2,c\n', "utf-8")
    trees = list(read_expressions(path, label="value", convert=float))
    assert [str(tree) for tree in trees] == ["(1.5 f (a) (b))", "(-2.0 c)"]
    assert str(next(read_expressions(path, label=None))) == "(f (a) (b))"
    for text, problem in (
        ("value,formula\n", "line 1 in .*\n  expected columns expression, got value, formula"),
        ("value,expression\n1,a\n1,a,b\n", "line 3 in .*\n  expected 2 columns, got 3"),
        ("value,expression\n1,a +\n", "line 2 in .*\n  expected an expression and its label"),
        ("value,expression\none,a\n", "line 2 in .*could not convert string to float"),
        ("", "line 1 in .*\n  expected columns expression, value"),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(DataFormatError, match=f"(?s){problem}"):
            list(read_expressions(path, label="value", convert=float))


def test_a_quote_that_is_never_closed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sums.csv"
    path.write_text('expression,label\n"1 + 2,a\n' + "3 + 4,b\n" * 30_000)
    with pytest.raises(DataFormatError, match=r"(?s)malformed line .* in .*sums.csv.*a quote may not be closed"):
        list(read_expressions(path))
