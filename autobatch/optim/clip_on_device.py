"""Clipping by the norm as kernels of a device: nothing here waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backends.cuda import HEADER
from ..backends.device import current_device
from .moves import THREADS, bits, kind_of

_LOOPS = """
AB_KERNEL largest_{name}(const {T}* x, double* parts, i64 n, i64 n_parts) {
    AB_THREADS AB_EACH(t, n_parts) {
        double most = parts[t];
        for (i64 k = t; k < n; k += n_parts) most = ab_maximum(most, (double)ab_abs(x[k]));
        parts[t] = most;
    }
}
AB_KERNEL squares_{name}(const {T}* x, double* parts, const double* unit, i64 n, i64 n_parts) {
    AB_THREADS AB_EACH(t, n_parts) {
        double total = parts[t];
        for (i64 k = t; k < n; k += n_parts) {
            const double scaled = (double)x[k] / *unit;
            total += scaled * scaled;
        }
        parts[t] = total;
    }
}
AB_KERNEL scale_{name}({T}* x, const double* norm, i64 n, i64 most) {
    AB_THREADS AB_EACH(t, n) {
        const double bound = ab_double(most), got = *norm;
        if (got > bound && got < AB_INFINITY) x[t] = ({T})(x[t] * (bound / got));
    }
}
"""
_NORM = """
AB_KERNEL gather_sums(const double* from, double* to, i64 n, i64 each, i64 is_largest) {
    AB_THREADS AB_EACH(t, n) {
        double total = from[t * each];
        for (i64 k = 1; k < each; ++k) {
            total = is_largest ? ab_maximum(total, from[t * each + k]) : total + from[t * each + k];
        }
        to[t] = total;
    }
}
AB_KERNEL make_unit(const double* largest, double* unit) {
    AB_THREADS AB_EACH(t, 1) unit[t] = largest[t] > 0 && largest[t] < AB_INFINITY ? largest[t] : 1.0;
}
AB_KERNEL make_norm(const double* squares, const double* unit, double* norm) {
    AB_THREADS AB_EACH(t, 1) norm[t] = *unit * ab_sqrt(squares[t]);
}
"""


def _written(name: str, kind: str) -> str:
    return _LOOPS.replace("{name}", name).replace("{T}", kind)


SOURCE = HEADER + _written("double", "double") + _written("float", "float") + _NORM
"""The text of all kernels of this file."""

_PARTS, _EACH = 1 << 14, 1 << 7


def clip(arrays: Sequence[Any], max_norm: float) -> Any:
    """Scale arrays so that their common norm is at most `max_norm`; the norm before, an array f64[] of the device."""
    device = current_device()
    double = np.dtype(np.float64)
    parts, sums, numbers = (device.empty((n,), double) for n in (_PARTS, _PARTS // _EACH, 4))
    largest, unit, squares, norm = (int(numbers.data.ptr) + 8 * k for k in range(4))

    def launch(name: str, n: int, *arguments: int) -> None:
        device.launch(device.kernel(SOURCE, name), -(-n // THREADS), THREADS, arguments)

    def gathered(to: int, is_largest: int) -> None:
        n = _PARTS // _EACH
        launch("gather_sums", n, parts.data.ptr, sums.data.ptr, n, _EACH, is_largest)
        launch("gather_sums", 1, sums.data.ptr, to, 1, n, is_largest)

    device.zero(numbers.data.ptr, numbers.nbytes)
    if any(x.dtype == double for x in arrays):  # only their squares can overflow, or vanish
        device.zero(parts.data.ptr, parts.nbytes)
        for x in arrays:
            launch(f"largest_{kind_of(x.dtype)}", _PARTS, x.data.ptr, parts.data.ptr, x.size, _PARTS)
        gathered(largest, 1)
    launch("make_unit", 1, largest, unit)
    device.zero(parts.data.ptr, parts.nbytes)
    for x in arrays:
        launch(f"squares_{kind_of(x.dtype)}", _PARTS, x.data.ptr, parts.data.ptr, unit, x.size, _PARTS)
    gathered(squares, 0)
    launch("make_norm", 1, squares, unit, norm)
    for x in arrays:
        if x.size:
            launch(f"scale_{kind_of(x.dtype)}", x.size, x.data.ptr, norm, x.size, bits(max_norm))
    return numbers[3]
