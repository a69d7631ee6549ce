"""resident: one kernel that does the work of many launches, and keeps the right operands of their products on the chip.

Input: the programs of the launches. Output: a `Resident`, whose kernel walks through a table of the calls that the
drivers of the programs made (`backends/cuda/resident.h` says what is in it). A kernel of a program is a function of it,
whose blocks are shared out among those that are there; a product is made by blocks that hold some columns of its right
operand each. Invariants: what a call reads was written before all blocks met; sums go in an order that depends on
extents and on the number of blocks alone. Cost: the text of the programs' kernels, once for each set of programs.

    AB_RESIDENT walk(i64* table) {
        …
            switch (row[0]) {
            case 0: ab_product<float>(…); break;
            case 1: for (i64 b = block; b < row[2]; b += gridDim.x) { call_1({b}, {row[2]}, row[3], …); … } break;
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...backends.cuda import HEADER, RESIDENT
from .lower import CudaProgram
from .products import Weight
from .reductions import THREADS
from .scalars import DType, c_type

NAME = "walk"
"""Of the kernel."""

PRODUCT = 0
"""The code of a product. Arguments: number of the weight, n, a, lead of a, c, lead of c, whether C is added to."""

HEAD, WEIGHT_WORDS, PRODUCT_ARGUMENTS = 3, 7, 7
PARTS = 16 * (THREADS + 1)
"""Numbers in front of the slices."""

ALIGNMENT = 32
GROUPS = 16
"""So many blocks at least share out the columns of a weight, where it has as many quads: the levels that there are many
of have few rows to be shared out."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A kernel that walks.

    source: its text, as it is compiled
    codes: source of a program, name of a kernel → its code in a table
    words: length of a call in a table
    shared: bytes of shared memory that it takes beside what it is given
    dtype: of the products
    """

    source: str
    codes: dict[tuple[str, str], int]
    words: int
    shared: int
    dtype: DType


def write_resident(programs: Sequence[CudaProgram]) -> Resident:
    """The kernel for launches of these programs, which have weights of one dtype."""
    codes: dict[tuple[str, str], int] = {}
    functions: dict[str, int] = {}
    for program in programs:
        for name, text in zip(program.kernels, program.texts, strict=True):
            codes[program.source, name] = functions.setdefault(text, PRODUCT + 1 + len(functions))
    (dtype,) = {weight.dtype for program in programs for weight in program.weights or ()}
    bodies, cases = [], []
    longest = PRODUCT_ARGUMENTS
    for text, code in functions.items():
        types = _types(text)
        longest = max(longest, 1 + len(types))
        bodies.append(_function(text, f"call_{code}"))
        arguments = ", ".join(
            f"row[{k}]" if type == "i64" else f"({type})row[{k}]" for k, type in enumerate(types, start=3)
        )
        call = f"call_{code}(ab_place{{(unsigned)b}}, ab_place{{(unsigned)row[2]}}, {arguments});"
        cases.append(
            f"case {code}: for (i64 b = blockIdx.x; b < row[2]; b += gridDim.x) {{ {call} AB_BARRIER }} break;"
        )
    words = 2 + longest
    walk = _WALK.replace("{T}", c_type(dtype)).replace("{words}", str(words))
    walk = walk.replace("{cases}", "\n        ".join(cases))
    text = "\n".join([*bodies, walk])
    return Resident(
        f"{HEADER}\n{RESIDENT}\n{text}", codes, words, 16 * words + 8 * THREADS * text.count("AB_SHARED"), dtype
    )


def _types(text: str) -> list[str]:
    """The types of the parameters of a kernel."""
    declared = text[text.index("(") + 1 : text.index(")")].replace(" __restrict__", "")
    return [declaration.rpartition(" ")[0] for declaration in declared.split(", ")]


def _function(text: str, name: str) -> str:
    """A kernel as a function of a block: what other blocks write while it is on the chip is no constant to it."""
    head = f"AB_FUNCTION void {name}(const ab_place blockIdx, const ab_place gridDim, "
    return text.replace("AB_KERNEL NAME(", head, 1).replace(" __restrict__", "")


_WALK = """\
AB_RESIDENT walk(i64* table) {
    AB_DYNAMIC(memory)
    AB_SHARED i64 rows[2][{words}];
    const i64 weights = table[1], groups = table[2];
    const i64 group = blockIdx.x % groups, share = blockIdx.x / groups, shares = gridDim.x / groups;
    for (i64 w = 0; w < weights; ++w) {
        const i64* weight = table + 3 + w * AB_WEIGHT;
        ab_keep<{T}>(weight, ({T}*)(memory + weight[6]), group);
    }
    const i64* call = table + 3 + weights * AB_WEIGHT;
    ab_next((u64*)table, false, rows[0], call, {words});
    for (int turn = 0; rows[turn][0] >= 0; turn ^= 1) {
        const i64* row = rows[turn];
        const i64 shift = row[1] >> 1, block = blockIdx.x - shift + (blockIdx.x < shift ? gridDim.x : 0);
        switch (row[0]) {
        case 0: {
            const i64* weight = table + 3 + row[2] * AB_WEIGHT;
            const i64 own = share < shares - shift ? share + shift : share < shares ? share + shift - shares : share;
            ab_product<{T}>(weight, (const {T}*)(memory + weight[6]), ({T}*)memory, group, own, shares, row[3],
                            (const {T}*)row[4], row[5], ({T}*)row[6], row[7], row[8] != 0);
            break;
        }
        {cases}
        }
        call += {words};
        ab_next((u64*)table, row[1] & 1, rows[turn ^ 1], call, {words});
    }
}
"""


@dataclass(frozen=True, slots=True)
class Fit:
    """How weights lie on the chip.

    groups: blocks that share out the columns
    columns, places: of each weight, the columns of a block and where they lie in its shared memory
    n_bytes: of shared memory
    """

    groups: int
    columns: tuple[int, ...]
    places: tuple[int, ...]
    n_bytes: int


def fit(weights: Sequence[Weight], blocks: int, room: int) -> Fit | None:
    """Share out weights of one dtype among blocks with so many bytes of shared memory each; None where they do not fit.

    As few blocks as possible share out the columns, so that each row of a left operand is read by few; but not fewer
    than `GROUPS`, nor than there would be to do as much.
    """
    widest = max(-(-weight.p // 4) for weight in weights)
    for groups in range(min(GROUPS, widest, blocks), blocks + 1):
        if _laid_out(weights, groups).n_bytes <= room:
            return _laid_out(weights, max(groups, min(widest, blocks // (blocks // groups))))
    return None


def _laid_out(weights: Sequence[Weight], groups: int) -> Fit:
    at = PARTS * weights[0].dtype.itemsize
    columns, places = [], []
    for weight in weights:
        quads = -(-weight.p // 4)
        columns.append(4 * -(-quads // groups))
        places.append(at)
        at += -(-weight.k * columns[-1] * weight.dtype.itemsize // ALIGNMENT) * ALIGNMENT
    return Fit(groups, tuple(columns), tuple(places), at)
