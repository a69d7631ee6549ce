"""cuBLAS: a handle of one thread, and the library itself for products that are to be captured in CUDA graphs.

CuPy's functions put the handle on the current stream, and refuse while that is captured. So where graphs are on
products go to the library past CuPy, in a workspace of ours for each stream: a product in a graph computes as it did
outside, and cuBLAS does not ask for tens of megabytes for every graph, as it would on its own.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from typing import Any

from ..errors import BackendError, message

_EXACT, _TF32 = 0, 3  # CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
_FACTORS_FROM_HOST = 0  # CUBLAS_POINTER_MODE_HOST; a graph takes them by value
_HOPPER, _LARGE, _SMALL = 90, 32 << 20, 4 << 20  # bytes that NVIDIA recommends, from this compute capability on

_INT, _LONG, _AT = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
_GEMM = (_AT, *(_INT,) * 5, _AT, _AT, _INT, _AT, _INT, _AT, _AT, _INT)
_BATCHED = (_AT, *(_INT,) * 5, _AT, _AT, _INT, _LONG, _AT, _INT, _LONG, _AT, _AT, _INT, _LONG, _INT)


class Library:
    """Functions of cuBLAS, products with the arguments that CuPy gives them."""

    def __init__(self, version: int) -> None:
        """The cuBLAS of this version that the process has loaded. Raises `BackendError` where there is none."""
        name = f"cublas64_{version}.dll" if sys.platform == "win32" else f"libcublas.so.{version}"
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            raise BackendError(
                message(
                    f'backend "cupy": graphs need cuBLAS, and {name} does not load ({error})',
                    repair='ab.set_backend("cupy") without graphs; products go through CuPy then',
                )
            ) from error
        self.set_stream = _function(library.cublasSetStream_v2, _AT, _AT)
        self.set_workspace = _function(library.cublasSetWorkspace_v2, _AT, _AT, ctypes.c_size_t)
        self.sgemm, self.dgemm = _function(library.cublasSgemm_v2, *_GEMM), _function(library.cublasDgemm_v2, *_GEMM)
        self.sgemmStridedBatched = _function(library.cublasSgemmStridedBatched, *_BATCHED)
        self.sgemmBatched = _function(library.cublasSgemmBatched, *_GEMM, _INT)
        self.dgemmBatched = _function(library.cublasDgemmBatched, *_GEMM, _INT)
        self.dgemmStridedBatched = _function(library.cublasDgemmStridedBatched, *_BATCHED)


def _function(function: Any, *arguments: Any) -> Any:
    function.argtypes, function.restype, function.errcheck = arguments, _INT, _check
    return function


def _check(status: int, function: Any, arguments: Any) -> None:
    if status:
        raise RuntimeError(f"{function.__name__}: status {status} of cuBLAS")


class Cublas:
    """One handle. Nobody else has it, so that it is told only what changes."""

    def __init__(self, cupy: Any) -> None:
        self._cupy, self._blas = cupy, cupy.cuda.cublas
        self.handle = int(self._blas.create())
        weakref.finalize(self, self._blas.destroy, self.handle).atexit = False
        self._blas.setPointerMode(self.handle, _FACTORS_FROM_HOST)
        self._n_bytes = _LARGE if int(cupy.cuda.Device().compute_capability) >= _HOPPER else _SMALL
        self._workspaces: dict[int, Any] = {}
        self._now: tuple[int, int] | None = None
        self._tf32: bool | None = None

    def for_cupy(self, tf32: bool) -> int:
        """The handle for functions of CuPy, which set the stream, and take the workspace away by that."""
        self._now = None
        self._set_mode(tf32)
        return self.handle

    def for_library(self, library: Library, stream: int, runs_on: int, tf32: bool) -> int:
        """The handle on a stream. What it launches is to run on `runs_on`, another one while a graph is captured."""
        if self._now != (stream, runs_on):
            self._now = None
            memory = self._workspaces.get(runs_on)
            if memory is None:
                memory = self._workspaces[runs_on] = self._cupy.cuda.alloc(self._n_bytes)
            library.set_stream(self.handle, stream)  # which takes the workspace away
            library.set_workspace(self.handle, int(memory.ptr), self._n_bytes)
            self._now = stream, runs_on
        self._set_mode(tf32)
        return self.handle

    def _set_mode(self, tf32: bool) -> None:
        if self._tf32 is not tf32:
            self._blas.setMathMode(self.handle, _TF32 if tf32 else _EXACT)
            self._tf32 = tf32
