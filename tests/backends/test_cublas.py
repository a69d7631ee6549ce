"""Products past CuPy: the functions of a library in C that has cuBLAS's names and arguments."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autobatch.backends import cublas
from autobatch.errors import BackendError

SOURCE = """
#include <cstddef>
struct Handle { void* stream; void* workspace; size_t bytes; };
template <typename T>
int gemm(Handle* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* a, int lda, long long sa, const T* b,
         int ldb, long long sb, const T* beta, T* c, int ldc, long long sc, int count) {
    if (!h->workspace) return 13;
    for (int i = 0; i < count; ++i)
        for (int r = 0; r < m; ++r)
            for (int s = 0; s < n; ++s) {
                T sum = 0;
                for (int q = 0; q < k; ++q)
                    sum += a[i * sa + (ta ? q + r * lda : r + q * lda)] * b[i * sb + (tb ? s + q * ldb : q + s * ldb)];
                T& to = c[i * sc + r + s * ldc];
                to = *alpha * sum + (*beta != 0 ? *beta * to : T(0));
            }
    return 0;
}
extern "C" {
int cublasSetStream_v2(Handle* h, void* stream) { h->stream = stream; h->workspace = nullptr; return 0; }
int cublasSetWorkspace_v2(Handle* h, void* at, size_t bytes) {
    if ((size_t)at % 256) return 7;
    h->workspace = at; h->bytes = bytes;
    return 0;
}
#define FIRST Handle *h, int ta, int tb, int m, int n, int k
#define GEMM(NAME, T) int NAME(FIRST, const T* alpha, const T* a, int lda, \\
    const T* b, int ldb, const T* beta, T* c, int ldc) { \\
    return gemm<T>(h, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1); }
#define BATCHED(NAME, T) int NAME(FIRST, const T* alpha, const T* a, int lda, \\
    long long sa, const T* b, int ldb, long long sb, const T* beta, T* c, int ldc, long long sc, int count) { \\
    return gemm<T>(h, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count); }
#define ANYWHERE(NAME, T) int NAME(FIRST, const T* alpha, const T* const a[], int lda, \\
    const T* const b[], int ldb, const T* beta, T* const c[], int ldc, int count) { \\
    int status = 0; \\
    for (int i = 0; i < count; ++i) \\
        status |= gemm<T>(h, ta, tb, m, n, k, alpha, a[i], lda, 0, b[i], ldb, 0, beta, c[i], ldc, 0, 1); \\
    return status; }
GEMM(cublasSgemm_v2, float)
GEMM(cublasDgemm_v2, double)
BATCHED(cublasSgemmStridedBatched, float)
BATCHED(cublasDgemmStridedBatched, double)
ANYWHERE(cublasSgemmBatched, float)
ANYWHERE(cublasDgemmBatched, double)
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> cublas.Library:
    """The functions of a library that does what cuBLAS is said to do."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler (g++)")
    folder: Path = tmp_path_factory.mktemp("cublas")
    (folder / "blas.cpp").write_text(SOURCE, "utf-8")
    made = folder / "blas.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(made), str(folder / "blas.cpp")], check=True)
    load = ctypes.CDLL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctypes, "CDLL", lambda name: load({"libcublas.so.12": str(made)}.get(name, name)))
        patch.setattr(cublas.sys, "platform", "linux")
        return cublas.Library(12)


class Handle:
    """A handle of that library: a stream, a workspace and its size."""

    def __init__(self) -> None:
        self.words = (ctypes.c_uint64 * 3)()
        self.address = ctypes.addressof(self.words)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", [0, 1])
def test_arguments_reach_the_library(library: cublas.Library, dtype: Any, turned: int) -> None:
    handle, factors = Handle(), np.array([0, 1], dtype)
    zero, one = factors.ctypes.data, factors.ctypes.data + factors.itemsize
    library.set_stream(handle.address, 11)
    library.set_workspace(handle.address, 1 << 40, 32 << 20)
    assert list(handle.words) == [11, 1 << 40, 32 << 20]
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3, 4)).astype(dtype), rng.normal(size=(5, 4, 2)).astype(dtype)
    c = np.full((5, 3, 2), np.nan, dtype)
    at_a = (a if not turned else np.ascontiguousarray(a.swapaxes(1, 2))), (3 if turned else 4)
    many, single = (
        (library.sgemmStridedBatched, library.sgemm) if dtype is np.float32
        else (library.dgemmStridedBatched, library.dgemm)
    )  # fmt: skip
    shared = handle.address, 0, turned, 2, 3, 4, one
    many(*shared, b.ctypes.data, 2, 8, at_a[0].ctypes.data, at_a[1], 12, zero, c.ctypes.data, 2, 6, 5)
    np.testing.assert_allclose(c, a @ b, rtol=1e-4)
    single(*shared, b.ctypes.data, 2, at_a[0].ctypes.data, at_a[1], one, c.ctypes.data, 2)
    np.testing.assert_allclose(c[0], 2 * (a[0] @ b[0]), rtol=1e-4)
    np.testing.assert_allclose(c[1:], a[1:] @ b[1:], rtol=1e-4)
    anywhere = library.sgemmBatched if dtype is np.float32 else library.dgemmBatched
    tables = [np.array([x[i].ctypes.data for i in (4, 0)], np.int64) for x in (b, at_a[0], c)]
    at = [table.ctypes.data for table in tables]
    anywhere(*shared, at[0], 2, at[1], at_a[1], zero, at[2], 2, 2)
    np.testing.assert_allclose(c, a @ b, rtol=1e-4)


def test_errors_of_the_library_are_raised(library: cublas.Library) -> None:
    handle = Handle()
    with pytest.raises(RuntimeError, match="cublasSetWorkspace_v2: status 7 of cuBLAS"):
        library.set_workspace(handle.address, 5, 4096)
    x = np.ones(1, np.float32).ctypes.data
    library.set_stream(handle.address, 0)
    with pytest.raises(RuntimeError, match="cublasSgemm_v2: status 13"):
        library.sgemm(handle.address, 0, 0, 1, 1, 1, x, x, 1, x, 1, x, x, 1)


def test_a_library_that_is_missing() -> None:
    with pytest.raises(BackendError, match=r"graphs need cuBLAS, and .*99.* does not load.*\n.*without graphs"):
        cublas.Library(99)
