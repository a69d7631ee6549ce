"""attention: kernels of the two primitives of `ops.attention`.

Input: a node, and the addresses of its operands, which are arrays. Output: kernels. Sums have one block for each query,
or key, and head: its threads make the weights of 256 keys, or queries, at a time, in shared memory, and then each adds
up some columns, in order. The softmax's denominator is made before, by a pass over the keys in which each thread keeps
the largest score so far and the sum relative to it (Milakov & Gimelshein 2018). No array of pairs is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ir.graph import Graph
from ...ops.attention import ATTENTION, KEYS, PAIRS, QUERIES, Sum, parsed
from .reductions import THREADS
from .scalars import INT64, c_type, literal
from .writer import Kernel, Writer

Place = Callable[[int], str]
"""The address of an operand, an expression of the driver."""


def write_attention(graph: Graph, i: int, place: Place, target: str) -> list[tuple[Kernel, bool]]:
    """The kernels of a node, in order; and whether each has a block for every row and head, or else a thread for every
    number."""
    node = graph.nodes[i]
    if node.op is not ATTENTION:
        made = _Writer(graph, parsed(node.inputs, node.attrs), place, target)
        return [(made.pairs(), False)] if node.attrs[6] == PAIRS else [(made.sums(), True)]
    q, k, v, *rest = node.inputs
    biased = node.attrs[3]
    bias, nodes = tuple(rest[:biased]), tuple(rest[biased:])
    s = Sum(q, k, None, bias, (), (), (v,), nodes, node.attrs, QUERIES, True)
    return [(_Writer(graph, s, place, target).denominators(), True), (_Writer(graph, s, place, target).sums(), True)]


class _Writer:
    """Writes one kernel. The operands of `s` are numbers of nodes; without an `lse` it is in the result's last column,
    which `total` leaves alone."""

    def __init__(self, graph: Graph, s: Sum, place: Place, target: str) -> None:
        self.w, self.graph, self.s, self.place = Writer(graph, {}), graph, s, place
        self.dtype = graph.nodes[s.q].type.dtype
        self.kind = c_type(self.dtype)
        self.heads = graph.nodes[s.q].type.shape[1]
        self.y = self.w.pointer(target, self.dtype, True)

    def at(self, x: int, row: str, column: str = "0") -> str:
        """A number of an operand, for head h."""
        _, *rest = self.graph.nodes[x].type.shape
        heads, width = rest if len(rest) > 1 else (rest[0], 1)
        line = f"({row}) * {heads} + h" if heads > 1 else f"({row})"
        return f"{self.w.pointer(self.place(x), self.dtype)}[({line}) * {width} + {column}]"

    def width(self, x: int) -> Any:
        """How many numbers an operand has for a row and head."""
        return self.graph.nodes[x].type.shape[-1]

    def numbers(self, side: int) -> tuple[str, str]:
        """The numbers of the nodes of all queries, keys or pairs, and how many there are."""
        x = self.s.nodes[side]
        return self.w.pointer(self.place(x), INT64), self.w.extent(self.graph.nodes[x].type.shape[0])

    def bounds(self, node: str) -> None:
        """Lines that find the queries, keys and pairs of a node."""
        for side, name in enumerate("ijp"[: len(self.s.nodes)]):
            index, n = self.numbers(side)
            for k in (0, 1):
                self.w.add(f"const i64 {name}{k} = ab_first({index}, {n}, 1, {node} + {k});")

    def score(self) -> None:
        """Lines that make the score of i and j; -inf where i does not attend to j."""
        s, w = self.s, self.w
        _, causal, scale, _ = s.first
        w.add(f"{self.kind} score = 0;")
        w.add(
            f"for (i64 c = 0; c < {self.width(s.q)}; ++c) score += {self.at(s.q, 'i', 'c')} * {self.at(s.k, 'j', 'c')};"
        )
        w.add(f"score *= {literal(scale, self.dtype)};")
        if s.nodes[PAIRS:]:
            w.add("const i64 p = p0 + (i - i0) * (j1 - j0) + j - j0;")
        if s.bias:
            w.add(f"score += {self.at(s.bias[0], 'p')};")
        if causal:
            w.add(f"if (j - j0 > i - i0) score = -({self.kind})AB_INFINITY;")

    def weight(self) -> None:
        """Lines that make the weight of i and j."""
        s, w = self.s, self.w
        self.score()
        width = self.width(s.z[0]) if s.z else 0
        lse = f"{self.y}[(i * {self.heads} + h) * {width + 1} + {width}]" if s.lse is None else self.at(s.lse, "i")
        w.add(f"{self.kind} weight = ab_exp(score - {lse});")
        for x, y in s.products:
            n = self.width(y)
            with w.block(""):
                w.add(f"{self.kind} factor = {self.at(x, 'i', repr(n)) if self.width(x) > n else '0'};")
                w.add(f"for (i64 c = 0; c < {n}; ++c) factor += {self.at(x, 'i', 'c')} * {self.at(y, 'j', 'c')};")
                w.add("weight *= factor;")
        for x in s.given:
            w.add(f"weight *= {self.at(x, 'p')};")

    def start(self, own: str, side: int) -> None:
        """Lines that say which row and head are a block's."""
        w = self.w
        w.add(f"const i64 {own} = ab_div((i64)blockIdx.x, {self.heads}), h = (i64)blockIdx.x - {own} * {self.heads};")
        self.bounds(f"{self.numbers(side)[0]}[{own}]")

    def sums(self) -> Kernel:
        """The kernel of a sum over keys or over queries."""
        s, w = self.s, self.w
        own, other, side = ("i", "j", QUERIES) if s.side == QUERIES else ("j", "i", KEYS)
        width = self.width(s.z[0])
        step = width + s.total
        has_total = s.total and s.lse is not None
        w.add(f"AB_SHARED {self.kind} part[{THREADS}];")
        self.start(own, side)
        columns = f"for (i64 c = threadIdx.x; c < {width + has_total}; c += {THREADS})"
        result = f"{self.y}[({own} * {self.heads} + h) * {step} + c]"
        w.add(f"AB_THREADS {columns} {result} = 0;")
        with w.block(f"for (i64 first = {other}0; first < {other}1; first += {THREADS})"):
            w.add("AB_BARRIER")
            with w.block("AB_THREADS"):
                w.add(f"const i64 {other} = first + threadIdx.x;")
                with w.block(f"if ({other} < {other}1)"):
                    self.weight()
                    w.add("part[threadIdx.x] = weight;")
            w.add("AB_BARRIER")
            w.add(f"const i64 n = {other}1 - first < {THREADS} ? {other}1 - first : {THREADS};")
            with w.block(f"AB_THREADS {columns}"):
                value = self.at(s.z[0], "first + r", "c")
                w.add(f"{self.kind} total = {result};")
                one = f"(c < {width} ? {value} : {self.kind}(1))" if has_total else value
                w.add(f"for (i64 r = 0; r < n; ++r) total += part[r] * {one};")
                w.add(f"{result} = total;")
        return w.finish()

    def denominators(self) -> Kernel:
        """The kernel of the logarithms of the sums of exponentials."""
        s, w, kind = self.s, self.w, self.kind
        width = self.width(s.z[0])
        lowest = f"-({kind})AB_INFINITY"
        w.add(f"AB_SHARED {kind} tops[{THREADS}], sums[{THREADS}];")
        self.start("i", QUERIES)
        with w.block("AB_THREADS"):
            w.add(f"{kind} top = {lowest}, sum = 0;")
            with w.block(f"for (i64 j = j0 + threadIdx.x; j < j1; j += {THREADS})"):
                self.score()
                w.add(f"if (score == {lowest}) continue;")
                w.add(f"const {kind} higher = ab_maximum(top, score);")
                w.add("sum = sum * ab_exp(top - higher) + ab_exp(score - higher);")
                w.add("top = higher;")
            w.add("tops[threadIdx.x] = top;")
            w.add("sums[threadIdx.x] = sum;")
        w.add("AB_BARRIER")
        with w.block(f"for (unsigned half = {THREADS // 2}; half > 0; half /= 2)"):
            with w.block("AB_THREADS if (threadIdx.x < half)"):
                w.add(f"const {kind} a = tops[threadIdx.x], b = tops[threadIdx.x + half], top = ab_maximum(a, b);")
                w.add(f"const {kind} x = a == {lowest} ? 0 : sums[threadIdx.x] * ab_exp(a - top);")
                w.add(f"const {kind} y = b == {lowest} ? 0 : sums[threadIdx.x + half] * ab_exp(b - top);")
                w.add("tops[threadIdx.x] = top;")
                w.add("sums[threadIdx.x] = x + y;")
            w.add("AB_BARRIER")
        result = f"{self.y}[(i * {self.heads} + h) * {width + 1} + {width}]"
        infinite = f"({kind})AB_INFINITY"
        w.add(f"AB_THREADS if (threadIdx.x == 0) {result} = sums[0] == 0 ? {infinite} : tops[0] + ab_log(sums[0]);")
        return w.finish()

    def pairs(self) -> Kernel:
        """The kernel of the weights themselves."""
        w = self.w
        of_pairs, n = self.numbers(PAIRS)
        with w.block(f"AB_THREADS AB_EACH(t, {n} * {self.heads})"):
            w.add(f"const i64 own = ab_div(t, {self.heads}), h = t - own * {self.heads};")
            self.bounds(f"{of_pairs}[own]")
            w.add("const i64 i = i0 + ab_div(own - p0, j1 - j0), j = j0 + (own - p0) - (i - i0) * (j1 - j0);")
            self.weight()
            w.add(f"{self.y}[t] = weight;")
        return w.finish()
