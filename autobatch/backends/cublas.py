"""cuBLAS's handle of one thread, on whatever stream is current, with a workspace of its own for each stream.

The handle is nobody else's, so it is told only what changes. Its workspace is ours: products of a stream give the same
bits whatever runs beside them, and products in a CUDA graph work where those outside it do; cuBLAS would ask for new
memory, tens of megabytes, for every graph. CuPy does not offer the call that sets it; it is taken from the library that
CuPy has loaded.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from typing import Any

_EXACT, _TF32 = 0, 3  # CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
_FACTORS_FROM_HOST = 0  # CUBLAS_POINTER_MODE_HOST; a graph takes them by value
_HOPPER, _LARGE, _SMALL = 90, 32 << 20, 4 << 20  # bytes that NVIDIA recommends, from this compute capability on


class Cublas:
    """One handle."""

    def __init__(self, cupy: Any) -> None:
        self._cupy, self._blas = cupy, cupy.cuda.cublas
        self.handle = int(self._blas.create())
        weakref.finalize(self, self._blas.destroy, self.handle).atexit = False
        self._blas.setPointerMode(self.handle, _FACTORS_FROM_HOST)
        self._set_workspace = workspace_setter(int(cupy.cuda.runtime.runtimeGetVersion()) // 1000)
        self._n_bytes = _LARGE if int(cupy.cuda.Device().compute_capability) >= _HOPPER else _SMALL
        self._workspaces: dict[int, Any] = {}
        self._now: tuple[int, int] | None = None
        self._tf32: bool | None = None

    def ready(self, stream: int, runs_on: int, tf32: bool) -> int:
        """The handle, on a stream; what it launches is to run on `runs_on`, another one while a graph is captured."""
        if self._now != (stream, runs_on):
            self._now = None
            self._blas.setStream(self.handle, stream)  # which takes the workspace away
            if self._set_workspace is not None:
                memory = self._workspaces.get(runs_on)
                if memory is None:
                    memory = self._workspaces[runs_on] = self._cupy.cuda.alloc(self._n_bytes)
                self._set_workspace(self.handle, int(memory.ptr), self._n_bytes)
            elif stream != runs_on:
                raise RuntimeError("cublasSetWorkspace was not found in cuBLAS")
            self._now = stream, runs_on
        if self._tf32 is not tf32:
            self._blas.setMathMode(self.handle, _TF32 if tf32 else _EXACT)
            self._tf32 = tf32
        return self.handle


def workspace_setter(major: int) -> Callable[[int, int, int], None] | None:
    """`cublasSetWorkspace` of the cuBLAS of this version that the process has loaded; None where it is not found."""
    name = f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
    try:
        function = ctypes.CDLL(name).cublasSetWorkspace_v2
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    function.restype = ctypes.c_int

    def call(handle: int, address: int, n_bytes: int) -> None:
        status = function(handle, address, n_bytes)
        if status:
            raise RuntimeError(f"cublasSetWorkspace: status {status}")

    return call
