"""Layers that PyTorch does not have, by the formulas of their papers, written in PyTorch for one node, row or edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobatch import nn

from .cases import Case, Shapes

EDGES: dict[int, list[list[int]]] = {
    1: [[], []],
    2: [[0], [1]],
    3: [[0, 1, 2, 0], [1, 0, 1, 2]],
    4: [[3, 1, 2, 0, 1], [0, 2, 0, 1, 1]],
}
"""Of graphs by their number of nodes."""


def formula(
    name: str, make: Callable[[], nn.Module], own: Shapes, ours: Callable[[Any, Any], Any], theirs: Callable[..., Any]
) -> Case:
    """theirs: (torch, parameters by name, operands) → value"""
    return Case(name, make, own, ours, lambda t, p, x: theirs(t, vars(p), x))


def affine(p: dict[str, Any], name: str, x: Any) -> Any:
    y = p[f"{name}.weight"] @ x
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def additive(t: Any, p: Any, x: Any) -> Any:
    scores = [p["v"] @ t.tanh(affine(p, "key", k) + affine(p, "query", x.q)) for k in x.k[: x.n]]
    weights = t.stack(scores).softmax(0)
    return [sum(w * k for w, k in zip(weights, x.k, strict=False)), t.stack(scores)]


def biaffine(t: Any, p: Any, x: Any) -> Any:
    one = t.ones(1)
    return t.stack(
        [
            t.stack([t.stack([t.cat([a, one]) @ w @ t.cat([b, one]) for b in x.y]) for a in x.x[: x.n]])
            for w in p["weight"]
        ]
    )


def highway(t: Any, p: Any, x: Any) -> Any:
    gate = t.sigmoid(affine(p, "gate", x.x))
    return gate * t.relu(affine(p, "transform", x.x)) + (1 - gate) * x.x


def rotary(t: Any, p: Any, x: Any) -> Any:
    rows = []
    for at, row in enumerate(x.x[: x.n]):
        z = t.view_as_complex(row.reshape(2, 2).contiguous()) * t.polar(t.ones(2), at * t.tensor([1.0, 0.01]))
        rows.append(t.view_as_real(z).reshape(4))
    return t.stack(rows)


# Trees.


def nary_lstm(t: Any, p: Any, x: Any) -> Any:
    def node(word: Any, children: list[Any]) -> Any:
        i, f, g, o = (p["weight_ih"] @ word + p["bias_ih"]).chunk(4)
        zero = t.zeros(4)
        h = t.cat([child[0] if child else zero for child in children])
        ui, ug, uo, *gates = (p["weight_hh"] @ h).chunk(5)
        c = t.sigmoid(i + ui) * t.tanh(g + ug)
        c = c + sum(t.sigmoid(f + u) * (child[1] if child else zero) for u, child in zip(gates, children, strict=True))
        return t.sigmoid(o + uo) * t.tanh(c), c

    return nary_tree(node, x)


def nary_tree(node: Any, x: Any) -> Any:
    leaf = node(x.x[0], [None, None])
    return leaf if x.n == 1 else node(x.x[1], [leaf, None] if x.n == 2 else [node(x.x[2], [None, leaf]), leaf])


def nary_gru(t: Any, p: Any, x: Any) -> Any:
    def node(word: Any, children: list[Any]) -> Any:
        r, z, n = (p["weight_ih"] @ word + p["bias_ih"]).chunk(3)
        hs = [t.zeros(4) if h is None else h for h in children]
        ur, uz = (p["weight_hh"] @ t.cat(hs)).chunk(2)
        r, z = t.sigmoid(r + ur), t.sigmoid(z + uz)
        return (1 - z) * t.tanh(n + p["weight_nh"] @ t.cat([r * h for h in hs])) + z * sum(hs)

    return nary_tree(node, x)


def child_sum_gru(t: Any, p: Any, x: Any) -> Any:
    u_r, u_z, u_n = p["weight_hh"].chunk(3)

    def node(word: Any, children: list[Any]) -> Any:
        r, z, n = (p["weight_ih"] @ word + p["bias_ih"]).chunk(3)
        total = sum(children, t.zeros(4))
        z = t.sigmoid(z + u_z @ total)
        kept = sum((t.sigmoid(r + u_r @ h) * h for h in children), t.zeros(4))
        return (1 - z) * t.tanh(n + u_n @ kept) + z * total

    return flat_tree(node, x)


def flat_tree(node: Any, x: Any) -> Any:
    return node(x.x[3], [node(row, []) for row in x.x[: x.n - 1]])


def matrix_vector(t: Any, p: Any, x: Any) -> Any:
    def node(left: Any, right: Any) -> Any:
        vector = t.tanh(p["weight"] @ t.cat([right[1] @ left[0], left[1] @ right[0]]) + p["bias"])
        return vector, p["weight_m"] @ t.cat([left[1], right[1]])

    return node(node((x.a, x.A), (x.b, x.B)), (x.a, x.B))


def tensor_network(t: Any, p: Any, x: Any) -> Any:
    both = t.cat([x.a, x.b])
    return t.tanh(t.stack([both @ v @ both for v in p["tensor"]]) + p["weight"] @ both + p["bias"])


def lattice(t: Any, p: Any, x: Any) -> Any:
    states: list[Any] = []
    for e, char in enumerate(x.x):
        h, c = states[-1] if states else (t.zeros(4), t.zeros(4))
        z = p["cell.weight_ih"] @ char + p["cell.bias_ih"] + p["cell.weight_hh"] @ h + p["cell.bias_hh"]
        i, f, g, o = z.chunk(4)
        cells = []
        for k, (b, last) in enumerate(WORDS[: x.n]):
            if last == e:
                wi, wf, wg = affine(p, "word", t.cat([x.w[k], states[b][0]])).chunk(3)
                cells.append(t.sigmoid(wf) * states[b][1] + t.sigmoid(wi) * t.tanh(wg))
        if cells:
            gates = [t.sigmoid(i), *(t.sigmoid(affine(p, "link", t.cat([char, cell]))) for cell in cells)]
            shares = t.stack(gates).softmax(0)
            c = shares[0] * t.tanh(g) + sum(s * cell for s, cell in zip(shares[1:], cells, strict=True))
        else:
            c = t.sigmoid(f) * c + t.sigmoid(i) * t.tanh(g)
        states.append((t.sigmoid(o) * t.tanh(c), c))
    return t.stack([h for h, _ in states])


WORDS = [(0, 2), (1, 2), (2, 3), (0, 3)]
PARSES = {1: "s", 2: "ssr", 3: "ssrsr", 4: "ssssrrr"}


def parse(x: Any) -> list[str]:
    return [{"s": "shift", "r": "reduce"}[letter] for letter in PARSES[x.n]]


def spinn(t: Any, p: Any, x: Any) -> Any:
    lstm = t.nn.LSTMCell(12, 2)
    own = {name.removeprefix("tracker."): value for name, value in p.items() if name.startswith("tracker.")}
    words = [(t.tanh(h), c) for h, c in (affine(p, "leaf", row).chunk(2) for row in x.x[: x.n])]
    stack: list[Any] = []
    tracked = None
    for letter in PARSES[x.n]:
        tops = [words[0][0] if words else p["nothing"], *(s[0] for s in stack[:-3:-1])]
        seen = t.cat([*tops, *[p["nothing"]] * (3 - len(tops))])
        tracked = t.func.functional_call(lstm, own, (seen, tracked))
        if letter == "s":
            stack.append(words.pop(0))
        else:
            (h2, c2), (h1, c1) = stack.pop(), stack.pop()
            i, f1, f2, g, o = affine(p, "reduce", t.cat([h1, h2, tracked[0]])).chunk(5)
            c = t.sigmoid(f1) * c1 + t.sigmoid(f2) * c2 + t.sigmoid(i) * t.tanh(g)
            stack.append((t.sigmoid(o) * t.tanh(c), c))
    return list(stack[0])


# Graphs.


def heard(n: int, loops: bool) -> list[list[int]]:
    """The sources of the edges to each node."""
    sources, targets = EDGES[n]
    return [[s for s, to in zip(sources, targets, strict=True) if to == i] + [i] * loops for i in range(n)]


def graph_conv(t: Any, p: Any, x: Any) -> Any:
    near = heard(x.n, True)
    return t.stack(
        [
            p["weight"] @ sum(x.x[j] / (len(near[i]) * len(near[j])) ** 0.5 for j in near[i]) + p["bias"]
            for i in range(x.n)
        ]
    )


def isomorphism(t: Any, p: Any, x: Any) -> Any:
    near = heard(x.n, False)
    return t.stack([affine(p, "mlp", (1 + p["eps"]) * x.x[i] + sum(x.x[j] for j in near[i])) for i in range(x.n)])


def gated(t: Any, p: Any, x: Any) -> Any:
    cell, states = t.nn.GRUCell(3, 3), list(x.x[: x.n])
    own = {name.removeprefix("cell."): value for name, value in p.items() if name.startswith("cell.")}
    for _ in range(2):
        sums = [sum((p["linear.weight"] @ states[j] for j in js), t.zeros(3)) for js in heard(x.n, False)]
        states = [t.func.functional_call(cell, own, (s, h)) for s, h in zip(sums, states, strict=True)]
    return t.stack(states)


def graph_attention(t: Any, p: Any, x: Any) -> Any:
    h = [(p["weight"] @ row).reshape(2, 2) for row in x.x[: x.n]]
    rows = []
    for i, near in enumerate(heard(x.n, True)):
        scores = [((p["att_src"] * h[j]).sum(-1) + (p["att_dst"] * h[i]).sum(-1)) for j in near]
        shares = t.nn.functional.leaky_relu(t.stack(scores), 0.2).softmax(0)
        y = sum(a[:, None] * h[j] for a, j in zip(shares, near, strict=True))
        rows.append((y.mean(0) if p["bias"].shape == (2,) else y.reshape(-1)) + p["bias"])
    return t.stack(rows)


def continuous(t: Any, p: Any, x: Any) -> Any:
    def soft(y: Any) -> Any:
        return t.nn.functional.softplus(y) - t.log(t.tensor(2.0))

    sums = [t.zeros(2) for _ in range(x.n)]
    for e, (j, i) in enumerate(zip(*EDGES[x.n], strict=True)):
        basis = t.exp(-((x.r[e] - t.linspace(0, 4, 5)) ** 2) / 2)
        sums[i] = sums[i] + affine(p, "in_map", x.x[j]) * soft(affine(p, "filter2", soft(affine(p, "filter1", basis))))
    return t.stack([x.x[i] + affine(p, "out2", soft(affine(p, "out1", s))) for i, s in enumerate(sums)])


def on_graph(m: Any, x: Any, *more: Any) -> Any:
    return m(x.x[: x.n], EDGES[x.n], *more)


FORMULAS = [
    formula(
        "additive attention", lambda: nn.AdditiveAttention(3, 2, 4), {"q": (3,), "k": (4, 2)},
        lambda m, x: [m(x.q, x.k[: x.n]), m.scores(x.q, x.k[: x.n])], additive,
    ),
    formula(
        "biaffine", lambda: nn.Biaffine(2, 3, 2), {"x": (4, 2), "y": (3, 3)},
        lambda m, x: m(x.x[: x.n], x.y), biaffine,
    ),
    formula("highway", lambda: nn.Highway(4), {"x": (4,)}, lambda m, x: m(x.x), highway),
    formula("rotary encoding", lambda: nn.RotaryEncoding(4), {"x": (4, 4)}, lambda m, x: m(x.x[: x.n]), rotary),
    formula(
        "N-ary Tree-LSTM", lambda: nn.NaryTreeLSTMCell(3, 4, 2), {"x": (4, 3)}, lambda m, x: nary_tree(m, x), nary_lstm
    ),
    formula(
        "N-ary Tree-GRU", lambda: nn.NaryTreeGRUCell(3, 4, 2), {"x": (4, 3)}, lambda m, x: nary_tree(m, x), nary_gru
    ),
    formula(
        "child-sum Tree-GRU", lambda: nn.ChildSumTreeGRUCell(3, 4), {"x": (4, 3)},
        lambda m, x: flat_tree(m, x), child_sum_gru,
    ),
    formula(
        "matrix-vector node", lambda: nn.MVRNNCell(3), {"a": (3,), "b": (3,), "A": (3, 3), "B": (3, 3)},
        lambda m, x: m(m((x.a, x.A), (x.b, x.B)), (x.a, x.B)), matrix_vector,
    ),
    formula(
        "tensor network", lambda: nn.RNTNCell(3), {"a": (3,), "b": (3,)}, lambda m, x: m(x.a, x.b), tensor_network
    ),
    formula(
        "lattice LSTM", lambda: nn.LatticeLSTM(3, 2, 4), {"x": (4, 3), "w": (4, 2)},
        lambda m, x: m(x.x, [(*ends, x.w[k]) for k, ends in enumerate(WORDS[: x.n])]), lattice,
    ),
    formula(
        "SPINN", lambda: nn.SPINN(3, 4, 2), {"x": (4, 3)}, lambda m, x: m(x.x[: x.n], parse(x)), spinn
    ),
    formula("graph convolution", lambda: nn.GraphConv(3, 2), {"x": (4, 3)}, on_graph, graph_conv),
    formula(
        "graph isomorphism", lambda: nn.GIN(nn.Linear(3, 2), train_eps=True), {"x": (4, 3)}, on_graph, isomorphism
    ),
    formula("gated graph", lambda: nn.GatedGraph(3, 2), {"x": (4, 3)}, on_graph, gated),
    formula("graph attention", lambda: nn.GAT(3, 2, 2), {"x": (4, 3)}, on_graph, graph_attention),
    formula(
        "graph attention, mean", lambda: nn.GAT(3, 2, 2, concat=False), {"x": (4, 3)}, on_graph, graph_attention
    ),
    formula(
        "continuous filters", lambda: nn.CFConv(3, 2, 5, 4.0), {"x": (4, 3), "r": (5,)},
        lambda m, x: on_graph(m, x, x.r[: len(EDGES[x.n][0])]), continuous,
    ),
]  # fmt: skip
