"""The calls that reach CuPy, against a module that stands in for it: order of arguments, layouts, buffers in flight.

Factors, matrices and leading dimensions go to a BLAS written down here from its definition, column by column.
"""

from __future__ import annotations

import ctypes
import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.backends.cuda import cupy_device
from autobatch.backends.cuda.cupy_device import CupyDevice
from autobatch.backends.device import use_device


def view(address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Any:
    """Host memory; strides count numbers."""
    size = np.dtype(dtype).itemsize
    n = 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    memory = (ctypes.c_char * (n * size)).from_address(address)
    return np.ndarray(shape, dtype, memory, 0, tuple(size * s for s in strides))


def gemm(dtype: Any) -> Any:
    """C ← alpha op(A) op(B) + beta C of column-major matrices, m × k times k × n."""

    def call(
        handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int, b: int, ldb: int,
        beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        assert (handle, lda >= (k if ta else m), ldb >= (n if tb else k), ldc >= m) == (7, True, True, True)
        left = view(a, (k, m), (1, lda), dtype).T if ta else view(a, (m, k), (1, lda), dtype)
        right = view(b, (n, k), (1, ldb), dtype).T if tb else view(b, (k, n), (1, ldb), dtype)
        result = view(c, (m, n), (1, ldc), dtype)
        factors = [view(x, (1,), (1,), dtype)[0] for x in (alpha, beta)]
        result[...] = factors[0] * (left @ right) + (factors[1] * result if factors[1] else 0)

    return call


def batched(dtype: Any) -> Any:
    """The same for matrices that begin every so many numbers."""
    one, size = gemm(dtype), np.dtype(dtype).itemsize

    def call(
        handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int, step_a: int, b: int,
        ldb: int, step_b: int, beta: int, c: int, ldc: int, step_c: int, count: int,
    ) -> None:  # fmt: skip
        for i in range(count):
            at = (address + i * step * size for address, step in ((a, step_a), (b, step_b), (c, step_c)))
            here_a, here_b, here_c = at
            one(handle, ta, tb, m, n, k, alpha, here_a, lda, here_b, ldb, beta, here_c, ldc)

    return call


class Pinned(bytearray):
    """Page-locked memory."""

    def size(self) -> int:
        return len(self)

    @property
    def ptr(self) -> int:
        return ctypes.addressof((ctypes.c_char * len(self)).from_buffer(self))


class Event:
    """Done when the test says so."""

    def __init__(self, disable_timing: bool = False) -> None:
        assert disable_timing
        self.done = False

    def record(self, stream: Any) -> None:
        self.done = False


class Array:
    """An array of the fake, host memory with an address."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.shape, self.dtype, self.nbytes = host.shape, host.dtype, host.nbytes
        self.data = SimpleNamespace(ptr=host.ctypes.data, copy_from_host_async=self.copy)

    def copy(self, address: int, n_bytes: int, stream: Any) -> None:
        ctypes.memmove(self.host.ctypes.data, address, n_bytes)

    def get(self, stream: Any = None) -> Any:
        if stream is not None:
            stream.log.append("copy")
        return self.host.copy()


class Stream:
    """A stream that writes down what is put into it."""

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking  # one that blocks would wait for the default stream, whatever is in it
        self.log: list[Any] = []

    def wait_event(self, event: Event) -> None:
        self.log.append(event)


class Handles:
    """What `CupyDevice` uses of cuBLAS beside products: calls that make a handle and set it."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def create(self) -> int:
        self.log.append("create")
        return 7

    def destroy(self, handle: int) -> None:
        self.log.append("destroy")

    def setPointerMode(self, handle: int, mode: int) -> None:
        assert mode == 0

    def setMathMode(self, handle: int, mode: int) -> None:
        self.log.append(("mode", mode))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `CupyDevice` uses of CuPy."""
    stream = SimpleNamespace(ptr=11, synchronize=lambda: None)
    handles = Handles()
    pool = SimpleNamespace(free_bytes=lambda: 5, used_bytes=lambda: 60, get_limit=lambda: found.limit)
    modules: list[tuple[str, Any]] = []

    class Module:
        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            modules.append((code, options))

        def get_function(self, name: str) -> Any:
            return lambda grid, block, arguments: launches.append((name, grid, block, arguments))

    launches: list[Any] = []
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(
            memsetAsync=lambda address, value, n, stream: ctypes.memset(address, value, n),
            memcpyAsync=lambda to, at, n, kind, stream: ctypes.memmove(to, at, n) if kind == 3 else None,
            memGetInfo=lambda: (100, 1000),
            getDevice=lambda: 0,
        ),
        cublas=SimpleNamespace(
            sgemm=gemm(np.float32), dgemm=gemm(np.float64), sgemmStridedBatched=batched(np.float32),
            dgemmStridedBatched=batched(np.float64), create=handles.create, destroy=handles.destroy,
            setPointerMode=handles.setPointerMode, setMathMode=handles.setMathMode,
        ),
        UnownedMemory=lambda address, n_bytes, owner, device: (address, n_bytes),
        MemoryPointer=lambda memory, offset: memory,
        get_current_stream=lambda: stream,
        alloc_pinned_memory=Pinned,
        Event=Event, Stream=Stream,
    )  # fmt: skip
    found: SimpleNamespace = SimpleNamespace(
        cuda=cuda, limit=0, modules=modules, launches=launches, handles=handles, RawModule=Module,
        ndarray=lambda shape, dtype, memptr: view(memptr[0], shape, (1,), dtype), argsort=np.argsort,
        zeros=lambda shape, dtype: Array(np.zeros(shape, dtype)),
        empty=lambda shape, dtype: Array(np.empty(shape, dtype)),
        array=lambda host, order: Array(np.array(host, order=order)),
        get_default_memory_pool=lambda: pool,
    )  # fmt: skip
    monkeypatch.setattr(cupy_device, "require_cupy", lambda: found)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("flip_a", [False, True])
@pytest.mark.parametrize("flip_b", [False, True])
def test_products_of_row_major_matrices(fake: SimpleNamespace, dtype: Any, flip_a: bool, flip_b: bool) -> None:
    rng = np.random.default_rng(0)
    n, k, p = 3, 4, 5
    a = rng.normal(size=(k, n + 2) if flip_a else (n, k + 2)).astype(dtype)
    b = rng.normal(size=(p, k + 1) if flip_b else (k, p + 1)).astype(dtype)
    c = rng.normal(size=(n, p + 3)).astype(dtype)
    before = c.copy()
    left = a[:, :n].T if flip_a else a[:, :k]
    right = b[:, :k].T if flip_b else b[:, :p]
    device = CupyDevice()
    operands = (a.ctypes.data, a.shape[1], flip_a, 0), (b.ctypes.data, b.shape[1], flip_b, 0)
    device.gemm((n, k, p), *operands, (c.ctypes.data, c.shape[1], 0), dtype, False)
    np.testing.assert_allclose(c[:, :p], left @ right, rtol=1e-5)
    device.gemm((n, k, p), *operands, (c.ctypes.data, c.shape[1], 0), dtype, True)
    np.testing.assert_allclose(c[:, :p], 2 * (left @ right), rtol=1e-5)
    assert np.array_equal(c[:, p:], before[:, p:])
    device.gemm((0, k, p), *operands, (c.ctypes.data, c.shape[1], 0), dtype, True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("flip_a, flip_b", [(False, False), (True, False), (False, True)])
def test_many_products_and_an_operand_that_all_share(
    fake: SimpleNamespace, dtype: Any, flip_a: bool, flip_b: bool
) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 3, 3)).astype(dtype)
    b = rng.normal(size=(3, 3)).astype(dtype)
    c = np.zeros((6, 3, 3), dtype)
    left, right = (a.ctypes.data, 3, flip_a, 9), (b.ctypes.data, 3, flip_b, 0)
    CupyDevice().gemm((3, 3, 3), left, right, (c.ctypes.data, 3, 9), dtype, False, 6)
    np.testing.assert_allclose(c, (a.swapaxes(1, 2) if flip_a else a) @ (b.T if flip_b else b), rtol=1e-4)


def square(x: Any) -> tuple[Any, ...]:
    """Arguments of a product of a 2 x 2 matrix with itself."""
    at = x.ctypes.data
    return (2, 2, 2), (at, 2, False, 0), (at, 2, False, 0), (at, 2, 0), x.dtype, False


def test_tf32_is_asked_for(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    x = np.ones((2, 2), np.float32)
    before = use_device(device)
    try:
        for tf32, mode in ((False, 0), (True, 3), (False, 0)):
            ab.set_backend("cupy", tf32=tf32)
            device.gemm(*square(x))
            assert fake.handles.log[-1] == ("mode", mode)
    finally:
        ab.set_backend("numba")
        use_device(before)
    with pytest.raises(ValueError, match="tf32 is an option of cupy, numba has none"):
        ab.set_backend("numba", tf32=True)


def test_the_handle_is_told_what_changes(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    x = np.zeros((2, 2), np.float32)
    device.gemm(*square(x))
    device.gemm(*square(x))
    assert fake.handles.log == ["create", ("mode", 0)]  # CuPy sets the stream
    device.tf32 = True
    device.gemm(*square(x))
    assert fake.handles.log[2:] == [("mode", 3)]
    del device
    gc.collect()
    assert fake.handles.log[-1] == "destroy"


def test_a_pinned_buffer_waits_until_its_copy_is_done(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    first = device.upload(np.arange(4.0))
    second = device.upload(np.arange(3))
    assert (first.get().tolist(), second.get().tolist()) == ([0.0, 1.0, 2.0, 3.0], [0, 1, 2])
    buffers = [buffer for buffer, _ in device._pinned]
    assert len(buffers) == 2 and buffers[0] is not buffers[1]
    for _, event in device._pinned:
        event.done = True
    device.upload(np.arange(5, dtype=np.int32))
    assert any(buffer is device._pinned[-1][0] for buffer in buffers)
    assert device.upload(np.zeros(0)).shape == (0,)


def test_what_is_read_as_of_a_moment_goes_past_what_was_launched_since(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    x = device.array(np.arange(3.0))
    moments = [device.mark() for _ in range(2)]
    assert [device.numpy(x, moment).tolist() for moment in moments] == [[0.0, 1.0, 2.0]] * 2
    assert device._reader.log == [moments[0], "copy", moments[1], "copy"]


def test_memory_and_kernels(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    x = device.array(np.arange(4.0))
    y = device.empty((4,), np.float64)
    device.copy(y.data.ptr, x.data.ptr, 32)
    device.zero(x.data.ptr, 16)
    assert (device.numpy(x).tolist(), device.numpy(y).tolist()) == ([0.0, 0.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0])
    assert device.free_bytes() == 105
    fake.limit = 100
    assert device.free_bytes() == 40
    one, two = device.kernel("text", "one"), device.kernel("text", "two")
    assert len(fake.modules) == 1 and device.kernel("text", "one") is one
    device.launch(one, 3, 256, (1, 2))
    device.launch(two, 0, 256, ())
    assert fake.launches == [("one", (3,), (256,), (1, 2))]


def test_numbers_at_an_address_are_sorted_stably(fake: SimpleNamespace) -> None:
    numbers = np.array([3, 1, 2, 1, 3, 1])
    assert CupyDevice().argsort(numbers.ctypes.data, 6).tolist() == [1, 3, 5, 2, 0, 4]
