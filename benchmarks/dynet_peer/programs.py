"""The models of the benchmarks as a user of DyNet writes them: for one example, batching left to DyNet.

Runs in DyNet's environment: imports DyNet and NumPy alone. Examples are those of plain.py, parameters those of the
workloads. Of several ways to write a model the fastest was taken; comments say what it was measured against.
"""

from __future__ import annotations

from typing import Any

import dynet as dy
import numpy as np
from training import Program, Weights


class TreeLSTM(Program):
    """Binary Tree-LSTM. Each gate has its own parameters: one product for all gates, sliced, took 5 % longer."""

    def build(self, w: Weights, dim: int) -> None:
        left, right = slice(0, dim), slice(dim, 2 * dim)
        self.table = w.table("table")
        self.leaf = [list(each) for each in zip(w.gates("leaf_b", 3), w.gates("leaf_w", 3), strict=True)]
        node_w = w.gates("node_w", 3, left), w.gates("node_w", 3, right)
        self.node = list(zip(w.gates("node_b", 3), *node_w, strict=True))
        self.forget_left, self.forget_right = w("forget_l"), w("forget_r")
        self.forget_b, self.out_w, self.out_b = w("forget_b"), w("out_w"), w("out_b")

    def word(self, index: int) -> tuple[Any, Any]:
        e = self.table[index]
        i, o, u = (dy.affine_transform([b, w, e]) for b, w in self.leaf)
        c = dy.cmult(dy.logistic(i), dy.tanh(u))
        return dy.cmult(dy.logistic(o), dy.tanh(c)), c

    def compose(self, left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[Any, Any]:
        (h1, c1), (h2, c2) = left, right
        i, o, u = (dy.affine_transform([b, w1, h1, w2, h2]) for b, w1, w2 in self.node)
        f1 = dy.logistic(dy.affine_transform([self.forget_b, self.forget_left, h1]))
        f2 = dy.logistic(dy.affine_transform([self.forget_b, self.forget_right, h2]))
        c = dy.esum([dy.cmult(dy.logistic(i), dy.tanh(u)), dy.cmult(f1, c1), dy.cmult(f2, c2)])
        return dy.cmult(dy.logistic(o), dy.tanh(c)), c

    def states(self, nodes: list[tuple[int, int, int, int]]) -> list[tuple[Any, Any]]:
        states: list[tuple[Any, Any]] = []
        for left, right, word, _ in nodes:
            states.append(self.word(word) if left < 0 else self.compose(states[left], states[right]))
        return states

    def node_loss(self, h: Any, label: int) -> Any:
        return dy.pickneglogsoftmax(dy.affine_transform([self.out_b, self.out_w, h]), label)

    def losses(self, example: Any) -> list[Any]:
        return [self.node_loss(self.states(example)[-1][0], example[-1][3])]


class TreeLSTMNodes(TreeLSTM):
    """The same with a loss on every node."""

    def losses(self, example: Any) -> list[Any]:
        return [self.node_loss(h, node[3]) for (h, _), node in zip(self.states(example), example, strict=True)]


class ChildSumTreeLSTM(Program):
    """Child-sum Tree-LSTM. The word's products of all gates in launches of their own took 5 % longer."""

    def build(self, w: Weights, dim: int) -> None:
        self.table, self.out_w, self.out_b = w.table("table"), w("out_w"), w("out_b")
        self.gates = list(zip(w.gates("word_b", 3), w.gates("word_w", 3), w.gates("children_w", 3), strict=True))
        self.keep_w, self.keep_b, self.child_w = w("keep_w"), w("keep_b"), w("child_w")

    def state(self, e: Any, children: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        if not children:
            i, o, u = (dy.affine_transform([b, w, e]) for b, w, _ in self.gates)
            c = dy.cmult(dy.logistic(i), dy.tanh(u))
        else:
            h_sum = dy.esum([h for h, _ in children])
            i, o, u = (dy.affine_transform([b, w1, e, w2, h_sum]) for b, w1, w2 in self.gates)
            f = dy.affine_transform([self.keep_b, self.keep_w, e])
            kept = [dy.cmult(dy.logistic(f + self.child_w * h), c) for h, c in children]
            c = dy.esum([dy.cmult(dy.logistic(i), dy.tanh(u)), *kept])
        return dy.cmult(dy.logistic(o), dy.tanh(c)), c

    def losses(self, example: Any) -> list[Any]:
        nodes, label = example
        states: list[tuple[Any, Any]] = []
        for children, word in nodes:
            states.append(self.state(self.table[word], [states[child] for child in children]))
        h, _ = states[-1]
        return [dy.pickneglogsoftmax(dy.affine_transform([self.out_b, self.out_w, h]), label)]


class TreeFC(Program):
    """An affine map and a ReLU at each inner node of a complete tree. Concatenating the children took 30 % longer."""

    def build(self, w: Weights, dim: int) -> None:
        self.table, self.out_w, self.out_b = w.table("table"), w("out_w"), w("out_b")
        self.left, self.right = w("node_w", np.s_[:, :dim]), w("node_w", np.s_[:, dim:])
        self.node_b = w("node_b")

    def losses(self, example: Any) -> list[Any]:
        words, label = example
        level = [self.table[word] for word in words]
        while len(level) > 1:
            level = [
                dy.rectify(dy.affine_transform([self.node_b, self.left, h1, self.right, h2]))
                for h1, h2 in zip(level[::2], level[1::2], strict=True)
            ]
        return [dy.pickneglogsoftmax(dy.affine_transform([self.out_b, self.out_w, level[0]]), label)]


class MVRNN(Program):
    """A vector and a matrix at each node; the root's matrix is not needed. Concatenating took 20 % longer.

    Products of a node's own matrix with a vector are not batched: DyNet batches products that share their matrix.
    """

    def build(self, w: Weights, dim: int) -> None:
        left, right = np.s_[:, :dim], np.s_[:, dim:]
        self.vectors, self.matrices = w.table("vectors"), w.table("matrices")
        self.node_l, self.node_r, self.node_b = w("node_w", left), w("node_w", right), w("node_b")
        self.pair_l, self.pair_r = w("pair_w", left), w("pair_w", right)
        self.out_w, self.out_b = w("out_w"), w("out_b")

    def losses(self, example: Any) -> list[Any]:
        vectors: list[Any] = []
        matrices: list[Any] = []
        root = len(example) - 1
        for place, (left, right, word, _) in enumerate(example):
            if left < 0:
                vectors.append(self.vectors[word])
                matrices.append(self.matrices[word] if place < root else None)
                continue
            on_left, on_right = matrices[right] * vectors[left], matrices[left] * vectors[right]
            vector = dy.affine_transform([self.node_b, self.node_l, on_left, self.node_r, on_right])
            vectors.append(dy.tanh(vector))
            pair = self.pair_l * matrices[left] + self.pair_r * matrices[right] if place < root else None
            matrices.append(pair)
        logits = dy.affine_transform([self.out_b, self.out_w, vectors[-1]])
        return [dy.pickneglogsoftmax(logits, example[-1][3])]


class LSTM:
    """DyNet's own LSTM, three ops a step: at widths up to 128 a third faster than op by op, at 256 as fast.

    Its gates stand in the order i, f, o, g, ours in the order i, f, g, o; and it adds 1 to the bias of f by itself.
    """

    def __init__(self, w: Weights, name: str) -> None:
        i, f, g, o = np.split(np.arange(len(w.arrays[f"{name}_b"])), 4)
        rows = np.concatenate([i, f, o, g])
        self.ih, self.hh = w(f"{name}_ih", rows), w(f"{name}_hh", rows)
        self.b = w(f"{name}_b", rows, shift=np.where(np.isin(rows, f), -1, 0))

    def __call__(self, xs: Any, zeros: Any) -> list[Any]:
        """The hidden state after each of xs, of which there is at least one."""
        h = c = zeros
        states = []
        for x in xs:
            gates = dy.vanilla_lstm_gates(x, h, self.ih, self.hh, self.b)
            c = dy.vanilla_lstm_c(c, gates)
            h = dy.vanilla_lstm_h(c, gates)
            states.append(h)
        return states


class Tagger(Program):
    """BiLSTM tagger."""

    def build(self, w: Weights, dim: int) -> None:
        self.table, self.hidden_w, self.out_w = w.table("table"), w("hidden_w"), w("out_w")
        self.forward, self.backward = LSTM(w, "forward"), LSTM(w, "backward")

    def begin(self) -> None:
        self.zeros = dy.zeros((self.dim,))

    def vector(self, word: Any) -> Any:
        return self.table[word]

    def losses(self, example: Any) -> list[Any]:
        words, tags = example
        xs = [self.vector(word) for word in words]
        before, after = self.forward(xs, self.zeros), self.backward(reversed(xs), self.zeros)
        losses = []
        for h1, h2, tag in zip(before, reversed(after), tags, strict=True):
            hidden = dy.tanh(self.hidden_w * dy.concatenate([h1, h2]))
            losses.append(dy.pickneglogsoftmax(self.out_w * hidden, tag))
        return losses


class CharacterTagger(Tagger):
    """BiLSTM tagger; a rare word is the list of its letters."""

    def build(self, w: Weights, dim: int) -> None:
        super().build(w, dim)
        self.letters = w.table("letter_table")
        self.letters_forward, self.letters_backward = LSTM(w, "letters_forward"), LSTM(w, "letters_backward")
        self.letter_dim = w.arrays["letters_forward_hh"].shape[1]

    def begin(self) -> None:
        super().begin()
        self.letter_zeros = dy.zeros((self.letter_dim,))
        self.any_spelled = False

    def end(self) -> None:
        # As in the other programs, parameters that took no part rest; DyNet would let their momentum move them.
        for lstm in (self.letters_forward, self.letters_backward):
            for parameter in (lstm.ih, lstm.hh, lstm.b):
                parameter.set_updated(self.any_spelled)

    def vector(self, word: Any) -> Any:
        if isinstance(word, int):
            return self.table[word]
        self.any_spelled = True
        xs = [self.letters[letter] for letter in word]
        before, after = self.letters_forward(xs, self.letter_zeros), self.letters_backward(xs[::-1], self.letter_zeros)
        return dy.concatenate([before[-1], after[-1]])


class LanguageModel(Program):
    """LSTM language model. An example is the words that are predicted, and what stands before each."""

    def build(self, w: Weights, dim: int) -> None:
        self.table, self.out_w, self.out_b = w.table("table"), w("out_w"), w("out_b")
        self.lstm = LSTM(w, "lstm")

    def begin(self) -> None:
        self.zeros = dy.zeros((self.dim,))

    def losses(self, example: Any) -> list[Any]:
        words, before = example
        states = self.lstm([self.table[word] for word in before], self.zeros)
        return [
            dy.pickneglogsoftmax(dy.affine_transform([self.out_b, self.out_w, h]), word)
            for h, word in zip(states, words, strict=True)
        ]


class LatticeLSTM(Program):
    """Lattice LSTM. DyNet does not batch the division; by exp and log, which it does, it took as long."""

    def build(self, w: Weights, dim: int) -> None:
        self.char_table, self.word_table = w.table("char_table"), w.table("word_table")
        self.char = list(zip(w.gates("char_b", 3), w.gates("char_w", 3), w.gates("char_h", 3), strict=True))
        self.word = list(zip(w.gates("word_b", 3), w.gates("word_w", 3), w.gates("word_h", 3), strict=True))
        self.link_w, self.link_b, self.link_c = w("link_w"), w("link_b"), w("link_c")
        self.out_w, self.out_b = w("out_w"), w("out_b")

    def begin(self) -> None:
        self.zeros = dy.zeros((self.dim,))

    def word_cell(self, word: int, h: Any, c: Any) -> Any:
        d = self.word_table[word]
        i, f, u = (dy.affine_transform([b, w, d, v, h]) for b, w, v in self.word)
        return dy.cmult(dy.logistic(f), c) + dy.cmult(dy.logistic(i), dy.tanh(u))

    def state(self, e: Any, h: Any, c: Any, words: list[Any]) -> tuple[Any, Any]:
        i, o, u = (dy.affine_transform([b, w, e, v, h]) for b, w, v in self.char)
        i, u = dy.logistic(i), dy.tanh(u)
        if words:
            own = dy.exp(i)
            links = [dy.affine_transform([self.link_b, self.link_w, e, self.link_c, word]) for word in words]
            shares = [dy.exp(dy.logistic(link)) for link in links]
            mixed = [dy.cmult(share, word) for share, word in zip(shares, words, strict=True)]
            c = dy.cdiv(dy.esum([dy.cmult(own, u), *mixed]), dy.esum([own, *shares]))
        else:
            c = c + dy.cmult(i, u - c)
        return dy.cmult(dy.logistic(o), dy.tanh(c)), c

    def losses(self, example: Any) -> list[Any]:
        h = c = self.zeros
        states: list[tuple[Any, Any]] = []
        losses = []
        for number, words, tag in zip(*example, strict=True):
            cells = [self.word_cell(word, *states[start]) for word, start in words]
            h, c = self.state(self.char_table[number], h, c, cells)
            states.append((h, c))
            losses.append(dy.pickneglogsoftmax(dy.affine_transform([self.out_b, self.out_w, h]), tag))
        return losses


class MLP(Program):
    """Three layers. The vectors are rows of a table that is not trained: given step by step they took twice as long."""

    def build(self, w: Weights, dim: int) -> None:
        self.layers = [(w(f"b{k}"), w(f"w{k}")) for k in (1, 2, 3)]
        self.fixed = dy.ParameterCollection()
        self.vectors = self.fixed.lookup_parameters_from_numpy(np.array([vector for vector, _ in self.examples]))
        self.examples = [(index, label) for index, (_, label) in enumerate(self.examples)]

    def losses(self, example: Any) -> list[Any]:
        index, label = example
        (b1, w1), (b2, w2), (b3, w3) = self.layers
        h = dy.tanh(dy.affine_transform([b1, w1, dy.lookup(self.vectors, index, update=False)]))
        h = dy.tanh(dy.affine_transform([b2, w2, h]))
        return [dy.pickneglogsoftmax(dy.affine_transform([b3, w3, h]), label)]


PROGRAMS = {
    "treelstm": TreeLSTM,
    "treelstm_nodes": TreeLSTMNodes,
    "bilstm": Tagger,
    "tagger_chars": CharacterTagger,
    "lm": LanguageModel,
    "mvrnn": MVRNN,
    "childsum": ChildSumTreeLSTM,
    "lattice": LatticeLSTM,
    "treefc": TreeFC,
    "mlp": MLP,
}


def make(workload: str, arrays: dict[str, np.ndarray], dim: int, examples: list[Any]) -> Program:
    """The program of this workload."""
    return PROGRAMS[workload](arrays, dim, examples)
