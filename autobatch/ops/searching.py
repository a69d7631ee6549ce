"""Whether `==` was called to look for an object in a container, which goes by identity.

`x in values`, `values.index(x)`, `values.count(x)` and `values.remove(x)` call `__eq__` from C, without a line of
Python in between: the caller's instruction says so. Of a call it is the name of the method that counts, found by going
back from the call over what pushed its arguments.
"""

from __future__ import annotations

import dis
import functools
from types import CodeType

COMPARE = dis.opmap["COMPARE_OP"]
"""The instruction of a plain `a == b`."""

_METHODS = ("index", "count", "remove")
_UNCONDITIONAL = ("JUMP_FORWARD", "JUMP_BACKWARD", "RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")


@functools.lru_cache(4096)
def looks_for_an_object(code: CodeType, at: int) -> bool:
    """Whether the instruction at this offset, which is no plain comparison, searches a container."""
    instructions = list(dis.get_instructions(code))
    k = next(k for k, instruction in enumerate(instructions) if instruction.offset == at)
    opname = instructions[k].opname
    if opname == "CONTAINS_OP":
        return True
    if not opname.startswith(("CALL", "PRECALL")):
        return False
    n_arguments = instructions[k].arg or 0
    if instructions[k - 1].opname == "PRECALL":  # the first half of a call, in Python 3.11
        k -= 1
    jumps = {x.argval: j for j, x in reversed([*enumerate(instructions)]) if x.opcode in dis.hasjrel + dis.hasjabs}
    n_pushed = 0  # by what comes after instruction k
    while k > 0:
        is_joined = instructions[k - 1].opname in _UNCONDITIONAL  # as the second half of `a if c else b`
        before = jumps.get(instructions[k].offset, k) if is_joined else k - 1
        if before >= k:
            return False
        k = before
        earlier = instructions[k]
        if earlier.opname in ("LOAD_METHOD", "LOAD_ATTR") and n_pushed == n_arguments:
            return earlier.argval in _METHODS
        argument = earlier.arg if earlier.opcode >= dis.HAVE_ARGUMENT else None
        n_pushed += dis.stack_effect(earlier.opcode, argument, jump=is_joined)
    return False
