"""A GPU through CuPy: memory, copies, generated kernels and the products of cuBLAS, all in one stream.

Written against CuPy 14. Products go to cuBLAS by a handle: `cupy.matmul` takes several times as long on the host. The
stream is the thread's current one, CuPy's default unless the user chose another.

A graph is captured on a stream that does nothing else, because the default stream cannot be captured; nothing runs
there. It is launched into the current stream like a kernel. The mode of capture is that of the thread: what other
threads ask of CUDA meanwhile does not disturb it.
"""

from __future__ import annotations

import collections
import contextlib
import math
import threading
from typing import Any

import numpy as np

from .cublas import Cublas, Library
from .cupy_missing import require_cupy
from .device import Call, Host
from .steady import Steady

_N, _T = 0, 1  # CUBLAS_OP_N, CUBLAS_OP_T
_DEVICE_TO_DEVICE = 3  # cudaMemcpyDeviceToDevice


class CupyDevice:
    """The current GPU. See `Device`."""

    name = "cupy"
    tf32 = False
    groups = False
    launched = 0
    persistent = False

    def __init__(self) -> None:
        self._cupy = cupy = require_cupy()
        self._runtime = cupy.cuda.runtime
        self._blas = cupy.cuda.cublas
        self._reader: Any = None
        self._steady: Steady | None = None
        self._library: Library | None = None
        self._of_thread = _OfThread()
        self._modules: dict[str, Any] = {}
        self._kernels: dict[tuple[str, str], Any] = {}
        self._allowed: dict[Any, int] = {}  # kernel → shared memory that it may ask for
        self._pinned: collections.deque[tuple[Any, Any]] = collections.deque()  # (buffer, event after its copy)
        self._factors = {np.dtype(t): np.array([0, 1], t) for t in (np.float32, np.float64)}
        self._factor_at = {  # addresses of 0 and 1
            kind: (int(both.ctypes.data), int(both.ctypes.data) + kind.itemsize) for kind, both in self._factors.items()
        }
        attributes = cupy.cuda.Device().attributes
        self.blocks_at_once = int(attributes["MultiProcessorCount"]) if attributes["CooperativeLaunch"] else 0
        self.shared_bytes = int(attributes["MaxSharedMemoryPerBlockOptin"])
        self._fault_words = cupy.zeros(3, np.int64)
        self.faults = int(self._fault_words.data.ptr)

    @property
    def _stream(self) -> int:
        return int(self._cupy.cuda.get_current_stream().ptr)

    @property
    def setting(self) -> tuple[int, bool]:
        """See `Device`."""
        return self._stream, self.tf32

    # Memory.

    @property
    def graphs(self) -> bool:
        """See `Device`."""
        return self._steady is not None

    @graphs.setter
    def graphs(self, is_on: bool) -> None:
        if is_on and self._steady is None:
            self._library = self._library or Library(int(self._runtime.runtimeGetVersion()) // 1000)
            self._steady = Steady(self._block)
        elif not is_on and self._steady is not None:
            self._steady.let_go()
            self._steady = None

    def _block(self, n_bytes: int) -> tuple[int, Any]:
        memory = self._cupy.cuda.alloc(n_bytes)
        return int(memory.ptr), memory

    def empty(self, shape: Any, dtype: Any) -> Any:
        """See `Device`."""
        if self._steady is not None:
            n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
            lease = self._steady.take(n_bytes, self._stream) if n_bytes else None
            if lease is not None:
                return self._array_at(lease.address, shape, dtype, n_bytes, lease)
        return self._cupy.empty(shape, dtype)

    def _array_at(self, address: int, shape: Any, dtype: Any, n_bytes: int, owner: Any) -> Any:
        """An array of memory that `owner` keeps."""
        cuda = self._cupy.cuda
        memory = cuda.UnownedMemory(address, n_bytes, owner, self._runtime.getDevice())
        return self._cupy.ndarray(shape, dtype, memptr=cuda.MemoryPointer(memory, 0))

    def array(self, host: Host) -> Any:
        """See `Device`."""
        return self._cupy.array(host, order="C")

    def mark(self) -> Any:
        """See `Device`."""
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
        """See `Device`."""
        self.launched += 1
        self._runtime.memsetAsync(address, 0, n_bytes, self._stream)

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        """See `Device`."""
        self.launched += 1
        self._runtime.memcpyAsync(target, source, n_bytes, _DEVICE_TO_DEVICE, self._stream)

    def free_bytes(self) -> int:
        """See `Device`: what the GPU has, and what CuPy and graphs keep for later."""
        pool = self._cupy.get_default_memory_pool()
        kept = self._steady.free_bytes() if self._steady is not None else 0
        free = int(self._runtime.memGetInfo()[0]) + int(pool.free_bytes()) + kept
        limit = int(pool.get_limit())
        return min(free, limit - int(pool.used_bytes()) + kept) if limit else free

    def synchronize(self) -> None:
        """See `Device`."""
        self._cupy.cuda.get_current_stream().synchronize()

    # Kernels.

    def kernel(self, source: str, name: str) -> Any:
        """See `Device`. CuPy keeps what NVRTC makes on disk, in `CUPY_CACHE_DIR`."""
        return self._kernel(source, name, False)

    def launch(self, kernel: Any, blocks: int, threads: int, arguments: tuple[int, ...]) -> None:
        """See `Device`. CuPy passes Python's whole numbers as `long long`."""
        if blocks:
            self.launched += 1
            kernel((blocks,), (threads,), arguments)

    def resident_kernel(self, source: str, name: str) -> Any:
        """See `Device`. CuPy launches it by `cuLaunchCooperativeKernel`."""
        return self._kernel(source, name, True)

    def launch_resident(self, kernel: Any, blocks: int, threads: int, shared_bytes: int, table: int) -> None:
        """See `Device`. What is beyond 48 KB has to be allowed to a kernel first, once."""
        if shared_bytes > self._allowed.get(kernel, 0):
            kernel.max_dynamic_shared_size_bytes = shared_bytes
            self._allowed[kernel] = shared_bytes
        self.launched += 1
        kernel((blocks,), (threads,), (table,), shared_mem=shared_bytes)

    def _kernel(self, source: str, name: str, together: bool) -> Any:
        found = self._kernels.get((source, name))
        if found is None:
            module = self._modules.get(source)
            if module is None:
                module = self._modules[source] = self._cupy.RawModule(
                    code=source, options=("--std=c++17",), enable_cooperative_groups=together
                )
            found = self._kernels[source, name] = module.get_function(name)
        return found

    # Products. cuBLAS reads matrices column by column: C = A B there is Cᵀ = Bᵀ Aᵀ here.

    def product(
        self,
        n: int,
        k: int,
        p: int,
        a: int,
        lead_a: int,
        flip_a: bool,
        b: int,
        lead_b: int,
        flip_b: bool,
        c: int,
        lead_c: int,
        dtype: Any,
        add: bool,
    ) -> None:
        """See `Device`."""
        if n == 0 or p == 0:
            return
        gemm, start, one, factor = self._product_of("gemm", dtype, flip_a, flip_b, add)
        gemm(*start, p, n, k, one, b, lead_b or 1, a, lead_a or 1, factor, c, lead_c or 1)

    def products(
        self,
        count: int,
        n: int,
        k: int,
        p: int,
        a: int,
        lead_a: int,
        flip_a: bool,
        step_a: int,
        b: int,
        lead_b: int,
        flip_b: bool,
        step_b: int,
        c: int,
        lead_c: int,
        step_c: int,
        dtype: Any,
    ) -> None:
        """See `Device`."""
        if count == 0 or n == 0 or p == 0:
            return
        gemm, start, one, zero = self._product_of("gemmStridedBatched", dtype, flip_a, flip_b, False)
        of_a, of_b, of_c = (a, lead_a or 1, step_a), (b, lead_b or 1, step_b), (c, lead_c or 1, step_c)
        gemm(*start, p, n, k, one, *of_b, *of_a, zero, *of_c, count)

    def products_at(
        self,
        count: int,
        n: int,
        k: int,
        p: int,
        a: int,
        lead_a: int,
        flip_a: bool,
        b: int,
        lead_b: int,
        flip_b: bool,
        c: int,
        lead_c: int,
        dtype: Any,
        add: bool,
    ) -> None:
        """See `Device`."""
        if count == 0 or n == 0 or p == 0:
            return
        gemm, start, one, factor = self._product_of("gemmBatched", dtype, flip_a, flip_b, add)
        gemm(*start, p, n, k, one, b, lead_b or 1, a, lead_a or 1, factor, c, lead_c or 1, count)

    def _product_of(
        self, form: str, dtype: Any, flip_a: bool, flip_b: bool, add: bool
    ) -> tuple[Any, tuple[int, int, int], int, int]:
        """For one call of cuBLAS: the function, the arguments that it begins with, where 1 lies and where the factor of
        C does."""
        self.launched += 1
        kind = np.dtype(dtype)
        zero, one = self._factor_at[kind]
        blas, handle = self._ready()
        start = handle, _T if flip_b else _N, _T if flip_a else _N
        return getattr(blas, ("s" if kind.itemsize == 4 else "d") + form), start, one, one if add else zero

    def _ready(self) -> tuple[Any, int]:
        """Functions for products, and this thread's handle for them, on the current stream."""
        own = self._of_thread
        if own.blas is None:
            own.blas = Cublas(self._cupy)
        if self._steady is None:
            return self._blas, own.blas.for_cupy(self.tf32)
        assert self._library is not None
        stream = self._stream
        runs_on = stream if own.captures_for is None else own.captures_for
        return self._library, own.blas.for_library(self._library, stream, runs_on, self.tf32)

    # Graphs.

    def capture(self, calls: tuple[Call, ...]) -> Any:
        """See `Device`. With the graph goes what keeps the workspace of its products."""
        own = self._of_thread
        if own.stream is None:
            own.stream = self._cupy.cuda.Stream(non_blocking=True)
        stream, launched = own.stream, self.launched
        own.captures_for = self._stream
        try:
            with stream:
                try:
                    stream.begin_capture(self._runtime.streamCaptureModeThreadLocal)
                    for verb, arguments in calls:
                        getattr(self, verb)(*arguments)
                except BaseException:
                    with contextlib.suppress(Exception):  # that the capture is void, which is known
                        stream.end_capture()
                    raise
                return stream.end_capture(), own.blas
        finally:
            own.captures_for = None
            self.launched = launched

    def play(self, graph: Any) -> None:
        """See `Device`."""
        self.launched += 1
        graph[0].launch()

    # Sorting.

    def argsort(self, address: int, n: int) -> Any:
        """See `Device`. CuPy sorts by Thrust, whose `stable_sort` this is."""
        return self._cupy.argsort(self._array_at(address, (n,), np.int64, 8 * n, self), kind="stable")


class _OfThread(threading.local):
    """blas: made for the first product. stream: made for the first graph. captures_for: the stream that a graph will be
    launched into, while it is captured."""

    blas: Cublas | None = None
    stream: Any = None
    captures_for: int | None = None
