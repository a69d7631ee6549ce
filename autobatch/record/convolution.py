"""Convolution over a sequence, and padding: of rows both are views."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.errors import OpTypeError, op_error, user_error
from ..ops.convolution import CONV1D
from ..ops.declare import apply, as_value
from ..ops.movement import concat, whole, with_extent
from ..ops.value import Tensor, TensorLike
from .creation import filled

Padding = int | tuple[int, int] | tuple[tuple[int, int], ...]


def pad(x: TensorLike, pad_width: Padding, constant_values: float = 0.0) -> Tensor:
    """`x` with `constant_values` around it, as `numpy.pad`; along the first axis of a matrix a view.

    `pad_width` is how many numbers stand before and after: a pair for each axis, one pair, or one integer.

    Raises `OpTypeError` for a `pad_width` of another form, or negative.

    >>> ab.pad(ab.ones((1, 2)), ((1, 0), (0, 1))).numpy()
    array([[0., 0., 0.],
           [1., 1., 0.]], dtype=float32)
    """
    y: Any = as_value(x)
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (y.ndim, 2))
    except ValueError:
        what = "pad_width is not a pair for each axis, one pair, or one integer"
        raise op_error("pad", what, got=f"{pad_width} for {y.shape}") from None
    for axis, pair in enumerate(widths):
        before, after = (whole("pad", n) for n in pair)
        y = _padded(y, axis, before, after, constant_values)
    return y


def _padded(x: Any, axis: int, before: int, after: int, value: float) -> Any:
    counts = [n for n in (before, after) if n]
    parts = [filled("pad", with_extent(x.shape, axis, n), value, x.dtype) for n in counts]
    return concat([*parts[: before > 0], x, *parts[before > 0 :]], axis)


def conv1d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
) -> Tensor:
    """Convolution over the rows of a sequence: y[t] = Σₖ W[:, :, k] x[t · stride + k · dilation] + b, x being padded.

    Rows are time: where PyTorch has one example as (channels, n), this has x: f[n, channels], and a list of vectors
    will do, too. The length n may differ from example to example.

    Arguments:
        x: f[n, in].
        weight: f[out, in, width], as in PyTorch.
        bias: f[out], or None.
        stride: distance of the windows.
        padding: rows of zeros before and after x; "same": as many as give n rows, one more after than before where the
            number is odd; "valid": none.
        dilation: distance of the rows of a window.

    Returns f[m, out], m = ⌊(n + 2 padding − dilation (width − 1) − 1) / stride⌋ + 1. Raises `OpTypeError` for a padded
    sequence that is shorter than a window, and for shapes that do not fit.

    >>> ab.conv1d(ab.ones((5, 2)), ab.ones((3, 2, 2))).shape
    (4, 3)
    """
    rows: Any = as_value(x)
    kernel = as_value(weight)
    if rows.ndim != 2 or kernel.ndim != 3 or rows.shape[1] != kernel.shape[1]:
        raise op_error(
            "conv1d",
            "a sequence and a weight do not fit",
            expected="f[n, in], f[out, in, width]",
            got=f"{rows.shape}, {kernel.shape}",
            repair="rows are time: pass x.T where channels come first",
        )
    n_out, _, width = kernel.shape
    if not width:
        raise op_error(
            "conv1d", "a window has no rows", got=f"a weight {kernel.shape}", repair="make its width 1 or more"
        )
    if bias is not None:
        bias = as_value(bias)
        if bias.shape != (n_out,):
            raise op_error(
                "conv1d", "the bias has another width than the result", expected=f"f[{n_out}]", got=str(bias.shape)
            )
    stride, dilation = whole("conv1d", stride, 1), whole("conv1d", dilation, 1)
    span = dilation * (width - 1) + 1
    before, after = _padding(padding, span, stride)
    rows = _padded(rows, 0, before, after, 0.0)
    if rows.shape[0] < span:
        what = f"a window of {span} rows is longer than the padded sequence of {rows.shape[0]}"
        raise op_error("conv1d", what, repair="pad it, or leave such sequences out")
    count = (rows.shape[0] - span) // stride + 1
    windows = [rows[k : k + stride * (count - 1) + 1 : stride] for k in range(0, span, dilation)]
    return apply(CONV1D, (*windows, kernel, *(() if bias is None else (bias,))), (bias is not None,))


def _padding(padding: int | str, span: int, stride: int) -> tuple[int, int]:
    """Rows of zeros before and after a sequence."""
    if padding == "same":
        if stride != 1:
            raise user_error(OpTypeError, "conv1d: padding='same' needs stride 1", got=str(stride))
        return (span - 1) // 2, span // 2
    if padding == "valid":
        return 0, 0
    if isinstance(padding, str):
        raise user_error(OpTypeError, "conv1d: padding is an integer, 'same' or 'valid'", got=repr(padding))
    n = whole("conv1d", padding)
    return n, n
