"""Sentences: a parser reads word by word and decides, by its own scores, which word depends on which.

    python examples/parser.py                                 20 short sentences that come with the library
    python examples/parser.py train.tsv.xz test.tsv.xz

The files hold a word a line (form, part of speech, number of its head or 0 for the root, relation, with tabs between)
and an empty line after each sentence; files in CoNLL-U are read, too, compressed as .xz or not.

It is the arc-standard parser with stack LSTMs of Dyer et al., "Transition-based dependency parsing with stack long
short-term memory", ACL 2015. A stack LSTM is a Python list of states: to pop is `list.pop`. In training, a share of the
transitions are those that the model finds best, the others those of an oracle, so that it learns to go on from its own
mistakes (Goldberg & Nivre 2012). The model's own transitions need the scores at once: `.numpy()` in the middle of
`loss` and of `parse`. All sentences of a minibatch wait for each other there, and their scores are computed together.
"""

from __future__ import annotations

import argparse
import functools
import lzma
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn, optim

SHIFT, LEFT, RIGHT = range(3)
Row = tuple[str, str, int, str]
Parse = tuple[list[int], list[int]]
"""Heads and relations of the words."""


def read(path: Path) -> Iterator[list[Row]]:
    """Sentences of (form, part of speech, head, relation)."""
    sentence: list[Row] = []
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        for line in file:
            columns = line.rstrip("\n").split("\t")
            if len(columns) == 10:  # CoNLL-U
                if columns[0].isdigit():  # neither several words in one nor a word that was left out
                    sentence.append((columns[1], columns[3], int(columns[6]), columns[7]))
            elif len(columns) == 4:
                sentence.append((columns[0], columns[1], int(columns[2]), columns[3]))
            elif not line.strip() and sentence:
                yield sentence
                sentence = []
    if sentence:
        yield sentence


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """Numbers of words (0: rare) and parts of speech; heads (1: the first word, 0: the root) and relations."""

    words: list[int]
    tags: list[int]
    heads: list[int]
    relations: list[int]


class Configuration:
    """Where an arc-standard parser is: words on the stack (0: the root), the next word, and the arcs so far.

    SHIFT puts the next word on the stack; LEFT makes the word below the top depend on the top, RIGHT the top on the
    word below; the dependent leaves the stack.
    """

    def __init__(self, n_words: int) -> None:
        self.n_words = n_words
        self.stack = [0]
        self.next = 1
        self.heads = [0] * (n_words + 1)
        self.relations = [0] * (n_words + 1)

    @property
    def is_final(self) -> bool:
        return self.next > self.n_words and len(self.stack) == 1

    def moves(self) -> list[int]:
        """What is possible. The root gets one dependent, the last of all."""
        moves = [SHIFT] if self.next <= self.n_words else []
        if len(self.stack) > 2:
            moves += [LEFT, RIGHT]
        elif len(self.stack) == 2 and not moves:
            moves.append(RIGHT)
        return moves

    def apply(self, move: int, relation: int) -> None:
        if move == SHIFT:
            self.stack.append(self.next)
            self.next += 1
        else:
            dependent = self.stack.pop(-2 if move == LEFT else -1)
            self.heads[dependent], self.relations[dependent] = self.stack[-1], relation

    def oracle(self, sentence: Sentence) -> int:
        """The action that leads to the tree of the sentence.

        Where mistakes were made, the same rule goes on: an arc of the tree is made when it can be, and no word that
        waits for dependents leaves the stack before it must.
        """
        move = self._wanted_move(sentence)
        dependent = 0 if move == SHIFT else self.stack[-2 if move == LEFT else -1]
        return action_of(move, sentence.relations[dependent - 1])

    def _wanted_move(self, sentence: Sentence) -> int:
        moves = self.moves()
        if len(moves) == 1:
            return moves[0]
        heads, (below, top) = sentence.heads, self.stack[-2:]
        if below and heads[below - 1] == top:
            return LEFT
        if heads[top - 1] == below and top not in heads[self.next - 1 :]:
            return RIGHT
        if SHIFT in moves:
            return SHIFT
        return LEFT if heads[top - 1] in self.stack[:-2] else RIGHT


