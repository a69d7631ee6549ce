"""Intel's MKL as a matmul library, from the package `mkl`: found at run time, called by address.

It runs in one thread (its threads would be a second OpenMP beside PyTorch's) and in its deterministic mode: results do
not depend on the addresses of the operands. Both are set before its first matmul, for the whole process.
Reference: "Developer Reference for Intel oneAPI Math Kernel Library - C", `cblas_?gemm`, `cblas_?gemm_batch_strided`,
`mkl_cbwr_set`, `mkl_set_threading_layer`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import re
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...base.errors import BackendError, MissingExtraError, message
from ...base.jit import compiled, njit

_LP64, _SEQUENTIAL = 0, 1
_CBWR_OFF, _CBWR_AUTO = 1, 2
_ROW_MAJOR, _AS_IS, _TRANSPOSED = 101, 111, 112


def _c_call(typing_context, address, arguments):  # type: ignore[no-untyped-def]
    """Call a C function that returns nothing; pointers are passed as integers."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kinds = [context.get_value_type(kind) for kind in signature.args[1]]
        pointer = ir.FunctionType(ir.VoidType(), kinds).as_pointer()
        values = [builder.extract_value(args[1], i) for i in range(len(kinds))]
        builder.call(builder.inttoptr(args[0], pointer), values)
        return context.get_dummy_value()

    return types.void(types.intp, arguments), build


_call: Any = intrinsic(_c_call)


@njit(nogil=True)
def _layout(rows, columns, row, column):  # type: ignore[no-untyped-def]
    """(as it is or transposed, leading extent) of a matrix with these steps; 0 where MKL cannot read it."""
    if column == 1 and (row >= max(1, columns) or rows == 1):
        return _AS_IS, max(row, columns, 1)
    if row == 1 and (column >= max(1, rows) or columns == 1):
        return _TRANSPOSED, max(column, rows, 1)
    return 0, 0


@njit(nogil=True)
def _gemm(address, one, x, w, y):  # type: ignore[no-untyped-def]
    """y[b] = x[b] w[b] by one call; False where the layouts do not allow it."""
    n_stacked, m, k = x.shape
    n = y.shape[2]
    size = x.itemsize
    if y.size == 0:
        return True
    if k == 0:
        y[:, :, :] = 0
        return True
    x_kind, x_lead = _layout(m, k, x.strides[1] // size, x.strides[2] // size)
    w_kind, w_lead = _layout(k, n, w.strides[1] // size, w.strides[2] // size)
    y_kind, y_lead = _layout(m, n, y.strides[1] // size, y.strides[2] // size)
    if x_kind == 0 or w_kind == 0 or y_kind != _AS_IS:
        return False
    i = np.int32
    head = (i(_ROW_MAJOR), i(x_kind), i(w_kind), i(m), i(n), i(k), one)
    zero = one - one
    left, right, result = x.ctypes.data, w.ctypes.data, y.ctypes.data
    if n_stacked == 1:
        _call(address[0], (*head, left, i(x_lead), right, i(w_lead), zero, result, i(y_lead)))
    else:
        x_step, w_step, y_step = i(x.strides[0] // size), i(w.strides[0] // size), i(y.strides[0] // size)
        lefts, rights = (left, i(x_lead), x_step), (right, i(w_lead), w_step)
        _call(address[1], (*head, *lefts, *rights, zero, result, i(y_lead), y_step, i(n_stacked)))
    return True


class Mkl:
    """The loaded library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.MKL_Set_Interface_Layer(_LP64)
        library.MKL_Set_Threading_Layer(_SEQUENTIAL)
        if library.MKL_CBWR_Set(_CBWR_AUTO) != 0:
            raise BackendError(
                message(
                    "products: MKL was used in this process before its deterministic mode was set",
                    repair="set the environment variable MKL_CBWR=AUTO, or choose MKL before other packages use it",
                )
            )
        text = ctypes.create_string_buffer(200)
        library.MKL_Get_Version_String(text, len(text))
        self.version = re.sub(r".*Version (\S+).*", r"\1", text.value.decode(errors="replace"))
        self._addresses = {
            size: tuple(
                ctypes.cast(getattr(library, f"cblas_{letter}gemm{end}"), ctypes.c_void_p).value
                for end in ("", "_batch_strided")
            )
            for size, letter in ((4, "s"), (8, "d"))
        }
        self._library = library
        self._compiled: dict[int, Any] = {}
        self._ones = {4: np.float32(1), 8: np.float64(1)}

    def multiply_many(self, x: Any, w: Any, y: Any) -> bool:
        """y[b] = x[b] w[b]; False, and nothing done, where MKL cannot read the layout of the operands."""
        size = y.itemsize
        function = self._compiled.get(size)
        if function is None:
            kinds: Any = types
            real = kinds.float32 if size == 4 else kinds.float64
            operand = kinds.Array(real, 3, "A", readonly=True)
            signature = kinds.boolean(
                kinds.Tuple((kinds.intp, kinds.intp)), real, operand, operand, kinds.Array(real, 3, "A")
            )
            function = self._compiled[size] = compiled(_gemm.py_func, signature, nogil=True)
        return bool(function(self._addresses[size], self._ones[size], x, w, y))


@cache
def load() -> Mkl:
    """MKL, loaded and set up on first use. Raises `MissingExtraError` where it is not installed."""
    path = _path()
    if path is None:
        raise MissingExtraError(
            message("products: the library 'mkl' is not installed", repair="pip install 'autobatch-compiler[mkl]'")
        )
    return Mkl(ctypes.CDLL(path))


def _path() -> str | None:
    """The run-time library of the package `mkl`, or one that the system knows."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith(("libmkl_rt.so", "mkl_rt.")) and not file.name.endswith(".lib"):
            return str(file.locate())
    return ctypes.util.find_library("mkl_rt")
