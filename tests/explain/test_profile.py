"""What a profile counts, on programs small enough to count by hand."""

from __future__ import annotations

import numpy as np

import autobatch as ab


class Pair:
    """Cells of one model: what they read is counted in float32, four numbers a row."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.w = ab.Parameter(rng.normal(size=(4, 4)).astype(np.float32))
        self.v = ab.Parameter(rng.normal(size=(8, 4)).astype(np.float32))

    @ab.cell
    def mapped(self, x: ab.Tensor) -> ab.Tensor:
        return x @ self.w

    @ab.cell
    def joined(self, x: ab.Tensor, y: ab.Tensor) -> ab.Tensor:
        return ab.concat([x, y]) @ self.v

    @ab.cell
    def added(self, x: ab.Tensor, y: ab.Tensor) -> ab.Tensor:
        return ab.tanh(x + y)


ROW = 4 * 4


def profiled(name: str, reads: list[tuple[int, ...]], n: int = 6) -> tuple[int, int]:
    """Bytes (copied, read in place) of one cell that reads these of n values from outside."""
    pair = Pair()
    with ab.profile() as prof, ab.no_grad():
        values = [ab.tensor(np.full(4, k, np.float32)) for k in range(n)]
        ab.evaluate([getattr(pair, name)(*(values[k] for k in read)) for read in reads])
    entries = [found for kernel, found in prof.kernel_bytes.items() if name in kernel]
    assert [sum(column) for column in zip(*prof.kernel_bytes.values(), strict=True)] == [
        prof.bytes_copied,
        prof.bytes_in_place,
    ]
    assert len(entries) == 1
    copied, in_place = entries[0]
    return copied, in_place


def test_a_product_reads_a_block_in_place_and_gathers_other_rows() -> None:
    assert profiled("mapped", [(k,) for k in range(6)]) == (0, 6 * ROW)
    assert profiled("mapped", [(0,), (2,), (1,), (3,), (4,), (5,)]) == (6 * ROW, 0)


def test_loops_read_rows_where_they_lie() -> None:
    assert profiled("added", [(0, 5), (3, 1), (2, 4)]) == (0, 6 * ROW)


def test_rows_put_side_by_side_are_copied() -> None:
    assert profiled("joined", [(0, 1), (2, 3), (4, 5)]) == (6 * ROW, 0)


def test_the_reverse_pass_counts_where_gradients_are_kept_for() -> None:
    pair = Pair()
    with ab.profile() as prof:
        values = [ab.tensor(np.full(4, k, np.float32)) for k in range(4)]
        pairs = zip(values, values[::-1], strict=True)
        loss = ab.sum(ab.stack([ab.sum(pair.added(pair.mapped(x), y)) for x, y in pairs]))
        loss.backward()
    copied, in_place = next(found for kernel, found in prof.kernel_bytes.items() if "added" in kernel)
    assert (copied, in_place) == (0, 2 * 8 * ROW)
    assert f"{in_place:,}" in prof.table()