def action_of(move: int, relation: int) -> int:
    """A move and a relation as one number."""
    return 0 if move == SHIFT else 2 * relation + move


def parts_of(action: int) -> tuple[int, int]:
    """The move and the relation of an action."""
    return (SHIFT, 0) if action == 0 else (2 - action % 2, (action - 1) // 2)


def best(scores: np.ndarray, moves: Sequence[int]) -> int:
    """The action of the highest score among those possible."""
    actions = [action_of(SHIFT, 0)] if SHIFT in moves else []
    actions += [action_of(move, int(scores[move::2].argmax())) for move in moves if move != SHIFT]
    return max(actions, key=scores.__getitem__)


class Parser(nn.Module):
    def __init__(self, n_words: int, n_tags: int, n_relations: int, dim: int, hidden: int) -> None:
        n_actions = 1 + 2 * n_relations
        self.word = nn.Embedding(n_words, dim)
        self.tag = nn.Embedding(n_tags, dim)
        self.action = nn.Embedding(n_actions, dim)
        self.token = nn.Linear(2 * dim, dim)
        self.arc = nn.Linear(3 * dim, dim)
        self.stack = nn.LSTMCell(dim, hidden)
        self.buffer = nn.LSTMCell(dim, hidden)
        self.history = nn.LSTMCell(dim, hidden)
        self.root = nn.Embedding(1, dim)
        self.mix = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, n_actions)

    # On the stack and in the buffer are triples: a vector x, and the state (h, c) of an LSTM that ends with it.

    @ab.cell
    def read(self, word: int, tag: int, ahead: Any) -> Any:
        """A word at the beginning of the buffer."""
        x = ab.relu(self.token(ab.concat([self.word[word], self.tag[tag]])))
        return x, *self.buffer(x, ahead)

    @ab.cell
    def push(self, x: Any, below: Any) -> Any:
        """A word on the stack."""
        return x, *self.stack(x, below)

    @ab.cell
    def reduce(self, head: Any, dependent: Any, action: int, below: Any) -> Any:
        """A word with a dependent more, on the stack."""
        x = ab.tanh(self.arc(ab.concat([head, dependent, self.action[action]])))
        return x, *self.stack(x, below)

    @ab.cell
    def judge(self, stack: Any, buffer: Any, history: Any, last: int, wanted: int) -> Any:
        """Scores of all actions, the loss if one is wanted, and the state of the history that ends with the last."""
        h, c = self.history(self.action[last], history)
        scores = self.out(ab.relu(self.mix(ab.concat([stack, buffer, h]))))
        return scores, ab.cross_entropy(scores, wanted), h, c

    def run(self, sentence: Sentence, own: float, learn: bool) -> tuple[Parse, Any]:
        """The parse, and the mean loss of its transitions, of which a share `own` are the model's, not the oracle's.

        Where it does not `learn`, it knows no tree, and the loss means nothing.
        """
        here, rng, zeros = Configuration(len(sentence.words)), ab.rng(), ab.zeros(self.stack.hidden_size)
        buffer = [(zeros, zeros, zeros)]
        for word, tag in zip(sentence.words[::-1], sentence.tags[::-1], strict=True):
            buffer.append(self.read(word, tag, buffer[-1][1:]))
        stack = [self.push(self.root[0], (zeros, zeros))]
        history, losses, action, wanted = (zeros, zeros), [], SHIFT, SHIFT
        while not here.is_final:
            if learn:
                wanted = here.oracle(sentence)
            scores, loss, *state = self.judge(stack[-1][1], buffer[-1][1], history, action, wanted)
            history = tuple(state)
            losses.append(loss)
            if own > 0.0:
                found = best(scores.numpy(), here.moves())
                action = found if rng.random() < own else wanted
            else:
                action = wanted
            move, relation = parts_of(action)
            if move == SHIFT:
                stack.append(self.push(buffer.pop()[0], stack[-1][1:]))
            elif len(stack) > 2:
                (below, *_), (top, *_) = stack[-2:]
                del stack[-2:]
                head, dependent = (top, below) if move == LEFT else (below, top)
                stack.append(self.reduce(head, dependent, action, stack[-1][1:]))
            here.apply(move, relation)
        return (here.heads[1:], here.relations[1:]), ab.mean(losses)

    def loss(self, sentence: Sentence, own: float = 0.0) -> Any:
        return self.run(sentence, own, learn=True)[1]

    def parse(self, sentence: Sentence) -> Parse:
        return self.run(sentence, own=1.0, learn=False)[0]


