"""The task made of the standard library: words, and a split that leaks nothing."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from autobatch.data import SyntaxTreeTask, Tree, syntax_tree
from autobatch.data.syntax_trees import RARE, node_type


@pytest.fixture(scope="module")
def task() -> SyntaxTreeTask:
    return SyntaxTreeTask.load(n_modules=6)


def spelled(task: SyntaxTreeTask, tree: Tree) -> Tree:
    return tree.map(lambda node: (None, task.vocabulary.words[node.word]))


def functions_in(task: SyntaxTreeTask, tree: Tree) -> Any:
    return [node for node in spelled(task, tree) if node_type(node.word) in ("FunctionDef", "AsyncFunctionDef")]


def test_a_word_is_the_type_and_the_identifier() -> None:
    source = "async def f(a, *b):\n  try:\n    import x.y as z\n    a.b = c(d=1, **e)\n  except E as g: global h"
    words = [node.word for node in syntax_tree(ast.parse(source).body[0])]
    named = {
        "AsyncFunctionDef f",
        "arg a",
        "arg b",
        "alias x.y",
        "Attribute b",
        "Name c",
        "keyword d",
        "ExceptHandler g",
    }
    assert named | {"keyword", "Try", "Constant", "Global"} <= set(words)
    assert not {"Load", "Store", "Del"} & set(words)


def test_children_are_in_the_order_of_the_source() -> None:
    assert str(syntax_tree(ast.parse("f(a, b)[c]", mode="eval").body)) == (
        "(Subscript (Call (Name f) (Name a) (Name b)) (Name c))"
    )


def test_deep_syntax_does_not_recurse() -> None:
    node: ast.expr = ast.Name("x", ast.Load())
    for _ in range(20_000):
        node = ast.Attribute(node, "y", ast.Load())
    tree = syntax_tree(node)
    assert tree.depth == 20_001
    while isinstance(node, ast.Attribute):  # ast nodes themselves are freed by recursion
        node = node.value


def test_classes_are_modules_and_words_are_numbers(task: Any) -> None:
    assert len(task.modules) == 6
    for part in (task.train, task.held_out):
        assert {tree.label for tree in part} == set(range(6))
        assert all(node.label is None for tree in part for child in tree.children for node in child)
        assert all(0 <= node.word < len(task.vocabulary) for tree in part for node in tree)
    assert 0.1 < len(task.held_out) / (len(task.train) + len(task.held_out)) <= 0.22


def test_identifiers_are_kept_where_seen_three_times_in_training(task: Any) -> None:
    counts = dict.fromkeys(task.vocabulary, 0)
    for tree in task.train:
        for node in tree:
            counts[task.vocabulary.words[node.word]] += 1
    for word, count in counts.items():
        kind, _, identifier = word.partition(" ")
        assert identifier in ("", RARE) or count >= 3
        assert kind in task.types or word == RARE
    assert "Name " + RARE in task.vocabulary and "Return" in task.vocabulary


def test_each_word_has_its_type(task: Any) -> None:
    assert [task.types[number] for number in task.type_of_word] == [node_type(word) for word in task.vocabulary]


def test_no_function_stands_in_both_splits(task: Any) -> None:
    train, held_out = (
        {function for tree in part for function in functions_in(task, tree)} for part in (task.train, task.held_out)
    )
    assert train and held_out and train.isdisjoint(held_out)


def test_the_same_in_every_run(task: Any) -> None:
    again = SyntaxTreeTask.load(n_modules=6)
    assert (again.train, again.held_out, again.vocabulary.words) == (task.train, task.held_out, task.vocabulary.words)


def test_functions_that_meet_once_rare_words_are_merged_move_to_training(tmp_path: Path) -> None:
    # Alike but for identifiers that are seen once: all equal after merging, so none can be held out.
    for module in ("one", "two"):
        lines = [f"def {module}{number}(): return {module}_{number}" for number in range(30)]
        tmp_path.joinpath(module + ".py").write_text("\n".join(lines))
    task = SyntaxTreeTask.load(2, held_out=0.5, root=tmp_path)
    assert (len(task.train), task.held_out) == (60, [])
    distinct = SyntaxTreeTask.load(2, min_count=1, held_out=0.5, root=tmp_path)
    assert len(distinct.train) + len(distinct.held_out) == 60 and len(distinct.held_out) > 20


def test_a_function_inside_another_keeps_to_its_split(tmp_path: Path) -> None:
    inner = "def helper(x):\n    return x"
    outer = "def outer{0}():\n  def helper(x):\n    return x\n  return {0}"
    lines = [inner, *(outer.format(number) for number in range(40))]
    tmp_path.joinpath("module.py").write_text("\n".join(lines))
    task = SyntaxTreeTask.load(1, held_out=0.5, root=tmp_path)
    assert len(task.train) + len(task.held_out) == 41
    assert not task.train or not task.held_out
