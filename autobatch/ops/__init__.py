"""What can be computed on one example: every op, declared once.

In: operands and attributes. Out: a type, and for the reference a NumPy array. Nothing is recorded here; who records is
asked through `declare.recorder`.

In reading order: `declare` (the declaration of an op), `elementwise`, `functions` (of one element), `movement`,
`index`, `linalg`, `reduce` (over axes and over lists), `scan` (cumulative sums), `convolution`, `random`,
`searching`; `composite` ops are made of others, as is `cross_entropy`; `composing` declares functions as such, which
are the library: `trigonometry`, `special` functions, `numbers`, `shapes`, `matrices`, `einsum`, `decompositions`,
`gathering`, `sorting`, `segments`, `nonlinearities` and `losses`; `attention` is between two lists of any lengths;
`pairs` has the matrix products of their pairs; `custom` derivatives; `value` has the operators of tensors.
"""

from . import (
    attention,
    composite,
    convolution,
    cross_entropy,
    decompositions,
    einsum,
    elementwise,
    functions,
    gathering,
    index,
    linalg,
    losses,
    matrices,
    movement,
    nonlinearities,
    numbers,
    pairs,
    random,
    reduce,
    scan,
    segments,
    shapes,
    sorting,
    special,
    trigonometry,
)
from .declare import OPS, Op, Sample, apply

__all__ = [
    "OPS",
    "Op",
    "Sample",
    "apply",
    "attention",
    "composite",
    "convolution",
    "cross_entropy",
    "decompositions",
    "einsum",
    "elementwise",
    "functions",
    "gathering",
    "index",
    "linalg",
    "losses",
    "matrices",
    "movement",
    "nonlinearities",
    "numbers",
    "pairs",
    "random",
    "reduce",
    "scan",
    "segments",
    "shapes",
    "sorting",
    "special",
    "trigonometry",
]
