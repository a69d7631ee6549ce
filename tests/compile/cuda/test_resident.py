"""The kernel that does many launches: its products against NumPy, how weights are shared out, what a GPU's compiler
makes of it, and that the CPU finds a barrier that is missing."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from autobatch.compile.cuda.lower import CudaProgram, lower_cuda
from autobatch.compile.cuda.products import Weight
from autobatch.compile.cuda.resident import NAME, PARTS, PRODUCT, Fit, Resident, fit, write_resident
from autobatch.ops.elementwise import ADD, TANH
from autobatch.ops.linalg import PRODUCT as PRODUCT_OP
from autobatch.types import Dim
from tests import nvrtc
from tests.compile.by_hand import Build
from tests.stand_in import kernels

needs_compiler = pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def weight(k: int, p: int, flip: bool = False, dtype: Any = F32) -> Weight:
    """One that lies in memory without gaps."""
    return Weight(("shared", 0), 0, k, p, k if flip else p, flip, dtype)


@cache
def only_products(dtype: Any) -> Resident:
    """The kernel of a program that has none."""
    return write_resident(
        [CudaProgram("", "", (), (), (weight(4, 4, dtype=dtype),), print, lambda m, sizes: 0, False, 0)]
    )


@needs_compiler
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(
    ("k", "p", "n", "groups", "blocks"),
    [
        (12, 10, 1, 3, 7),
        (12, 10, 9, 2, 4),
        (7, 5, 3, 1, 1),
        (64, 33, 200, 5, 11),
        (64, 33, 1, 9, 18),
        (40, 8, 600, 2, 5),
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_products(k: int, p: int, n: int, groups: int, blocks: int, flip: bool, dtype: Any) -> None:
    """Few rows and many, columns that no block has or that fill none, rows that are not aligned."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, k + 1)).astype(dtype)
    w = rng.normal(size=(p, k + 2) if flip else (k, p + 2)).astype(dtype)
    before = rng.normal(size=(n, p + 3)).astype(dtype)
    wanted = x[:, :k] @ (w[:, :k].T if flip else w[:, :p])
    quads = -(-p // 4)
    columns = 4 * -(-quads // groups)
    first = PARTS * dtype.itemsize
    kernel = kernels.compiled_resident(only_products(dtype).source, NAME)
    for add in (False, True):
        for lead, shift in ((k, 0), (k + 1, blocks // groups - 1)):
            left = np.ascontiguousarray(x[:, :lead])
            c = before.copy()
            row = [PRODUCT, 2 * shift, 0, n, left.ctypes.data, lead, c.ctypes.data, p + 3, int(add)]
            table = np.array(
                [0, 1, groups, w.ctypes.data, w.shape[1], flip, k, p, columns, first, *row, -1, *[0] * 8], np.int64
            )
            kernels.launch_resident(kernel, blocks, 256, first + k * columns * dtype.itemsize, table.ctypes.data)
            np.testing.assert_allclose(
                c[:, :p], wanted + add * before[:, :p], rtol=0, atol=1e-4 if dtype == F32 else 1e-12
            )
            assert np.array_equal(c[:, p:], before[:, p:])


def test_weights_are_shared_out_among_few_blocks_that_have_room() -> None:
    room = 227 * 1024
    small = fit((weight(64, 256),), 132, room)
    assert small == Fit(16, (16,), (PARTS * 4,), PARTS * 4 + 64 * 16 * 4)
    narrow = fit((weight(6, 5), weight(6, 24)), 132, room)
    assert narrow is not None and (narrow.groups, narrow.columns) == (6, (4, 4))
    wide = weight(1024, 1536), weight(512, 512)
    found = fit(wide, 132, room)
    assert found is not None and (found.groups, found.columns) == (44, (36, 12)) and found.n_bytes <= room
    assert fit(wide, 34, room) is None
    one_share = fit((weight(2048, 2048),), 132, room)
    assert one_share is not None and one_share.groups == 132, "no block is idle"
    assert fit((weight(2048, 3072), weight(1024, 1024)), 132, room) is None


@pytest.mark.skipif(bool(nvrtc.MISSING), reason=nvrtc.MISSING)
def test_what_blocks_tell_each_other_is_no_constant_to_a_gpu() -> None:
    """`ld.global.nc`, which NVRTC makes of what a kernel only reads, does not see what other blocks write meanwhile."""
    b = Build()
    x, w, v = b.input("rows", 0, Dim(0), 4), b.input("shared", 0, 4, 3), b.input("shared", 1, 3)
    program = lower_cuda(b.out(b.op(TANH, b.op(ADD, b.op(PRODUCT_OP, x, w), v))), "test", (False,))
    assert program.weights == (weight(4, 3),)
    resident = write_resident([program])
    assert "ld.global.nc" in nvrtc.assembly(program.source)
    assert "ld.global.nc" not in nvrtc.assembly(resident.source)
    assert f".text.{NAME}\0".encode() in nvrtc.compiled(resident.source)


def test_programs_that_ask_a_library_for_more_have_no_weights() -> None:
    b = Build()
    x, y, w = b.input("rows", 0, Dim(0), 4), b.input("rows", 1, Dim(0), 4, 4), b.input("kept", 0, 4, 3)
    for product in (b.op(PRODUCT_OP, x, w), b.op(PRODUCT_OP, y, y)):
        assert lower_cuda(b.out(product), "test", (False,)).weights is None
    assert lower_cuda(b.out(b.op(TANH, x)), "test", (False,)).weights == ()


@needs_compiler
def test_a_barrier_that_is_missing_within_a_block_is_found() -> None:
    source = only_products(F32).source
    walk(source)
    with pytest.raises(AssertionError, match="no barrier between two of its phases"):
        walk(source.replace("    AB_BARRIER\n    if (split == 1)", "    if (split == 1)"))


@needs_compiler
def test_blocks_that_wait_in_vain_are_found() -> None:
    wrong = only_products(F32).source.replace("row[1] & 1", "blockIdx.x > 0")
    with pytest.raises(AssertionError, match="wait for one that does not come"):
        walk(wrong)


def walk(source: str) -> None:
    """A product of one row by three blocks, which then meet."""
    x = np.ones((3, 4), F32)
    row = [PRODUCT, 1, 0, 1, x.ctypes.data, 4, x.ctypes.data, 4, 0]
    table = np.array([0, 1, 1, x.ctypes.data, 4, 0, 4, 4, 4, PARTS * 4, *row, -1, *[0] * 8], np.int64)
    kernels.launch_resident(kernels.compiled_resident(source, NAME), 3, 256, PARTS * 4 + 64, table.ctypes.data)
