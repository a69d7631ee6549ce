"""together: kernels of which one launch does the work of several launches of an original, each with its own arguments.

Input: the kernels of a program. Output: kernels of the same names that take the arguments of each member one behind the
other, and before them the block at which the second, third, … member begins. Invariants: a block belongs to one member
and does what a block of the original does with that member's arguments, so the results are the same bit by bit.
Cost: O(text).

    AB_KERNEL f(i64 m, float* a0) {          AB_KERNEL f(i64 begin_1, i64 m_0, float* a0_0, i64 m_1, float* a0_1) {
        AB_THREADS AB_EACH(t, m)        →        const unsigned member = (blockIdx.x >= begin_1); …
            a0[t] = 0;                           const i64 m = member == 0 ? m_0 : m_1; …
    }                                            AB_THREADS AB_EACH(t, m) a0[t] = 0;
"""

from __future__ import annotations

import functools
import re

from ...backends.cuda import HEADER
from ...errors import CompilerBug

_HEAD = re.compile(r"^AB_KERNEL (\w+)\((.*)\) \{$", re.MULTILINE)


@functools.cache
def together(source: str, count: int) -> str:
    """The source of the same kernels for `count` members in a launch."""
    kernels = source.removeprefix(HEADER)
    if kernels.count("AB_KERNEL") != len(_HEAD.findall(kernels)):
        raise CompilerBug(f"a kernel is not written on lines of its own\n{kernels}")
    return HEADER + _HEAD.sub(lambda match: _head(match[1], match[2].split(", "), count), kernels)


def _head(name: str, declarations: list[str], count: int) -> str:
    """The first lines of a kernel: parameters, and which of them count here."""
    parameters = [declaration.rpartition(" ")[::2] for declaration in declarations if declaration]
    begins = [f"begin_{k}" for k in range(1, count)]
    members = [f"{kind} {own}_{k}" for k in range(count) for kind, own in parameters]
    lines = [f"AB_KERNEL {name}({', '.join([*(f'i64 {begin}' for begin in begins), *members])}) {{"]
    # Local names hide those of CUDA, so that the lines below see the blocks of their member alone.
    lines.append("    struct a_range { unsigned x; };")
    lines.append("    const unsigned this_block = blockIdx.x, all_blocks = gridDim.x;")
    lines.append(f"    const unsigned member = {' + '.join(f'(this_block >= {begin})' for begin in begins)};")
    lines.append(f"    const unsigned first_block = {_chosen(['0', *begins])};")
    lines.append("    const a_range blockIdx = {this_block - first_block};")
    lines.append(f"    const a_range gridDim = {{(unsigned)({_chosen([*begins, 'all_blocks'])}) - first_block}};")
    lines += [f"    {kind} {own} = {_chosen([f'{own}_{k}' for k in range(count)])};" for kind, own in parameters]
    return "\n".join(lines)


def _chosen(values: list[str]) -> str:
    """The value of this block's member."""
    chain = "".join(f"member == {k} ? {value} : " for k, value in enumerate(values[:-1]))
    return f"{chain}{values[-1]}"
