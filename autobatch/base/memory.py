"""What compiled loops read and copy by address: 64-bit words, and bytes."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic


def _load(typing_context, address):  # type: ignore[no-untyped-def]
    """The 64 bits at an address."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kind = context.get_value_type(types.int64)
        return builder.load(builder.inttoptr(args[0], kind.as_pointer()))

    return types.int64(types.int64), build


def _copy(typing_context, to, source, n_bytes):  # type: ignore[no-untyped-def]
    """Copy bytes from one address to another; they do not overlap."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = context.get_value_type(types.uint8).as_pointer()
        to, source = (builder.inttoptr(address, pointer) for address in args[:2])
        copy: Any = cgutils.raw_memcpy
        copy(builder, to, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), build


word: Any = intrinsic(_load)
copy_bytes: Any = intrinsic(_copy)
