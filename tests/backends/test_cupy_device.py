"""The calls that reach CuPy, against a module that stands in for it: order of arguments, layouts, buffers in flight.

Factors, matrices and leading dimensions go to a BLAS written down here from its definition, column by column.
"""

from __future__ import annotations

import ctypes
import gc
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import autobatch as ab
from autobatch.backends import cupy_device
from autobatch.backends.cupy_device import CupyDevice
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


def anywhere(dtype: Any) -> Any:
    """The same for matrices whose addresses stand in three tables."""
    one = gemm(dtype)

    def call(
        handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int, b: int, ldb: int,
        beta: int, c: int, ldc: int, count: int,
    ) -> None:  # fmt: skip
        tables = (view(table, (count,), (1,), np.int64).tolist() for table in (a, b, c))
        for x, y, z in zip(*tables, strict=True):
            one(handle, ta, tb, m, n, k, alpha, x, lda, y, ldb, beta, z, ldc)

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

    def __init__(self, host: Any, kept: Any = None) -> None:
        self.host, self.kept = host, kept
        self.shape, self.dtype, self.nbytes = host.shape, host.dtype, host.nbytes
        self.data = SimpleNamespace(ptr=host.ctypes.data, copy_from_host_async=self.copy)

    def copy(self, address: int, n_bytes: int, stream: Any) -> None:
        ctypes.memmove(self.host.ctypes.data, address, n_bytes)

    def get(self, stream: Any = None) -> Any:
        if stream is not None:
            stream.log.append("copy")
        return self.host.copy()


class Stream:
    """A stream that writes down what is put into it, and while it is captured what would be put there."""

    current: ClassVar[list[Any]] = []
    fails = ""

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking  # one that blocks would wait for the default stream, whatever is in it
        self.log: list[Any] = []
        self.ptr, self.is_captured, self.captured = 99, False, 0

    def wait_event(self, event: Event) -> None:
        self.log.append(event)

    def __enter__(self) -> None:
        self.current.append(self)

    def __exit__(self, *error: object) -> None:
        assert self.current.pop() is self

    def begin_capture(self, mode: int) -> None:
        assert mode == 1 and self.current[-1] is self and not self.is_captured
        self.is_captured, self.log = True, []

    def end_capture(self) -> Any:
        assert self.is_captured
        self.is_captured = False
        if self.fails:
            raise RuntimeError(self.fails)
        calls, launched = tuple(self.log), self.current[0].log
        self.captured += 1
        return SimpleNamespace(launch=lambda: launched.extend(calls))


class Handles:
    """What `CupyDevice` uses of cuBLAS beside products: calls that make a handle and set it, by CuPy and past it."""

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

    def set_stream(self, handle: int, stream: int) -> None:
        self.log.append(("stream", stream))

    def set_workspace(self, handle: int, address: int, n_bytes: int) -> None:
        assert self.log[-1][0] == "stream"  # which took the one of before away
        self.log.append(("workspace", address, n_bytes))


def refusing(product: Any) -> Any:
    """A product as CuPy does it: not on a stream that is captured."""

    def call(*arguments: Any) -> None:
        if getattr(Stream.current[-1], "is_captured", False):
            raise NotImplementedError("during stream capture")
        product(*arguments)

    return call


