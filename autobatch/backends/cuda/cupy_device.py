"""A GPU through CuPy: memory, copies, generated kernels and cuBLAS, all in one stream.

Written against CuPy 14. GEMMs call cuBLAS with a handle: `cupy.matmul` takes several times as long on the host. The
stream is the thread's current one, CuPy's default unless the user chose another.
"""

from __future__ import annotations

import collections
import threading
import weakref
from typing import Any

import numpy as np

from ..device import Host, Matrices, Target
from .cupy_missing import require_cupy

_N, _T = 0, 1  # CUBLAS_OP_N, CUBLAS_OP_T
_EXACT, _TF32 = 0, 3  # CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
_FACTORS_FROM_HOST = 0  # CUBLAS_POINTER_MODE_HOST
_DEVICE_TO_DEVICE = 3  # cudaMemcpyDeviceToDevice


class CupyDevice:
    """The current GPU. See `Device`."""

    name = "cupy"
    tf32 = False
    launched = 0

    def __init__(self) -> None:
        self._cupy = cupy = require_cupy()
        self._runtime = cupy.cuda.runtime
        self._blas = cupy.cuda.cublas
        self._of_thread = _OfThread()
        self._reader: Any = None
        self._modules: dict[str, Any] = {}
        self._kernels: dict[tuple[str, str], Any] = {}
        self._pinned: collections.deque[tuple[Any, Any]] = collections.deque()  # (buffer, event after its copy)
        self._factors = {np.dtype(t): np.array([0, 1], t) for t in (np.float32, np.float64)}
        self._factor_at = {  # addresses of 0 and 1
            kind: (int(both.ctypes.data), int(both.ctypes.data) + kind.itemsize) for kind, both in self._factors.items()
        }
        self._fault_words = cupy.zeros(4, np.int64)
        self.faults = int(self._fault_words.data.ptr)

    @property
    def _stream(self) -> int:
        return int(self._cupy.cuda.get_current_stream().ptr)

    # Memory.

    def empty(self, shape: Any, dtype: Any) -> Any:
        return self._cupy.empty(shape, dtype)

    def array(self, host: Host) -> Any:
        return self._cupy.array(host, order="C")

    def mark(self) -> Any:
        event = self._cupy.cuda.Event(disable_timing=True)
        event.record(self._cupy.cuda.get_current_stream())
        return event

    def numpy(self, array: Any, moment: Any = None) -> Host:
        """See `Device`. What is read as of an earlier moment goes by another stream, past all that came since."""
        if moment is not None:
            if self._reader is None:
                self._reader = self._cupy.cuda.Stream(non_blocking=True)
            self._reader.wait_event(moment)
        found: Host = array.get() if moment is None else array.get(stream=self._reader)
        return found

    def upload(self, host: Host) -> Any:
        """See `Device`. The copy goes out of a pinned buffer, which is written again once the copy is done."""
        made = self.empty(host.shape, host.dtype)
        if host.nbytes:
            buffer, event = self._staging(host.nbytes)
            np.frombuffer(buffer, np.uint8, host.nbytes)[:] = np.ascontiguousarray(host).reshape(-1).view(np.uint8)
            made.data.copy_from_host_async(buffer.ptr, host.nbytes, self._cupy.cuda.get_current_stream())
            event.record(self._cupy.cuda.get_current_stream())
            self._pinned.append((buffer, event))
        return made

    def _staging(self, n_bytes: int) -> tuple[Any, Any]:
        """A pinned buffer that no copy is reading, and its event."""
        for _ in range(len(self._pinned)):
            buffer, event = self._pinned.popleft()
            if event.done and buffer.size() >= n_bytes:
                return buffer, event
            if not event.done:
                self._pinned.append((buffer, event))
        rounded = 1 << max(n_bytes - 1, 65535).bit_length()
        return self._cupy.cuda.alloc_pinned_memory(rounded), self._cupy.cuda.Event(disable_timing=True)

    def zero(self, address: int, n_bytes: int) -> None:
        self.launched += 1
        self._runtime.memsetAsync(address, 0, n_bytes, self._stream)

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        self.launched += 1
        self._runtime.memcpyAsync(target, source, n_bytes, _DEVICE_TO_DEVICE, self._stream)

    def free_bytes(self) -> int:
        """See `Device`: what the GPU has, and what CuPy keeps for later."""
        pool = self._cupy.get_default_memory_pool()
        free = int(self._runtime.memGetInfo()[0]) + int(pool.free_bytes())
        limit = int(pool.get_limit())
        return min(free, limit - int(pool.used_bytes())) if limit else free

    def synchronize(self) -> None:
        self._cupy.cuda.get_current_stream().synchronize()

    # Kernels.

    def kernel(self, source: str, name: str) -> Any:
        """See `Device`. CuPy keeps what NVRTC makes on disk, in `CUPY_CACHE_DIR`."""
        found = self._kernels.get((source, name))
        if found is None:
            module = self._modules.get(source)
            if module is None:
                module = self._modules[source] = self._cupy.RawModule(code=source, options=("--std=c++17",))
            found = self._kernels[source, name] = module.get_function(name)
        return found

    def launch(self, kernel: Any, blocks: int, threads: int, arguments: tuple[int, ...]) -> None:
        """See `Device`. CuPy passes Python's integers as `long long`."""
        if blocks:
            self.launched += 1
            kernel((blocks,), (threads,), arguments)

    # Matmuls.

    def gemm(
        self, sizes: tuple[int, int, int], a: Matrices, b: Matrices, c: Target, dtype: Any, add: bool, count: int = 1
    ) -> None:
        """See `Device`. cuBLAS reads matrices column by column: C = A B there is Cᵀ = Bᵀ Aᵀ here."""
        n, k, p = sizes
        if count == 0 or n == 0 or p == 0:
            return
        self.launched += 1
        own, kind = self._of_thread, np.dtype(dtype)
        if own.cublas is None:
            own.cublas = _Cublas(self._blas)
        zero, one = self._factor_at[kind]
        (at_a, lead_a, flip_a, step_a), (at_b, lead_b, flip_b, step_b), (at_c, lead_c, step_c) = a, b, c
        handle = own.cublas.ready(self.tf32)
        head = handle, _T if flip_b else _N, _T if flip_a else _N, p, n, k, one
        factor = one if add else zero
        name = ("s" if kind.itemsize == 4 else "d") + ("gemm" if count == 1 else "gemmStridedBatched")
        call = getattr(self._blas, name)
        if count == 1:
            call(*head, at_b, lead_b or 1, at_a, lead_a or 1, factor, at_c, lead_c or 1)
        else:
            of_b, of_a, of_c = (at_b, lead_b or 1, step_b), (at_a, lead_a or 1, step_a), (at_c, lead_c or 1, step_c)
            call(*head, *of_b, *of_a, factor, *of_c, count)

    # Sorting.

    def argsort(self, address: int, n: int) -> Any:
        """See `Device`. CuPy sorts by Thrust, whose `stable_sort` this is."""
        cuda = self._cupy.cuda
        memory = cuda.UnownedMemory(address, 8 * n, self, self._runtime.getDevice())
        numbers = self._cupy.ndarray((n,), np.int64, memptr=cuda.MemoryPointer(memory, 0))
        return self._cupy.argsort(numbers, kind="stable")


class _Cublas:
    """A handle of cuBLAS. Nobody else has it, so that it is told only what changes; CuPy sets the stream."""

    def __init__(self, blas: Any) -> None:
        self._blas, self._handle = blas, int(blas.create())
        weakref.finalize(self, blas.destroy, self._handle).atexit = False
        blas.setPointerMode(self._handle, _FACTORS_FROM_HOST)
        self._tf32: bool | None = None

    def ready(self, tf32: bool) -> int:
        """The handle, in this mode of arithmetic."""
        if self._tf32 is not tf32:
            self._blas.setMathMode(self._handle, _TF32 if tf32 else _EXACT)
            self._tf32 = tf32
        return self._handle


class _OfThread(threading.local):
    """The handle of a thread, made for its first matmul."""

    cublas: _Cublas | None = None
