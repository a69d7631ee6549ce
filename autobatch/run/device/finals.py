"""finals: gradients of the operands that all nodes of a signature share, once all launches are reversed.

Input: the launches of a signature that were reversed, their residuals and cotangents, which are not contiguous.
Output: gradients, whole or as rows of a table, each from one program over all of the launches together. Cost: a take
for what is not contiguous, and the calls of one program a signature.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...backends.transfer import to_host
from ...base.types import Array, Type
from ...compile.kernel import Kernel
from ...compile.split import SparseGradient
from ..finals import GiveDense, GiveRows
from ..layout import rows_shape
from .execute import fixed_inputs
from .layout import DeviceLaunch
from .rows import take_rows

if TYPE_CHECKING:
    from .backward import DeviceBackward


@dataclass(slots=True)
class Rows:
    """Contiguous rows: where they begin, or where they are gathered once all launches are reversed."""

    address: Callable[[], int]
    take: Callable[[], None] | None = None


@dataclass(slots=True)
class Final:
    """The gradients of the shared operands of a signature, over all its launches together."""

    back: DeviceBackward
    s: int
    sizes: tuple[int, ...] = ()
    launches: list[DeviceLaunch] = field(default_factory=list)
    all_of_them: bool = False
    inputs: list[int | Rows] = field(default_factory=list)
    sparse: list[tuple[int, SparseGradient, Rows]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    @property
    def kernel(self) -> Kernel:
        """Of the signature."""
        return self.back.run.signatures[self.s].kernel

    def __post_init__(self) -> None:
        run, launches = self.back.run, self.back.used[self.s]
        every = [x for x in run.launches if x.sig == self.s and x.sizes[0]]
        self.launches = launches
        self.all_of_them = len(every) == len(launches)
        self.sizes = tuple(sum(x.sizes[k] for x in launches) for k in range(len(launches[0].sizes)))

    def reserve(self) -> int:
        """Reserve memory for what has to be gathered, and the row numbers; returns the bytes of scratch."""
        run, s = self.back.run, self.s
        pieces = self.kernel.device_pieces
        for k, gradient in pieces.sparse:
            self.sparse.append((k, gradient, self._residual(gradient.rows)))
        if not pieces.dense:
            return 0
        cotangents = pieces.final.types("cotangent")
        for kind, k, fixed in fixed_inputs(run, s, "final"):
            if fixed:
                self.inputs.append(fixed)
            elif kind == "residual":
                self.inputs.append(self._residual(k))
            elif kind == "cotangent":
                self.inputs.append(self._cotangent(k, cotangents[k]))
            else:
                at = self.back.staging.put_together([run.column(x, k) for x in self.launches])
                self.inputs.append(Rows(partial(self.back.staged, at)))
        return int(self.kernel.device_program("final").scratch(self.sizes[0], self.sizes))

    def _residual(self, k: int) -> Rows:
        run, s = self.back.run, self.s
        at = run.room.address + run.residual_at[s][k]
        if self.all_of_them:
            return Rows(lambda: at)
        type = self.kernel.device_pieces.residuals[k]
        return self._together(lambda: at, self._blocks(type), rows_shape(type, self.sizes)[1], type.dtype)

    def _blocks(self, type: Type) -> list[tuple[int, int]]:
        """First row and rows of a residual in each of the launches."""
        lead = type.shape[0]
        return [(x.at[lead.index] * lead.factor, x.sizes[lead.index] * lead.factor) for x in self.launches]

    def _cotangent(self, k: int, type: Type) -> Rows:
        back = self.back
        pool = self.launches[0].writes[k][0]
        width = back.run.tape.pools[pool][0]
        blocks = [x.writes[k][1:] for x in self.launches]
        return self._together(lambda: back.pool_address(pool), blocks, width, type.dtype)

    def _together(
        self, pool: Callable[[], int], blocks: list[tuple[int, int]], width: int, dtype: np.dtype[Any]
    ) -> Rows:
        """Blocks of rows, where they lie if they follow one another, else taken to one place."""
        back = self.back
        n = sum(rows for _, rows in blocks)
        if all(a + rows == b for (a, rows), (b, _) in itertools.pairwise(blocks)):
            offset = blocks[0][0] * width * dtype.itemsize
            return Rows(lambda: pool() + offset)
        numbers = np.concatenate([np.arange(a, a + rows, dtype=np.int32) for a, rows in blocks])
        at = back.staging.put(numbers)
        to = back.room.reserve(n * width * dtype.itemsize, "cotangents")

        def take() -> None:
            take_rows(back.device, pool(), back.staging.address + at, back.room.address + to, n, width, dtype)

        return Rows(lambda: back.room.address + to, take)

    def compute(self) -> None:
        """Gather what is not contiguous, and compute the gradients."""
        for x in [*self.inputs, *(values for _, _, values in self.sparse)]:
            if isinstance(x, Rows) and x.take is not None:
                x.take()
        kernel, back = self.kernel, self.back
        final = kernel.device_pieces.final
        if not kernel.device_pieces.dense:
            return
        types = [final.nodes[i].type for i in final.outputs]
        self.results = [back.device.empty(t.shape, t.dtype) for t in types]
        inputs = [x.address() if isinstance(x, Rows) else x for x in self.inputs]
        outputs = [result.data.ptr for result in self.results]
        scratch = back.room.address + back.scratch_at
        kernel.device_program("final").run(back.device, self.sizes[0], self.sizes, inputs, outputs, scratch)

    def give(self, dense: GiveDense, rows: GiveRows) -> None:
        """Pass the gradients on."""
        run, back = self.back.run, self.back
        signature, pieces = run.signatures[self.s], self.kernel.device_pieces
        for k, g in zip(pieces.dense, self.results, strict=True):
            dense(signature.shared[k], g)
        for k, gradient, values in self.sparse:
            type = pieces.residuals[gradient.rows]
            shape = rows_shape(type, self.sizes)
            room = run.room if values.take is None else back.room
            ids, table = self._ids(gradient.ids), signature.shared[k]
            rows(
                table,
                ids,
                room.view(values.address() - room.address, shape, type.dtype).reshape(
                    ids.size, math.prod(table.shape[1:])
                ),
            )

    def _ids(self, k: int) -> Array:
        """Row numbers of a table for all nodes, as the host knows them or after asking the device."""
        run = self.back.run
        whole = run.indices.get((self.s, k))
        if whole is None:
            whole = to_host(run.residual_array(self.s, k)).reshape(-1)
        if self.all_of_them:
            return whole
        type = self.kernel.device_pieces.residuals[k]
        parts = whole.reshape(rows_shape(type, run.totals[self.s]))
        return np.concatenate([parts[start : start + rows].reshape(-1) for start, rows in self._blocks(type)])