def noted(product: Any) -> Any:
    """A product as cuBLAS does it: what is captured does not run."""

    def call(*arguments: Any) -> None:
        here = Stream.current[-1]
        if getattr(here, "is_captured", False):
            here.log.append(("product", arguments))
        else:
            product(*arguments)

    return call


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `CupyDevice` uses of CuPy."""
    stream = SimpleNamespace(ptr=11, synchronize=lambda: None, log=[])
    monkeypatch.setattr(Stream, "current", [stream])
    handles = Handles()
    products = {"sgemm": gemm(np.float32), "dgemm": gemm(np.float64)}
    products |= {"sgemmStridedBatched": batched(np.float32), "dgemmStridedBatched": batched(np.float64)}
    products |= {"sgemmBatched": anywhere(np.float32), "dgemmBatched": anywhere(np.float64)}
    library = SimpleNamespace(
        **{name: noted(product) for name, product in products.items()},
        set_stream=handles.set_stream, set_workspace=handles.set_workspace,
    )  # fmt: skip
    allocated: list[Any] = []

    def alloc(n_bytes: int) -> Any:
        allocated.append(np.zeros(min(n_bytes, 1 << 20), np.uint8))
        return SimpleNamespace(ptr=allocated[-1].ctypes.data)

    def ndarray(shape: Any, dtype: Any, memptr: Any) -> Array:
        address, owner = memptr
        return Array(view(address, (int(np.prod(shape)),), (1,), dtype).reshape(shape), owner)

    pool = SimpleNamespace(free_bytes=lambda: 5, used_bytes=lambda: 60, get_limit=lambda: found.limit)
    modules: list[tuple[str, Any]] = []

    class Module:
        def __init__(self, code: str, options: tuple[str, ...], enable_cooperative_groups: bool) -> None:
            modules.append((code, options))
            self.together = enable_cooperative_groups

        def get_function(self, name: str) -> Any:
            return Kernel(name, self.together)

    class Kernel:
        max_dynamic_shared_size_bytes = 48 * 1024

        def __init__(self, name: str, together: bool) -> None:
            self.name, self.together = name, together

        def __call__(self, grid: Any, block: Any, arguments: Any, shared_mem: int = 0) -> None:
            assert shared_mem <= self.max_dynamic_shared_size_bytes
            how = ("together", shared_mem) if self.together else ()
            here = Stream.current[-1]
            (launches if here is stream else here.log).append((self.name, grid, block, arguments, *how))

    attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448, "CooperativeLaunch": 1}
    launches: list[Any] = []
    stream.log = launches
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(
            memsetAsync=lambda address, value, n, stream: ctypes.memset(address, value, n),
            memcpyAsync=lambda to, at, n, kind, stream: ctypes.memmove(to, at, n) if kind == 3 else None,
            memGetInfo=lambda: (100, 1000),
            getDevice=lambda: 0, runtimeGetVersion=lambda: 12080, streamCaptureModeThreadLocal=1,
        ),
        cublas=SimpleNamespace(
            **{name: refusing(product) for name, product in products.items()}, create=handles.create,
            destroy=handles.destroy, setPointerMode=handles.setPointerMode, setMathMode=handles.setMathMode,
        ),
        Device=lambda: SimpleNamespace(compute_capability="90", attributes=attributes), alloc=alloc,
        UnownedMemory=lambda address, n_bytes, owner, device: (address, owner),
        MemoryPointer=lambda memory, offset: memory,
        get_current_stream=lambda: Stream.current[-1],
        alloc_pinned_memory=Pinned,
        Event=Event, Stream=Stream,
    )  # fmt: skip
    found = SimpleNamespace(
        cuda=cuda, limit=0, modules=modules, launches=launches, handles=handles, allocated=allocated, ndarray=ndarray,
        RawModule=Module, attributes=attributes,
        zeros=lambda shape, dtype: Array(np.zeros(shape, dtype)),
        empty=lambda shape, dtype: Array(np.empty(shape, dtype)),
        array=lambda host, order: Array(np.array(host, order=order)),
        get_default_memory_pool=lambda: pool,
    )  # fmt: skip
    monkeypatch.setattr(cupy_device, "require_cupy", lambda: found)
    monkeypatch.setattr(cupy_device, "Library", {12: library}.__getitem__)
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
    leads = a.shape[1], flip_a, b.ctypes.data, b.shape[1], flip_b, c.ctypes.data, c.shape[1], dtype
    device.product(n, k, p, a.ctypes.data, *leads, False)
    np.testing.assert_allclose(c[:, :p], left @ right, rtol=1e-5)
    device.product(n, k, p, a.ctypes.data, *leads, True)
    np.testing.assert_allclose(c[:, :p], 2 * (left @ right), rtol=1e-5)
    assert np.array_equal(c[:, p:], before[:, p:])
    device.product(0, k, p, a.ctypes.data, *leads, True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("flip_a, flip_b", [(False, False), (True, False), (False, True)])
def test_many_products_and_an_operand_that_all_share(
    fake: SimpleNamespace, dtype: Any, flip_a: bool, flip_b: bool
) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 3, 3)).astype(dtype)
    b = rng.normal(size=(3, 3)).astype(dtype)
    c = np.zeros((6, 3, 3), dtype)
    CupyDevice().products(
        6, 3, 3, 3, a.ctypes.data, 3, flip_a, 9, b.ctypes.data, 3, flip_b, 0, c.ctypes.data, 3, 9, dtype
    )
    np.testing.assert_allclose(c, (a.swapaxes(1, 2) if flip_a else a) @ (b.T if flip_b else b), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("flip_a, flip_b", [(False, False), (True, False), (False, True)])
def test_products_of_matrices_anywhere(fake: SimpleNamespace, dtype: Any, flip_a: bool, flip_b: bool) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, *((5, 2) if flip_a else (2, 5)))).astype(dtype)[::-1]
    b = rng.normal(size=(3, *((4, 5) if flip_b else (5, 4)))).astype(dtype)
    c = np.zeros((3, 2, 6), dtype)
    tables = [np.array([m.ctypes.data for m in each], np.int64) for each in (a, b, c)]
    at_a, at_b, at_c = (table.ctypes.data for table in tables)
    device = CupyDevice()
    wanted = (a.swapaxes(1, 2) if flip_a else a) @ (b.swapaxes(1, 2) if flip_b else b)
    leads = a.shape[2], b.shape[2]
    for add in (False, True):
        device.products_at(3, 2, 5, 4, at_a, leads[0], flip_a, at_b, leads[1], flip_b, at_c, 6, dtype, add)
        np.testing.assert_allclose(c[:, :, :4], (1 + add) * wanted, rtol=1e-4)
    assert not c[:, :, 4:].any() and device.launched == 2


def test_tf32_is_asked_for(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    x = np.ones((2, 2), np.float32)
    before = use_device(device)
    try:
        for tf32, mode in ((False, 0), (True, 3), (False, 0)):
            ab.set_backend("cupy", tf32=tf32)
            device.product(2, 2, 2, *(x.ctypes.data, 2, False) * 2, x.ctypes.data, 2, np.float32, False)
            assert fake.handles.log[-1] == ("mode", mode)
    finally:
        ab.set_backend("numba")
        use_device(before)
    with pytest.raises(ValueError, match="tf32 is an option of cupy, numba has none"):
        ab.set_backend("numba", tf32=True)


SQUARE = 2, 2, 2


def square(x: Any) -> tuple[Any, ...]:
    """Arguments of a product of a matrix with itself."""
    return (*SQUARE, *(x.ctypes.data, 2, False) * 2, x.ctypes.data, 2, x.dtype, False)


def test_the_handle_is_told_what_changes(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    x = np.zeros((2, 2), np.float32)
    device.product(*square(x))
    device.product(*square(x))
    assert fake.handles.log == ["create", ("mode", 0)]  # CuPy sets the stream
    device.graphs = True
    device.product(*square(x))
    device.product(*square(x))
    first = fake.allocated[-1].ctypes.data
    assert fake.handles.log[2:] == [("stream", 11), ("workspace", first, 32 << 20)]
    with Stream(non_blocking=True):  # another stream has a workspace of its own
        device.product(*square(x))
    second = fake.allocated[-1].ctypes.data
    device.product(*square(x))
    assert fake.handles.log[4:] == [
        ("stream", 99), ("workspace", second, 32 << 20), ("stream", 11), ("workspace", first, 32 << 20)
    ]  # fmt: skip
    device.graphs = False
    device.product(*square(x))  # by CuPy, which takes the workspace away
    device.graphs = True
    device.product(*square(x))
    assert fake.handles.log[8:] == [("stream", 11), ("workspace", first, 32 << 20)]
    del device
    gc.collect()
    assert fake.handles.log[-1] == "destroy"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_past_cupy_are_those_of_cupy(fake: SimpleNamespace, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 3, 4)).astype(dtype), rng.normal(size=(4, 5)).astype(dtype)
    found = []
    for graphs in (False, True):
        device = CupyDevice()
        device.graphs = graphs
        c, d = np.zeros((6, 3, 5), dtype), np.ones((18, 5), dtype)
        one, other = (a.ctypes.data, 4, False), (b.ctypes.data, 5, False)
        device.products(6, 3, 4, 5, *one, 12, *other, 0, c.ctypes.data, 5, 15, dtype)
        device.product(18, 4, 5, *one, *other, d.ctypes.data, 5, dtype, True)
        np.testing.assert_allclose(c, a @ b, rtol=1e-5)
        found += [c.tobytes(), d.tobytes()]
    assert found[:2] == found[2:]


def test_calls_are_captured_on_another_stream_and_launched_on_the_current_one(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    device.graphs = True
    kernel = device.kernel("text", "one")
    x = np.ones((2, 2), np.float32)
    device.product(*square(x))
    workspace = fake.handles.log[2]
    calls = ("launch", (kernel, 3, 256, (1, 2))), ("product", square(x)), ("launch", (kernel, 4, 256, (3,)))
    before = device.launched
    graph = device.capture(calls)
    assert fake.launches == [] and device.launched == before and x[0, 0] == 2.0
    # its products work in the workspace of the stream that it is launched into
    assert fake.handles.log[-2:] == [("stream", 99), workspace]
    for _ in range(2):
        device.play(graph)
    first, product, last = fake.launches[:3]
    assert (first, last) == (("one", (3,), (256,), (1, 2)), ("one", (4,), (256,), (3,)))
    assert product[0] == "product" and product[1][0] == 7
    assert fake.launches[3:] == [first, product, last]
    assert device.launched == before + 2
    device.product(*square(x))
    assert fake.handles.log[-2:] == [("stream", 11), workspace]
    del device
    gc.collect()
    assert "destroy" not in fake.handles.log  # the graph keeps what it works in
    del graph
    assert fake.handles.log[-1] == "destroy"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_capture_that_fails_is_ended(fake: SimpleNamespace, error: type[BaseException]) -> None:
    device = CupyDevice()
    kernel = device.kernel("text", "one")

    def fail(*arguments: Any) -> None:
        raise error("no")

    with pytest.raises(error, match="no"):
        device.capture((("launch", (kernel, 3, 256, (1,))), ("launch", (fail, 3, 256, (1,)))))
    device.launch(kernel, 1, 256, (5,))
    assert fake.launches == [("one", (1,), (256,), (5,))]
    device.play(device.capture((("launch", (kernel, 3, 256, (1,))),)))
    assert fake.launches[1:] == [("one", (3,), (256,), (1,))]


def test_a_graph_that_cuda_refuses(fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    device = CupyDevice()
    call = "launch", (device.kernel("text", "one"), 3, 256, (1,))
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="the capture is void"):
        patch.setattr(Stream, "fails", "the capture is void")
        device.capture((call,))
    device.play(device.capture((call,)))
    assert len(fake.launches) == 1


def test_memory_comes_back_while_graphs_are_on(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    device.graphs = True
    x = device.empty((3, 5), np.float32)
    assert x.shape == (3, 5) and x.dtype == np.float32
    address = x.data.ptr
    y = device.upload(np.arange(4.0))
    assert y.get().tolist() == [0.0, 1.0, 2.0, 3.0] and y.data.ptr != address
    del x
    gc.collect()
    assert device.free_bytes() == 105 + 512
    assert device.empty((15,), np.float32).data.ptr == address
    with Stream(non_blocking=True):
        assert device.empty((15,), np.float32).data.ptr != address
    assert device.empty((0,), np.float32).shape == (0,)
    device.graphs = False
    assert device.free_bytes() == 105


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


def test_kernels_whose_blocks_wait_for_each_other(fake: SimpleNamespace) -> None:
    device = CupyDevice()
    assert (device.blocks_at_once, device.shared_bytes) == (132, 227 * 1024)
    walk = device.resident_kernel("text", "walk")
    for shared in (1000, 200_000, 100_000):
        device.launch_resident(walk, 132, 256, shared, 5)
    assert fake.launches == [("walk", (132,), (256,), (5,), "together", n) for n in (1000, 200_000, 100_000)]
    fake.attributes["CooperativeLaunch"] = 0
    assert CupyDevice().blocks_at_once == 0
