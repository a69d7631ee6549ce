"""Sums over all structures of an input: of taggings, segmentations, alignments and trees. Built on public names.

`semirings` says what "sum" and "product" are: logarithms of sums give partition functions, maxima the best structure.
`chains` are linear-chain and semi-Markov CRFs, `ctc` alignments, `trees` parses by grammars and dependencies.

Each function takes scores, logarithms of factors, of one example; `marginals` gives the probability of each part.
"""

from __future__ import annotations

from .chains import CRF, linear_chain, semi_markov
from .ctc import ctc, ctc_loss
from .semirings import COUNT, FORBIDDEN, LOG, MAX, REAL, Semiring, marginals
from .trees import eisner, inside, matrix_tree

__all__ = [
    "COUNT",
    "CRF",
    "FORBIDDEN",
    "LOG",
    "MAX",
    "REAL",
    "Semiring",
    "ctc",
    "ctc_loss",
    "eisner",
    "inside",
    "linear_chain",
    "marginals",
    "matrix_tree",
    "semi_markov",
]
