"""Convolution over the rows of a matrix: all windows of rows, each the operand of one matmul."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.errors import OpTypeError, op_error
from .declare import Attrs, Sample, apply, declare
from .linalg import MATMUL
from .movement import concat, reshape, transpose


def _body(*args: Any) -> Any:
    """Operands are row `k` of every window, for each k, then the weight and the bias, if there is one."""
    *operands, has_bias = args
    xs, weight, *bias = operands[: -1 - has_bias], *operands[-1 - has_bias :]
    n_out, n_in, width = weight.shape
    if any(x.ndim not in (1, 2) or x.shape != xs[0].shape for x in xs) or (len(xs), xs[0].shape[-1]) != (width, n_in):
        got = f"{len(xs)} of {xs[0]._type}, {weight._type}"
        raise op_error(
            "conv1d",
            "the windows do not fit the weight",
            expected="width of f[n, in]",
            got=got,
            repair="the weight is f[out, in, width], of the width of the rows",
        )
    y = apply(MATMUL, (concat(xs, -1), reshape(transpose(weight, (2, 1, 0)), (width * n_in, n_out))))
    return y + bias[0] if bias else y


def _lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    n_rest = 1 + attrs[0]
    if ndims[0] != 2 or any(shared[:-n_rest]) or not all(shared[-n_rest:]):
        return None
    return (*[True] * (len(ndims) - n_rest), *[False] * n_rest)


CONV1D = declare(
    "conv1d",
    "rows of all windows, side by side, times a weight, plus a bias",
    body=_body,
    lead=_lead,
    samples=lambda rng: [
        Sample((rng.normal(size=(4, 2)), rng.normal(size=(3, 2, 1)), rng.normal(size=3)), (True,)),
        Sample((*rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3, 2))), (False,)),
        Sample((*rng.normal(size=(3, 1, 2)), rng.normal(size=(2, 2, 3)), rng.normal(size=2)), (True,)),
        Sample((np.ones((4, 2)), np.ones((3, 3, 1))), (False,), error=OpTypeError),
    ],
)
