"""Whether `==` was called to look for an object in a container, which goes by identity.

`x in values`, `values.index(x)`, `values.count(x)` and `values.remove(x)` call `__eq__` from C, without a line of
Python in between: the caller's instruction says so. Of a call it is the method that counts, found by going back from
the call over what pushed its arguments.
"""

from __future__ import annotations

import dis
import functools
from types import BuiltinMethodType, CodeType, FrameType

COMPARE = dis.opmap["COMPARE_OP"]
"""The instruction of a plain `a == b`."""

_METHODS = ("index", "count", "remove")
_UNCONDITIONAL = ("JUMP_FORWARD", "JUMP_BACKWARD", "RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")


def looks_for_an_object(frame: FrameType) -> bool:
    """Whether the current instruction of a frame, which is no plain comparison, searches a container."""
    opname, name = _searcher(frame.f_code, frame.f_lasti)
    if not name.isidentifier() and not name.startswith("@"):  # as pytest names what it keeps for its messages
        return opname == "CONTAINS_OP"
    if opname in ("LOAD_METHOD", "LOAD_ATTR"):
        return name in _METHODS
    method = frame.f_locals.get(name, frame.f_globals.get(name))
    return isinstance(method, BuiltinMethodType) and method.__name__ in _METHODS


@functools.lru_cache(4096)
def _searcher(code: CodeType, at: int) -> tuple[str, str]:
    """The instruction at this offset, without a name; of a call the one that pushed what is called, and its name."""
    instructions = list(dis.get_instructions(code))
    k = next(k for k, instruction in enumerate(instructions) if instruction.offset == at)
    if not instructions[k].opname.startswith(("CALL", "PRECALL")):
        return instructions[k].opname, ""
    n_arguments = instructions[k].arg or 0
    if instructions[k - 1].opname == "PRECALL":  # the first half of a call, in Python 3.11
        k -= 1
    jumps = {x.argval: j for j, x in reversed([*enumerate(instructions)]) if x.opcode in dis.hasjrel + dis.hasjabs}
    n_pushed = 0  # by what comes after instruction k
    while k > 0:
        is_joined = instructions[k - 1].opname in _UNCONDITIONAL  # as the second half of `a if c else b`
        before = jumps.get(instructions[k].offset, k) if is_joined else k - 1
        if before >= k:
            break
        k = before
        earlier = instructions[k]
        if isinstance(earlier.argval, tuple):  # two in one, in Python 3.13: the last name is pushed last
            names = earlier.argval[::-1] if earlier.opname == "LOAD_FAST_LOAD_FAST" else earlier.argval[-1:]
            if n_pushed <= n_arguments < n_pushed + len(names):
                return "LOAD_FAST", names[n_arguments - n_pushed]
        if n_pushed == n_arguments and earlier.opname.startswith("LOAD_"):
            return earlier.opname, earlier.argval if isinstance(earlier.argval, str) else ""
        if earlier.opname != "PUSH_NULL" or n_pushed != n_arguments:  # which stands after the function in Python 3.13
            argument = earlier.arg if earlier.opcode >= dis.HAVE_ARGUMENT else None
            n_pushed += dis.stack_effect(earlier.opcode, argument, jump=is_joined)
    return "", ""
