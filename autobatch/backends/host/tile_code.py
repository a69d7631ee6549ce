"""tile_code: what tiles are made of, written as vectors of the machine in LLVM's language, for compiled functions.

    tile(…)              a tile of a matmul: its sums stay in registers while the inner index runs
    transpose_block(…)   the transpose of a square as wide as a vector
    prefetch(address)    asks for a cache line

Vectors as wide as the machine's are asked for explicitly: loops that a compiler vectorises by itself keep sums in
memory. `tile` has more than 8 arguments, since views cost more than a small tile.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _machine() -> tuple[int, int, int]:
    """Bytes of a vector, vectors in a row of a tile, rows of a tile: their product has to fit the vector registers."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 4, 6
    if features.get("avx"):
        return 32, 2, 6
    if features.get("neon"):
        return 16, 4, 6
    return 16, 2, 4


VECTOR_BYTES, VECTORS, ROWS = _machine()
PANEL_BYTES = VECTORS * VECTOR_BYTES
"""Columns of a full tile, in bytes."""


_INDEX = ir.IntType(64)
_INT = ir.IntType(32)


class _Vectors:
    """Vectors of one dtype in a function that is being built."""

    def __init__(self, builder: Any, real: Any, bits: int) -> None:
        self.builder = builder
        self.lanes = 8 * VECTOR_BYTES // bits
        self.bytes = bits // 8
        self.type = ir.VectorType(real, self.lanes)
        self.zero = ir.Constant(self.type, [0.0] * self.lanes)
        self.bools = ir.VectorType(ir.IntType(1), self.lanes)
        pointer, align = self.type.as_pointer(), _INT
        self.fma = self._function("fmuladd", self.type, [self.type] * 3, bits)
        self.masked_load = self._function(
            "masked.load", self.type, [pointer, align, self.bools, self.type], bits, ".p0"
        )
        self.masked_store = self._function(
            "masked.store", ir.VoidType(), [self.type, pointer, align, self.bools], bits, ".p0"
        )

    def _function(self, name: str, result: Any, arguments: list[Any], bits: int, end: str = "") -> Any:
        kind = ir.FunctionType(result, arguments)
        declare: Any = cgutils.get_or_insert_function
        return declare(self.builder.module, kind, f"llvm.{name}.v{self.lanes}f{bits}{end}")

    def _splat(self, x: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(undefined, x, ir.Constant(_INT, 0))
        return self.builder.shuffle_vector(
            one, undefined, ir.Constant(ir.VectorType(_INT, self.lanes), [0] * self.lanes)
        )

    def splat(self, x: Any) -> Any:
        """A number in every lane."""
        return self._splat(x, self.type)

    def masks(self, columns: Any) -> list[Any]:
        """Which lanes of each vector of a row lie below `columns`."""
        counts = ir.VectorType(_INT, self.lanes)
        limit = self._splat(self.builder.trunc(columns, _INT), counts)
        lanes = [ir.Constant(counts, list(range(v * self.lanes, (v + 1) * self.lanes))) for v in range(VECTORS)]
        return [self.builder.icmp_signed("<", numbers, limit) for numbers in lanes]

    def _at(self, row: Any, v: int) -> Any:
        where = self.builder.gep(row, [ir.Constant(_INDEX, v * self.lanes)])
        return self.builder.bitcast(where, self.type.as_pointer())

    def load(self, row: Any, masks: list[Any] | None) -> list[Any]:
        """A row of vectors, as many as there are masks (None: as a full tile has); masked lanes are zero."""
        if masks is None:
            return [self.builder.load(self._at(row, v), align=self.bytes) for v in range(VECTORS)]
        align = ir.Constant(_INT, self.bytes)
        return [
            self.builder.call(self.masked_load, [self._at(row, v), align, mask, self.zero])
            for v, mask in enumerate(masks)
        ]

    def store(self, values: list[Any], row: Any, masks: list[Any] | None) -> None:
        """Write a row of vectors."""
        align = ir.Constant(_INT, self.bytes)
        for v, value in enumerate(values):
            if masks is None:
                self.builder.store(value, self._at(row, v), align=self.bytes)
            else:
                self.builder.call(self.masked_store, [value, self._at(row, v), align, masks[v]])


def _tile(  # type: ignore[no-untyped-def]
    typing_context, rows, x, x_at, x_row, x_inner, w, w_at, w_row, n_inner, y, y_at, y_row, columns, add
):
    """One tile; places and steps count elements from the first; with `add` the sums start from what y holds.

    y[y_at + i y_row + j] = Σ_k x[x_at + i x_row + k x_inner] · w[w_at + k w_row + j]        i < rows, j < columns
    """
    index = types.intp
    signature = types.void(index, x, *[index] * 3, w, *[index] * 3, y, *[index] * 4)
    bits = x.dtype.bitwidth

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        rows, x, x_at, x_row, x_inner, w, w_at, w_row, n_inner, y, y_at, y_row, columns, add = args

        def start(position: int, array: Any, at: Any) -> Any:
            return builder.gep(context.make_array(signature.args[position])(context, builder, array).data, [at])

        x, w, y = start(1, x, x_at), start(5, w, w_at), start(9, y, y_at)
        vectors = _Vectors(builder, ir.FloatType() if bits == 32 else ir.DoubleType(), bits)
        masks = vectors.masks(columns)
        again = builder.icmp_signed("!=", add, ir.Constant(_INDEX, 0))
        end = builder.append_basic_block("tile.end")
        for name, n_columns, only in (
            ("full", VECTORS * vectors.lanes, None),
            ("wide", vectors.lanes + 1, masks),
            ("thin", 0, masks[:1]),
        ):
            here, next_kind = builder.append_basic_block(f"tile.{name}"), builder.append_basic_block("tile.other")
            builder.cbranch(builder.icmp_signed(">=", columns, ir.Constant(_INDEX, n_columns)), here, next_kind)
            builder.position_at_end(here)
            choice = builder.switch(rows, end)
            for n_rows in range(1, ROWS + 1):
                case = builder.append_basic_block(f"tile.{name}.{n_rows}")
                choice.add_case(ir.Constant(_INDEX, n_rows), case)
                builder.position_at_end(case)
                _sums(builder, vectors, n_rows, (x, x_row, x_inner), (w, w_row), n_inner, (y, y_row), again, only)
                builder.branch(end)
            builder.position_at_end(next_kind)
        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, build


tile: Any = intrinsic(_tile)


def _sums(
    builder: Any,
    vectors: _Vectors,
    n_rows: int,
    left: tuple[Any, Any, Any],
    right: tuple[Any, Any],
    n_inner: Any,
    result: tuple[Any, Any],
    again: Any,
    masks: list[Any] | None,
) -> None:
    """The loop over the inner index for one number of rows."""
    (x, x_row, x_inner), (w, w_row), (y, y_row) = left, right, result
    before = builder.block
    old, head, body, after = (builder.append_basic_block(f"tile.{name}") for name in ("old", "head", "body", "after"))

    def row(base: Any, step: Any, i: int) -> Any:
        return builder.gep(base, [builder.mul(step, ir.Constant(_INDEX, i))])

    outputs = [row(y, y_row, i) for i in range(n_rows)]
    builder.cbranch(again, old, head)
    builder.position_at_end(old)
    held = [vectors.load(output, masks) for output in outputs]
    builder.branch(head)

    builder.position_at_end(head)

    def phi(kind: Any, from_before: Any, from_old: Any) -> Any:
        node = builder.phi(kind)
        node.add_incoming(from_before, before)
        node.add_incoming(from_old, old)
        return node

    zero = ir.Constant(_INDEX, 0)
    k, x_k, w_k = phi(_INDEX, zero, zero), phi(x.type, x, x), phi(w.type, w, w)
    sums = [[phi(vectors.type, vectors.zero, value) for value in values] for values in held]
    builder.cbranch(builder.icmp_signed("<", k, n_inner), body, after)

    builder.position_at_end(body)
    factors = vectors.load(w_k, masks)
    for i in range(n_rows):
        number = vectors.splat(builder.load(row(x_k, x_row, i)))
        for total, factor in zip(sums[i], factors, strict=True):
            total.add_incoming(builder.call(vectors.fma, [number, factor, total]), body)
    k.add_incoming(builder.add(k, ir.Constant(_INDEX, 1)), body)
    x_k.add_incoming(builder.gep(x_k, [x_inner]), body)
    w_k.add_incoming(builder.gep(w_k, [w_row]), body)
    builder.branch(head)

    builder.position_at_end(after)
    for values, output in zip(sums, outputs, strict=True):
        vectors.store(values, output, masks)


def _transpose_block(typing_context, v, v_at, v_row, out, out_at, out_row):  # type: ignore[no-untyped-def]
    """out[out_at + i out_row + j] = v[v_at + j v_row + i] for a square as wide as a vector."""
    index = types.intp
    signature = types.void(v, index, index, out, index, index)
    bits = v.dtype.bitwidth

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        real = ir.FloatType() if bits == 32 else ir.DoubleType()
        lanes = 8 * VECTOR_BYTES // bits
        pointer = ir.VectorType(real, lanes).as_pointer()
        numbers = ir.VectorType(_INT, lanes)

        def places(position: int) -> list[Any]:
            base = context.make_array(signature.args[position])(context, builder, args[position]).data
            base = builder.gep(base, [args[position + 1]])
            steps = [builder.mul(args[position + 2], ir.Constant(_INDEX, i)) for i in range(lanes)]
            return [builder.bitcast(builder.gep(base, [step]), pointer) for step in steps]

        rows = [builder.load(place, align=bits // 8) for place in places(0)]
        step = 1
        while step < lanes:  # rows i and i + step exchange the lanes in which their numbers differ
            low = [lane if not lane & step else lanes + lane - step for lane in range(lanes)]
            high = [lane + step if not lane & step else lanes + lane for lane in range(lanes)]
            for i in range(lanes):
                if not i & step:
                    a, b = rows[i], rows[i + step]
                    rows[i] = builder.shuffle_vector(a, b, ir.Constant(numbers, low))
                    rows[i + step] = builder.shuffle_vector(a, b, ir.Constant(numbers, high))
            step *= 2
        for row, place in zip(rows, places(3), strict=True):
            builder.store(row, place, align=bits // 8)
        return context.get_dummy_value()

    return signature, build


transpose_block: Any = intrinsic(_transpose_block)


def _prefetch(typing_context, address):  # type: ignore[no-untyped-def]
    """Ask for the cache line at an address, which will be read soon."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        where = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [where.type, _INT, _INT, _INT])
        declare: Any = cgutils.get_or_insert_function
        hints = [ir.Constant(_INT, hint) for hint in (0, 2, 1)]  # to read; for the second-level cache; data
        builder.call(declare(builder.module, kind, "llvm.prefetch.p0"), [where, *hints])
        return context.get_dummy_value()

    return types.void(types.intp), build


prefetch: Any = intrinsic(_prefetch)
