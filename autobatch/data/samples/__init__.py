"""Small files to begin with, written for this library; none is part of a data set.

Files: `reviews.txt` (20 binary trees in brackets, each phrase labelled from 0, bad, to 4, good), `sentences.tsv` (20
sentences: word, tag, head, relation), `entities.tsv` (24 sentences: word, tag of a named entity), `verses.txt` (six
verses), `expressions.csv` (40 expressions and the sign of their value) and `expressions.jsonl` (the same as JSON
trees), `molecules.jsonl` (30 molecules: atoms, bonds, and y, which is a rule's and not measured).
"""

from __future__ import annotations

from pathlib import Path

from ...base.errors import message

__all__ = ["sample"]


def sample(name: str) -> str:
    """The path of a small file that comes with the library, to try readers and models on.

    Arguments:
        name: `reviews.txt`, `sentences.tsv`, `entities.tsv`, `verses.txt`, `expressions.csv`, `expressions.jsonl` or
            `molecules.jsonl`.

    Raises FileNotFoundError, which lists them, for another name.

    >>> trees = list(ab.data.read_trees(ab.data.sample("reviews.txt")))
    >>> len(trees), trees[2]
    (20, <Tree (1 (2 (2 the) (2 plot)) (1 drags))>)
    """
    folder = Path(__file__).parent
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".txt", ".tsv", ".csv", ".jsonl"))
    if name not in names:
        raise FileNotFoundError(message("sample: there is no such file", expected=", ".join(names), got=repr(name)))
    return str(folder / name)
