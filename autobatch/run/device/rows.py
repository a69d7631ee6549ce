"""Kernels on rows of arrays of a device: taken, cleared, added to, merged. They serve what no program does: values that
are asked for, seeds of the backward pass, gradients that come as rows.

Sums go row by row in the order given, so they are repeatable. Every argument has 64 bits: addresses and integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.cuda import HEADER
from ...backends.device import Device

THREADS = 256

_COPIES = """
AB_KERNEL take_{bytes}(const {T}* from, const int* rows, {T}* to, i64 n, i64 w) {
    AB_THREADS AB_EACH(t, n * w) to[t] = from[(i64)rows[t / w] * w + t % w];
}
"""
_SUMS = """
AB_KERNEL clear_{name}({T}* to, const int* rows, i64 n, i64 w) {
    AB_THREADS AB_EACH(t, n * w) to[(i64)rows[t / w] * w + t % w] = 0;
}
AB_KERNEL add_{name}({T}* to, const {T}* from, i64 n) {
    AB_THREADS AB_EACH(t, n) to[t] += from[t];
}
AB_KERNEL add_rows_{name}({T}* to, const int* rows, const {T}* from, const int* order, const int* starts,
                          i64 n, i64 w) {
    AB_THREADS AB_EACH(t, n * w) {
        const i64 s = t / w, j = t % w;
        {T} sum = 0;
        for (i64 q = starts[s]; q < starts[s + 1]; ++q) sum += from[(i64)order[q] * w + j];
        to[(i64)rows[s] * w + j] += sum;
    }
}
AB_KERNEL merge_{name}(const {T}* from, const int* order, const int* starts, {T}* to, i64 n, i64 w) {
    AB_THREADS AB_EACH(t, n * w) {
        const i64 s = t / w, j = t % w;
        {T} sum = 0;
        for (i64 q = starts[s]; q < starts[s + 1]; ++q) sum += from[(i64)order[q] * w + j];
        to[t] = sum;
    }
}
"""


def _written(text: str, **names: str) -> str:
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


SOURCE = HEADER + "".join(
    [_written(_COPIES, bytes=str(n), T=t) for n, t in ((1, "unsigned char"), (4, "int"), (8, "long long"))]
    + [_written(_SUMS, name=name, T=t) for name, t in (("f32", "float"), ("f64", "double"))]
)
"""The text of all kernels of this file."""


def launch(device: Device, name: str, n_threads: int, *arguments: int) -> None:
    """Start a kernel of `SOURCE`, one thread for each element."""
    if n_threads:
        kernel = device.kernel(SOURCE, name)
        device.launch(kernel, -(-n_threads // THREADS), THREADS, arguments)


def suffix(dtype: Any) -> str:
    """f32 or f64."""
    return f"f{8 * np.dtype(dtype).itemsize}"


def take_rows(device: Device, pool: int, rows: int, to: int, n: int, width: int, dtype: Any) -> None:
    """Copy rows of a pool, their int32 numbers at `rows`, to a block."""
    launch(device, f"take_{np.dtype(dtype).itemsize}", n * width, pool, rows, to, n, width)


def clear_rows(device: Device, pool: int, rows: int, n: int, width: int, dtype: Any) -> None:
    """Fill rows of a pool with zeros."""
    launch(device, f"clear_{suffix(dtype)}", n * width, pool, rows, n, width)


def add(device: Device, to: int, values: int, n: int, dtype: Any) -> None:
    """Add numbers to numbers."""
    launch(device, f"add_{suffix(dtype)}", n, to, values, n)


def add_rows(
    device: Device, pool: int, rows: int, values: int, segments: tuple[int, int, int], width: int, dtype: Any
) -> None:
    """Add the rows of each segment (addresses of `order` and `starts`, number of segments) to one row of a pool."""
    order, starts, n = segments
    launch(device, f"add_rows_{suffix(dtype)}", n * width, pool, rows, values, order, starts, n, width)


def merge_rows(device: Device, values: int, segments: tuple[int, int, int], to: int, width: int, dtype: Any) -> None:
    """The sum of the rows of each segment, in a block."""
    order, starts, n = segments
    launch(device, f"merge_{suffix(dtype)}", n * width, values, order, starts, to, n, width)
