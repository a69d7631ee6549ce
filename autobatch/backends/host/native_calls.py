"""native calls: compiled functions called by address, those of many launches in one call from Python.

    words    what the functions take, as integers of 64 bits (`array_words`)
    calls    [calls, 3] the address of a function, its first word, and how many there are

A table is a run of calls and of words. Words that differ between launches are given by `changed`, [changed, 4]: word,
variable, factor, and whether another one has changed that word before; the word is what `base` says, plus factor times
variable for each.

Compiled functions take an array of n axes as 5 + 2n words. Those of several lengths are called through one type:
each C calling convention that Numba compiles for passes words in order, and the caller alone removes them, so that a
function does not see those beyond its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...base.jit import CompiledFunction, njit
from ...base.types import Array

_WORD, _STATUS, _BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)

_COUNTS = (16, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of words that are passed: of a function with fewer, as many as the next of these."""

MOST_WORDS = _COUNTS[-1]
"""Words that a function may take, and that must follow the first word of a call in memory."""


def function_address(function: CompiledFunction, arguments: tuple[Any, ...]) -> int:
    """The address of a function compiled for these arguments, Numba's types; it is compiled first where it was not."""
    found: Any = function.overloads.get(arguments)
    if found is None:
        function.compile(arguments)
        found = function.overloads[arguments]
    address: int = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
    return address


def array_words(size: Any, itemsize: int, address: Any, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> list[Any]:
    """The words of an array. The first two would say who owns the memory: nobody, for the time of a call."""
    return [0, 0, size, itemsize, address, *shape, *strides]


_intrinsic: Any = intrinsic


@_intrinsic
def _call(typing_context, address, words, count):  # type: ignore[no-untyped-def]
    """Call the function at an address with `count` words from another on; what it returns is its status."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        function, first, n_words = arguments
        with builder.goto_entry_block():
            result = builder.alloca(_WORD)
            error = builder.alloca(_BYTE.as_pointer())
        at = builder.inttoptr(first, _WORD.as_pointer())
        end = builder.append_basic_block("called")
        statuses = []
        for count in _COUNTS:
            block, more = builder.append_basic_block(f"of_{count}"), builder.append_basic_block("of_more")
            builder.cbranch(builder.icmp_signed("<=", n_words, _WORD(count)), block, more)
            builder.position_at_end(block)
            passed = [_WORD.as_pointer(), _BYTE.as_pointer().as_pointer(), *[_WORD] * count]
            called = builder.inttoptr(function, ir.FunctionType(_STATUS, passed).as_pointer())
            read = [builder.load(builder.gep(at, [_WORD(k)])) for k in range(count)]
            statuses.append((builder.call(called, [result, error, *read]), block))
            builder.branch(end)
            builder.position_at_end(more)
        statuses.append((_STATUS(-1), builder.block))
        builder.branch(end)
        builder.position_at_end(end)
        found = builder.phi(_STATUS)
        for status, block in statuses:
            found.add_incoming(status, block)
        return found

    return types.int32(types.int64, types.int64, types.int64), codegen


_OK, _NONE = 0, -2
"""Statuses of a function that has returned a value, and None."""


@njit(nogil=True, early="2xint32:1 int64:2 2xint64:1 int64:1 int64:2 int64:1 int64:2")
def run_calls(launches, table_of, variables, base, words, changed_of, changed, call_of, calls):  # type: ignore[no-untyped-def]
    """Make the calls of some launches, one launch after the other: -1, or the launch in which one failed.

    Args:
        launches: the numbers of the launches.
        table_of: [all launches] the table of each.
        variables: [all launches, variables] what changes words.
        base, words: [words and MOST_WORDS more] what words are, and room for those of a launch.
        changed_of, changed: first change of each table, and the changes.
        call_of, calls: first call of each table, and the calls.
    """
    for l in launches:
        t = table_of[l]
        for k in range(changed_of[t], changed_of[t + 1]):
            word = changed[k, 0]
            before = words[word] if changed[k, 3] else base[word]
            words[word] = before + changed[k, 2] * variables[l, changed[k, 1]]
        for c in range(call_of[t], call_of[t + 1]):
            status = _call(calls[c, 0], words.ctypes.data + 8 * calls[c, 1], calls[c, 2])
            if status not in (_OK, _NONE):
                return l
    return -1


def as_words(numbers: list[Any]) -> Array:
    """Integers as words."""
    return np.array(numbers, np.int64)