def attachment(parses: Sequence[Parse], sentences: Sequence[Sentence]) -> tuple[float, float]:
    """Shares of the words that have the right head, and the right head and relation (UAS and LAS)."""
    right = np.zeros(2)
    for (heads, relations), sentence in zip(parses, sentences, strict=True):
        found = np.array(heads) == sentence.heads
        right += found.sum(), (found & (np.array(relations) == sentence.relations)).sum()
    uas, las = right / sum(len(sentence.words) for sentence in sentences)
    return float(uas), float(las)


def parse_all(model: Parser, sentences: Sequence[Sentence], batch_size: int, batched: bool = True) -> list[Parse]:
    with ab.no_grad():
        batches = ab.data.minibatches(sentences, batch_size=batch_size)
        return [parse for batch in batches for parse in ab.map(model.parse, batch, batched=batched)]


def rate(run: Callable[[Sequence[Sentence]], Any], sentences: Sequence[Sentence]) -> float:
    """Words a second."""
    start = time.perf_counter()
    run(sentences)
    return sum(len(sentence.words) for sentence in sentences) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, nargs="?", default=Path(ab.data.sample("sentences.tsv")))
    parser.add_argument("test", type=Path, nargs="?", help="by default, a quarter of the other file")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--own", type=float, default=0.5, help="share of the model's own transitions, from epoch 2 on")
    parser.add_argument("--sentences", type=int, help="train on so many; all, if not given")
    options = parser.parse_args()

    train, test = list(read(options.train))[: options.sentences], list(read(options.test)) if options.test else []
    if not test:
        train, test = ab.data.train_test_split(train)
    words = ab.data.Vocabulary((row[0].lower() for rows in train for row in rows), min_count=2)
    tags = ab.data.Vocabulary(row[1] for rows in train for row in rows)
    relations = ab.data.Vocabulary(row[3] for rows in train for row in rows)

    def encode(rows: list[Row]) -> Sentence:
        forms, of_speech, heads, labels = zip(*rows, strict=True)
        numbers = [words[form.lower()] for form in forms]
        return Sentence(numbers, [tags[tag] for tag in of_speech], list(heads), [relations[label] for label in labels])

    examples, held_out = [encode(rows) for rows in train], [encode(rows) for rows in test]
    ab.seed(0)
    model = Parser(len(words), len(tags), len(relations), options.dim, options.hidden)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, options.epochs + 1):
        total, start = 0.0, time.perf_counter()
        loss_of = functools.partial(model.loss, own=options.own if epoch > 1 else 0.0)
        for batch in ab.data.minibatches(examples, batch_size=options.batch_size, shuffle=True, seed=epoch):
            optimizer.zero_grad()
            loss = ab.mean(ab.map(loss_of, batch))
            loss.backward()
            optim.clip_grad_norm(model.parameters(), 5.0)
            optimizer.step()
            total += float(loss) * len(batch)
        speed = sum(len(sentence.words) for sentence in examples) / (time.perf_counter() - start)
        uas, las = attachment(parse_all(model, held_out, options.batch_size), held_out)
        print(
            f"epoch {epoch}  loss {total / len(examples):.3f}  {speed:.0f} words/s  UAS {uas:.1%}  LAS {las:.1%}",
            flush=True,
        )
    together = rate(lambda some: parse_all(model, some, options.batch_size), held_out)
    alone = rate(lambda some: parse_all(model, some, options.batch_size, batched=False), held_out[:50])
    print(f"parsing: batched {together:.0f} words/s, one by one {alone:.0f} words/s: {together / alone:.0f} ×")


if __name__ == "__main__":
    main()
