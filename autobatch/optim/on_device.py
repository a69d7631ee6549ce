"""Steps of the optimisers and the clipping of gradients as kernels of a device.

The formulas stand in `sgd.py`, `adam.py` and `clip.py`, beside the loops for the host. Settings go to kernels as the
bits of a double; every argument has 64 bits. Nothing here waits for the device.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.cuda import HEADER
from ..backends.device import Device, current_device
from ..record.parameter import SparseRows

Array = Any

_LOOPS = """
AB_KERNEL decay_{name}({T}* to, const {T}* g, const {T}* w, const i64* rows, i64 n, i64 width, i64 decay) {
    AB_THREADS AB_EACH(t, n) {
        const i64 k = rows == 0 ? t : rows[t / width] * width + t % width;
        to[t] = g[t] + ({T})ab_double(decay) * w[k];
    }
}
AB_KERNEL descend_{name}({T}* w, const {T}* g, i64 n, i64 lr) {
    AB_THREADS AB_EACH(t, n) w[t] -= ({T})ab_double(lr) * g[t];
}
AB_KERNEL descend_rows_{name}({T}* w, const {T}* g, const i64* rows, i64 n, i64 width, i64 lr) {
    AB_THREADS AB_EACH(t, n) w[rows[t / width] * width + t % width] -= ({T})ab_double(lr) * g[t];
}
AB_KERNEL momentum_{name}({T}* w, const {T}* g, {T}* v, i64 n, i64 lr, i64 momentum, i64 ahead) {
    AB_THREADS AB_EACH(t, n) {
        v[t] = ({T})ab_double(momentum) * v[t] + g[t];
        w[t] -= ({T})ab_double(lr) * (ahead ? g[t] + ({T})ab_double(momentum) * v[t] : v[t]);
    }
}
AB_KERNEL adam_{name}({T}* w, const {T}* g, {T}* m, {T}* v, const i64* rows, i64 n, i64 width, i64 keep1, i64 take1,
                      i64 keep2, i64 take2, i64 lr, i64 root, i64 eps) {
    AB_THREADS AB_EACH(t, n) {
        const i64 k = rows == 0 ? t : rows[t / width] * width + t % width;
        m[k] = ({T})ab_double(keep1) * m[k] + ({T})ab_double(take1) * g[t];
        v[k] = ({T})ab_double(keep2) * v[k] + ({T})ab_double(take2) * (g[t] * g[t]);
        w[k] -= ({T})ab_double(lr) * m[k] / (({T})ab_double(root) * ab_sqrt(v[k]) + ({T})ab_double(eps));
    }
}
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

THREADS = 256
_PARTS, _EACH = 1 << 14, 1 << 7


@dataclass(frozen=True, slots=True)
class DeviceMove:
    """What a step does to one parameter of a device: a kernel, and its arguments after the parameter's address.

    arrays: what has to stay until it ran.
    """

    device: Device
    kernel: Any
    n: int
    arguments: tuple[int, ...]
    arrays: tuple[Any, ...]

    def view(self, array: Any) -> Any:
        """The parameter's array as `run` takes it."""
        return array

    def part(self) -> int:
        """The kernel is one part."""
        return self.n

    def run(self, view: Any, counter: Any, address: int) -> None:
        """Start the kernel, unless the counter has it as started."""
        if not counter[1]:
            self.device.launch(self.kernel, -(-self.n // THREADS), THREADS, (view.data.ptr, *self.arguments))
            counter[1] = 1


def bits(x: float) -> int:
    """A double as an integer."""
    return int(struct.unpack("<q", struct.pack("<d", float(x)))[0])


def _kind(dtype: np.dtype[Any]) -> str:
    return "float" if dtype.itemsize == 4 else "double"


class Gradient:
    """A gradient on the device: its numbers, and for a row-sparse one the row numbers."""

    def __init__(self, g: Any, value: Any, decay: float) -> None:
        """`g` as it came, the numbers of its parameter, and the factor of these that is added."""
        self.device = current_device()
        is_sparse = isinstance(g, SparseRows)
        self.values = g.values if is_sparse else g
        self.rows = self.device.upload(g.rows) if is_sparse else None
        self.n = int(self.values.size)
        self.width = math.prod(value.shape[1:]) if is_sparse else 1
        self.kind = _kind(value.dtype)
        if decay and self.n:
            sum = self.device.empty(self.values.shape, value.dtype)
            arguments = self.values, value, self.row_address, self.n, self.width, bits(decay)
            self.move("decay", *arguments).run(sum, [0, 0], 0)
            self.values = sum

    @property
    def row_address(self) -> int:
        """Where the row numbers lie, 0 for a gradient of the whole parameter."""
        return 0 if self.rows is None else int(self.rows.data.ptr)

    def move(self, name: str, *arguments: Any) -> DeviceMove:
        """A kernel to be started, one thread a number; arrays stand for their addresses."""
        plain = tuple(x if isinstance(x, int) else int(x.data.ptr) for x in arguments)
        arrays = (self.values, self.rows, *(x for x in arguments if not isinstance(x, int)))
        kernel = self.device.kernel(SOURCE, f"{name}_{self.kind}")
        return DeviceMove(self.device, kernel, self.n, plain, arrays)


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
            launch(f"largest_{_kind(x.dtype)}", _PARTS, x.data.ptr, parts.data.ptr, x.size, _PARTS)
        gathered(largest, 1)
    launch("make_unit", 1, largest, unit)
    device.zero(parts.data.ptr, parts.nbytes)
    for x in arrays:
        launch(f"squares_{_kind(x.dtype)}", _PARTS, x.data.ptr, parts.data.ptr, unit, x.size, _PARTS)
    gathered(squares, 0)
    launch("make_norm", 1, squares, unit, norm)
    for x in arrays:
        if x.size:
            launch(f"scale_{_kind(x.dtype)}", x.size, x.data.ptr, norm, x.size, bits(max_norm))
    return numbers[3]
