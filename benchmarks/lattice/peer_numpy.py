"""Lattice LSTM training step by hand in plain NumPy: all sentences advance together, position by position.

What makes it fast:

* what depends on characters and words alone is one product for all of them, before the recurrence; logits and weight
  gradients are one product after it;
* a word's share of the mixture depends on its last character only through that character's vector, which is known from
  the start: cell and share are computed where the word begins, at the width of all words that begin there, and added to
  two sums at its end;
* the states of a position are one block of rows, and the sentences that go on its first rows: no gathers in the chain;
* forward products read copies of the weights transposed once per step; sigmoid is tanh of half the argument, the half
  is in the copies: one tanh serves all gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from benchmarks.adam import Adam, Rows, merged_rows
from benchmarks.lattice.data import EMBEDDING, N_TAGS, Lattice
from benchmarks.lattice.time_plan import Step, TimePlan, plan_time
from benchmarks.workload import Parameters

_TABLES = ("char_table", "word_table")


class NumpyLatticeLSTM:
    """One training program; see `benchmarks.workload.Trainer`.

    Values by character: `gates` (i, o, u), `h`, `c`, `tanh_c`, and where words end `mix` and `total`, the two sums over
    them, own candidate included once its state is computed. Values by word: `word_gates` (i, f, u), `cells`, `links`
    (the argument's sigmoid) and `shares`. Gradients begin with `d_`.
    """

    name = "numpy"

    def __init__(self, parameters: Parameters) -> None:
        self.adam = Adam(parameters, tables=_TABLES)
        self.dim = parameters["out_w"].shape[1]
        self.memory: dict[str, np.ndarray] = {}

    def step(self, examples: Sequence[Lattice]) -> float:
        """One training step. Returns the summed loss before the update."""
        plan = plan_time(examples)
        loss = self._forward(plan)
        self.adam.step(self._reverse(plan))
        return loss

    def loss_and_gradients(self, examples: Sequence[Lattice]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients; nothing is updated."""
        plan = plan_time(examples)
        loss = self._forward(plan)
        tables = {}
        for name, (rows, row_gradients) in self._reverse(plan).items():
            tables[name] = np.zeros_like(self.adam.weights[name])
            tables[name][rows] = row_gradients
        return loss, tables | {name: gradient.copy() for name, gradient in self.adam.gradients.items()}

    def _room(self, name: str, n_rows: int, width: int) -> np.ndarray:
        """Memory kept from step to step; its content is whatever was there."""
        if len(self.memory.get(name, ())) < n_rows:
            self.memory[name] = np.empty((n_rows + n_rows // 4, width), np.float32)
        return self.memory[name][:n_rows]

    def _make_room(self, plan: TimePlan) -> None:
        dim, n_characters, n_words = self.dim, len(plan.characters), len(plan.words)
        self.e, self.d = (self._room(name, n, EMBEDDING) for name, n in (("e", n_characters), ("d", n_words)))
        self.gates, self.d_gates = (self._room(name, n_characters, 3 * dim) for name in ("gates", "d_gates"))
        self.h, self.c, self.tanh_c, self.mix, self.total, self.dh, self.dc = (
            self._room(name, n_characters, dim) for name in ("h", "c", "tanh_c", "mix", "total", "dh", "dc")
        )
        self.word_gates, self.d_word_gates = (self._room(name, n_words, 3 * dim) for name in ("words", "d_words"))
        self.cells, self.links, self.shares, self.d_links, self.begin_h, self.begin_c = (
            self._room(name, n_words, dim) for name in ("cells", "links", "shares", "d_links", "begin_h", "begin_c")
        )

    # --- forward ------------------------------------------------------------------------------------------------------

    def _forward(self, plan: TimePlan) -> float:
        w, dim = self.adam.weights, self.dim
        self._make_room(plan)
        half = np.repeat(np.array([0.5, 0.5, 1.0], np.float32), dim)  # sigmoid from tanh: the first two gates
        char_h, word_h = _transposed(w["char_h"], half), _transposed(w["word_h"], half)
        link_c = _transposed(w["link_c"], half[:dim])
        np.take(w["char_table"], plan.characters, axis=0, out=self.e, mode="clip")
        np.take(w["word_table"], plan.words, axis=0, out=self.d, mode="clip")
        np.matmul(self.e, _transposed(w["char_w"], half), out=self.gates)
        self.gates += w["char_b"] * half
        np.matmul(self.d, _transposed(w["word_w"], half), out=self.word_gates)
        self.word_gates += w["word_b"] * half
        self.merging = np.concatenate([step.first + step.merging for step in plan.steps])
        links = self.e[self.merging] @ _transposed(w["link_w"], half[:dim])
        links += w["link_b"] * half[:dim]
        self.link_of = np.empty(len(plan.characters), np.int64)
        self.link_of[self.merging] = np.arange(len(self.merging))
        np.take(links, self.link_of[plan.ends], axis=0, out=self.links, mode="clip")
        self.mix[self.merging] = 0.0
        self.total[self.merging] = 0.0

        before: Step | None = None
        for step in plan.steps:
            self._characters(step, before, char_h)
            self._words(plan, step, word_h, link_c)
            before = step
        return self._loss(plan)

    def _characters(self, step: Step, before: Step | None, char_h: np.ndarray) -> None:
        """The states of one position."""
        dim, first, last = self.dim, step.first, step.last
        gate, c = self.gates[first:last], self.c[first:last]
        n = last - first
        if before is not None:
            gate += np.matmul(self.h[before.first : before.first + n], char_h, out=self._room("past", n, 3 * dim))
        np.tanh(gate, out=gate)
        _sigmoid_from_tanh(gate[:, : 2 * dim])
        i, o, u = gate[:, :dim], gate[:, dim : 2 * dim], gate[:, 2 * dim :]
        if before is None:
            np.multiply(i, u, out=c)
        else:
            c_before = self.c[before.first : before.first + n]
            np.subtract(u, c_before, out=c)
            c *= i
            c += c_before
        if len(step.merging):
            rows = first + step.merging
            own = np.exp(i[step.merging])
            total = self.total[rows]
            total += own
            own *= u[step.merging]
            own += self.mix[rows]
            own /= total
            self.total[rows] = total
            c[step.merging] = own
        np.tanh(c, out=self.tanh_c[first:last])
        np.multiply(self.tanh_c[first:last], o, out=self.h[first:last])

    def _words(self, plan: TimePlan, step: Step, word_h: np.ndarray, link_c: np.ndarray) -> None:
        """The cells of the words that begin at one position, and their shares where they end."""
        a, b = step.words
        if a == b:
            return
        dim, gate, cell, share = self.dim, self.word_gates[a:b], self.cells[a:b], self.shares[a:b]
        h = np.take(self.h, plan.begins[a:b], axis=0, out=self.begin_h[a:b], mode="clip")
        c = np.take(self.c, plan.begins[a:b], axis=0, out=self.begin_c[a:b], mode="clip")
        gate += np.matmul(h, word_h, out=self._room("past", b - a, 3 * dim))
        np.tanh(gate, out=gate)
        _sigmoid_from_tanh(gate[:, : 2 * dim])
        np.multiply(gate[:, :dim], gate[:, 2 * dim :], out=cell)
        cell += np.multiply(gate[:, dim : 2 * dim], c, out=share)
        link = self.links[a:b]
        link += np.matmul(cell, link_c, out=share)
        np.tanh(link, out=link)
        _sigmoid_from_tanh(link)
        np.exp(link, out=share)
        self.total[plan.ends[a:b]] += share
        self.mix[plan.ends[a:b]] += share * cell

    def _loss(self, plan: TimePlan) -> float:
        """Summed cross-entropy of the tags; the gradients of the logits are kept."""
        w, n = self.adam.weights, len(plan.tags)
        logits = np.matmul(self.h, w["out_w"].T, out=self._room("logits", n, N_TAGS))
        logits += w["out_b"]
        logits -= logits.max(axis=1, keepdims=True)
        each = np.arange(n), plan.tags
        right = logits[each].sum()
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        logits /= total
        logits[each] -= 1.0
        self.d_logits = logits
        return float(np.log(total).sum() - right)

    # --- reverse ------------------------------------------------------------------------------------------------------

    def _reverse(self, plan: TimePlan) -> dict[str, Rows]:
        """Gradients of all dense parameters into those of Adam; of the tables, the rows met and their gradients."""
        w, dw = self.adam.weights, self.adam.gradients
        np.matmul(self.d_logits.T, self.h, out=dw["out_w"])
        np.sum(self.d_logits, axis=0, out=dw["out_b"])
        np.matmul(self.d_logits, w["out_w"], out=self.dh)
        self.dc[...] = 0.0

        for k in reversed(range(len(plan.steps))):
            self._words_reverse(plan, plan.steps[k])
            self._characters_reverse(plan.steps[k], plan.steps[k - 1] if k else None)

        ones = np.ones(max(len(plan.characters), len(plan.words)), np.float32)
        later = plan.steps[0].last  # the first character after those that begin a sentence
        before = np.concatenate([self.h[s.first : s.first + t.last - t.first] for s, t in pairwise(plan.steps)])
        np.matmul(self.d_gates[later:].T, before, out=dw["char_h"])
        np.matmul(self.d_word_gates.T, self.begin_h, out=dw["word_h"])
        np.matmul(self.d_links.T, self.cells, out=dw["link_c"])
        d_link = np.zeros((len(self.merging), self.dim), np.float32)
        for step in plan.steps:  # words of one block end at different characters
            a, b = step.words
            d_link[self.link_of[plan.ends[a:b]]] += self.d_links[a:b]
        np.matmul(d_link.T, self.e[self.merging], out=dw["link_w"])
        np.matmul(ones[: len(d_link)], d_link, out=dw["link_b"])
        np.matmul(self.d_gates.T, self.e, out=dw["char_w"])
        np.matmul(ones[: len(self.d_gates)], self.d_gates, out=dw["char_b"])
        np.matmul(self.d_word_gates.T, self.d, out=dw["word_w"])
        np.matmul(ones[: len(self.d_word_gates)], self.d_word_gates, out=dw["word_b"])
        d_e = np.matmul(self.d_gates, w["char_w"], out=self.e)
        d_e[self.merging] += d_link @ w["link_w"]
        d_d = np.matmul(self.d_word_gates, w["word_w"], out=self.d)
        return {"char_table": merged_rows(plan.characters, d_e), "word_table": merged_rows(plan.words, d_d)}

    def _characters_reverse(self, step: Step, before: Step | None) -> None:
        """From the gradients of h and c of one position to those of its gates, of the position before and of `mix`.

        Where words end the gradients of both sums take their place.
        """
        dim, first, last, w = self.dim, step.first, step.last, self.adam.weights
        n, dh, dc = last - first, self.dh[first:last], self.dc[first:last]
        gate, d, tanh_c = self.gates[first:last], self.d_gates[first:last], self.tanh_c[first:last]
        i, o, u = gate[:, :dim], gate[:, dim : 2 * dim], gate[:, 2 * dim :]
        d_i, d_u = d[:, :dim], d[:, 2 * dim :]
        scratch = self._room("scratch", n, dim)
        np.multiply(tanh_c, tanh_c, out=scratch)
        np.subtract(1.0, scratch, out=scratch)
        scratch *= o
        scratch *= dh
        dc += scratch
        np.multiply(gate, gate, out=d)
        np.subtract(gate[:, : 2 * dim], d[:, : 2 * dim], out=d[:, : 2 * dim])  # sigmoid' of i and o
        np.subtract(1.0, d_u, out=d_u)
        dh *= tanh_c
        d[:, dim : 2 * dim] *= dh
        merging = step.merging
        if len(merging):
            rows = first + merging
            own = np.exp(i[merging])
            d_mix = dc[merging] / self.total[rows]
            d_total = -d_mix * self.c[rows]
            self.mix[rows], self.total[rows] = d_mix, d_total
            merged_i = (d_mix * u[merging] + d_total) * own * d_i[merging]
            merged_u = d_mix * own * d_u[merging]
        d_u *= np.multiply(dc, i, out=scratch)
        if before is None:
            d_i *= np.multiply(dc, u, out=scratch)
        else:
            c_before, dc_before = (x[before.first : before.first + n] for x in (self.c, self.dc))
            np.subtract(u, c_before, out=scratch)
            scratch *= dc
            d_i *= scratch
            np.multiply(dc, i, out=scratch)
            np.subtract(dc, scratch, out=scratch)
            if len(merging):
                scratch[merging] = 0.0
            dc_before += scratch
        if len(merging):
            d_i[merging], d_u[merging] = merged_i, merged_u
        if before is not None:
            self.dh[before.first : before.first + n] += np.matmul(d, w["char_h"], out=scratch)

    def _words_reverse(self, plan: TimePlan, step: Step) -> None:
        """From the gradients of the sums where words end to those of gates, and of the states where words begin."""
        a, b = step.words
        if a == b:
            return
        dim, w, ends = self.dim, self.adam.weights, plan.ends[a:b]
        gate, d, d_link = self.word_gates[a:b], self.d_word_gates[a:b], self.d_links[a:b]
        share, link = self.shares[a:b], self.links[a:b]
        i, f, u = gate[:, :dim], gate[:, dim : 2 * dim], gate[:, 2 * dim :]
        d_mix = self.mix[ends]
        np.multiply(d_mix, self.cells[a:b], out=d_link)
        d_link += self.total[ends]
        d_link *= share
        link -= link * link
        d_link *= link
        d_cell = np.matmul(d_link, w["link_c"], out=self._room("d_cell", b - a, dim))
        d_mix *= share
        d_cell += d_mix
        np.multiply(gate, gate, out=d)
        np.subtract(gate[:, : 2 * dim], d[:, : 2 * dim], out=d[:, : 2 * dim])
        np.subtract(1.0, d[:, 2 * dim :], out=d[:, 2 * dim :])
        d[:, :dim] *= np.multiply(d_cell, u, out=d_mix)
        d[:, dim : 2 * dim] *= np.multiply(d_cell, self.begin_c[a:b], out=d_mix)
        d[:, 2 * dim :] *= np.multiply(d_cell, i, out=d_mix)
        d_cell *= f
        d_h = np.matmul(d, w["word_h"], out=d_mix)
        for first, last in step.spans:  # words of one span begin at different characters
            begins = plan.begins[first:last]
            self.dh[begins] += d_h[first - a : last - a]
            self.dc[begins] += d_cell[first - a : last - a]


def _transposed(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(weight * scale[:, None]).T, in narrow bands: a plain copy of a transposed array misses the cache."""
    out = np.empty(weight.shape[::-1], np.float32)
    for a in range(0, len(weight), 16):
        np.copyto(out[:, a : a + 16], (weight[a : a + 16] * scale[a : a + 16, None]).T)
    return out


def _sigmoid_from_tanh(gate: np.ndarray) -> None:
    gate *= 0.5
    gate += 0.5
