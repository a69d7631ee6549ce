"""Data of the child-sum Tree-LSTM: functions of Python's standard library as syntax trees, and the parameters.

The modules are named below, so that every CPython of one version gives the same trees; of their outermost functions
those of 10 to 200 nodes are taken, 1,600 at most, in an order drawn from a seed. A node has a number for its type and
identifier, as in `Name self`, if that pair is seen three times or more, else one for its type alone. The class of a
function is how many `return` statements it has: none, one, two, three, or more.
"""

from __future__ import annotations

import ast
import sysconfig
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from autobatch.data import Tree, Vocabulary, syntax_tree
from benchmarks.workload import Parameters, Product, linear

MODULES = (
    *("_pydecimal", "argparse", "ast", "configparser", "difflib", "doctest", "email/message", "fractions"),
    *("http/client", "http/cookiejar", "inspect", "ipaddress", "pickle", "pickletools", "shutil", "socket"),
    *("statistics", "subprocess", "tarfile", "tempfile", "threading", "turtle", "typing"),
)
N_FUNCTIONS = 25 * 64
SMALLEST, LARGEST = 10, 200
N_CLASSES = 5
EMBEDDING = 128
MIN_COUNT = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


def examples() -> list[Tree]:
    """The functions; words are numbers, the root's label is the class."""
    return _read()[0]


@cache
def _read() -> tuple[list[Tree], int]:
    """The functions, and how many words there are."""
    functions = [function for module in MODULES for function in _outermost_functions(module)]
    trees = [Tree(_class(function), *_parts(function)) for function in functions]
    trees = [tree for tree in trees if SMALLEST <= tree.n_nodes <= LARGEST]
    order = np.random.default_rng(2015).permutation(len(trees))[:N_FUNCTIONS]
    chosen = [trees[k] for k in order]
    counts = Counter(node.word for tree in chosen for node in tree)

    def spelled(word: str) -> str:
        return word if counts[word] >= MIN_COUNT else word.partition(" ")[0]

    vocabulary = Vocabulary(spelled(node.word) for tree in chosen for node in tree)
    numbered = [tree.map(lambda node: (node.label, vocabulary[spelled(node.word)])) for tree in chosen]
    return numbered, len(vocabulary)


def _outermost_functions(module: str) -> list[Function]:
    """Functions and methods of a module that stand in no other function, in the order of the source."""
    source = Path(sysconfig.get_path("stdlib"), f"{module}.py").read_text(encoding="utf-8")
    found: list[Function] = []
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, Function):
            found.append(node)
        else:
            pending.extend(reversed(list(ast.iter_child_nodes(node))))
    return found


def _parts(function: Function) -> tuple[str, tuple[Tree, ...]]:
    tree = syntax_tree(function)
    return tree.word, tree.children


def _class(function: Function) -> int:
    return min(sum(isinstance(node, ast.Return) for node in ast.walk(function)), N_CLASSES - 1)


def parameters(dim: int, seed: int = 1) -> Parameters:
    """Initial parameters, float32. Layouts are (outputs, inputs); gates stand in the order i, o, u.

    | name         | shape        | use                                                   |
    |--------------|--------------|-------------------------------------------------------|
    | `table`      | (words, 128) | e = table[word]                                       |
    | `word_w`     | (3 H, 128)   | i, o, u = word_w e + word_b + children_w Σ h_k        |
    | `word_b`     | (3 H,)       |                                                       |
    | `children_w` | (3 H, H)     |                                                       |
    | `keep_w`     | (H, 128)     | f_k = keep_w e + keep_b + child_w h_k                 |
    | `keep_b`     | (H,)         |                                                       |
    | `child_w`    | (H, H)       |                                                       |
    | `out_w`      | (5, H)       | logits = out_w h + out_b                              |
    | `out_b`      | (5,)         |                                                       |
    """
    rng = np.random.default_rng(seed)

    def weight(n_out: int, n_in: int) -> np.ndarray:
        bound = (6.0 / (n_in + n_out)) ** 0.5
        return rng.uniform(-bound, bound, (n_out, n_in)).astype(np.float32)

    def bias(n: int) -> np.ndarray:
        return rng.uniform(-0.05, 0.05, n).astype(np.float32)

    return {
        "table": rng.normal(0.0, 0.1, (_read()[1], EMBEDDING)).astype(np.float32),
        "word_w": weight(3 * dim, EMBEDDING),
        "word_b": bias(3 * dim),
        "children_w": weight(3 * dim, dim) * np.float32(0.5),
        "keep_w": weight(dim, EMBEDDING),
        "keep_b": bias(dim),
        "child_w": weight(dim, dim),
        "out_w": weight(N_CLASSES, dim),
        "out_b": bias(N_CLASSES),
    }


def products(examples: Sequence[Tree], dim: int) -> list[Product]:
    """Leaves need no forget gate and have no children to read."""
    n_nodes = sum(tree.n_nodes for tree in examples)
    n_inner = sum(not node.is_leaf for tree in examples for node in tree)
    return [
        *linear(n_nodes, EMBEDDING, 3 * dim),
        *linear(n_inner, EMBEDDING, dim),
        *linear(n_inner, dim, 3 * dim),
        *linear(n_nodes - len(examples), dim, dim),
        *linear(len(examples), dim, N_CLASSES),
    ]
