"""The parser in PyTorch, sentence by sentence."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.decisions.parser import EXPLORED
from benchmarks.decisions.program import Outcome
from benchmarks.decisions.twin import State, TorchTwin
from examples.parser import LEFT, SHIFT, Configuration, Sentence, best, parts_of


class Twin(TorchTwin):
    def judge(self, stack: State, buffer: State, history: State, last: int) -> tuple[Tensor, State]:
        """Scores of all actions, shape (1, actions), and the state of the history."""
        history = self.lstm("history", self.row("action", last), history)
        hidden = torch.relu(self.linear("mix", torch.cat([stack[0], buffer[0], history[0]], 1)))
        return self.linear("out", hidden), history

    def run(self, sentence: Sentence, own: float, learn: bool, rng: np.random.Generator) -> Outcome:
        here, w = Configuration(len(sentence.words)), self.weights
        zero = self.tensor(np.zeros((1, w["stack.weight_hh"].shape[1])))
        history = nothing = zero, zero
        tokens = torch.cat([w["word.weight"][sentence.words], w["tag.weight"][sentence.tags]], 1)
        words = list(torch.relu(self.linear("token", tokens)).split(1))
        buffer = [nothing]
        for x in reversed(words):
            buffer.append(self.lstm("buffer", x, buffer[-1]))
        words.reverse()
        root = self.row("root", 0)
        stack, losses, action, wanted = [(root, self.lstm("stack", root, nothing))], [], SHIFT, SHIFT
        while not here.is_final:
            scores, history = self.judge(stack[-1][1], buffer[-1], history, action)
            if learn:
                wanted = here.oracle(sentence)
                losses.append(F.cross_entropy(scores, torch.tensor([wanted])))
            found = best(scores[0].detach().numpy(), here.moves())
            action = found if rng.random() < own else wanted
            move, relation = parts_of(action)
            if move == SHIFT:
                buffer.pop()
                x = words.pop()
                stack.append((x, self.lstm("stack", x, stack[-1][1])))
            else:
                (below, _), (top, _) = stack[-2:]
                del stack[-2:]
                head, dependent = (top, below) if move == LEFT else (below, top)
                x = torch.tanh(self.linear("arc", torch.cat([head, dependent, self.row("action", action)], 1)))
                stack.append((x, self.lstm("stack", x, stack[-1][1] if stack else nothing)))
            here.apply(move, relation)
        loss = torch.stack(losses).mean() if learn else None
        return loss, (here.heads[1:], here.relations[1:])

    def train_on_own(self, sentence: Sentence, rng: np.random.Generator) -> Outcome:
        return self.run(sentence, EXPLORED, True, rng)

    def parse_only(self, sentence: Sentence, rng: np.random.Generator) -> Outcome:
        with torch.no_grad():
            return self.run(sentence, 1.0, False, rng)
