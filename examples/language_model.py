"""Text: which character comes next, by an LSTM.

    python examples/language_model.py                       a few verses that come with the library
    python examples/language_model.py --data input.txt.xz   any text; its last tenth is for testing

The text is cut into passages, and a passage is an example. The model says how likely each of its characters is after
those before it; how well, in bits a character, and as perplexity, 2 to these. At the end it writes some text itself.
With `--hidden 128 --length 100 --batch-size 32 --epochs 2` it comes to 2.71 bits a character of Tiny Shakespeare, in 61
seconds of one core.
"""

from __future__ import annotations

import argparse
import lzma
import math
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn, optim


def read(path: Path) -> str:
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8") as file:
        return file.read()


class LanguageModel(nn.Module):
    def __init__(self, n_chars: int, dim: int, hidden: int) -> None:
        self.char = nn.Embedding(n_chars, dim)
        self.lstm = nn.LSTM(dim, hidden)
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(hidden, n_chars)

    def forward(self, chars: Any, state: Any = None) -> tuple[ab.Tensor, Any]:
        """Logits of what comes after each of the characters, f[n, n_chars], and the state after the last."""
        context, state = self.lstm(self.char(chars), state)
        return self.out(self.dropout(context)), state

    def loss(self, passage: Any) -> ab.Tensor:
        """Mean cross-entropy of the characters but the first."""
        logits, _ = self(passage[:-1])
        return ab.cross_entropy(logits, passage[1:])

    def write(self, n: int, first: int, rng: np.random.Generator) -> list[int]:
        """Characters drawn one after the other."""
        chars, state = [first], None
        with ab.no_grad():
            for _ in range(n):
                logits, state = ab.evaluate(self(chars[-1:], state))
                p = np.exp(logits[0] - logits[0].max(), dtype=np.float64)
                chars.append(int(rng.choice(len(p), p=p / p.sum())))
        return chars[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(ab.data.sample("verses.txt")), metavar="FILE")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--length", type=int, default=40, help="characters of a passage")
    parser.add_argument("--batch-size", type=int, default=4)
    options = parser.parse_args()

    text = read(options.data)
    letters = ab.data.LabelEncoder().fit(text)
    numbers = np.array(letters.transform(text))
    train, test = np.split(numbers, [len(numbers) * 9 // 10])
    # Each begins with the last character of the one before, so that each character but the first is asked for once.
    examples, held_out = (
        [part[k : k + options.length + 1] for k in range(0, len(part) - 1, options.length)] for part in (train, test)
    )
    ab.seed(0)
    model = LanguageModel(len(letters), options.dim, options.hidden)
    batches = ab.data.minibatches(examples, batch_size=options.batch_size, shuffle=True)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs * len(batches))
    ab.train.fit(model, batches, optimizer, options.epochs, scheduler=schedule, max_norm=1.0)

    losses = np.array(ab.train.predict(model, held_out, model.loss)) * [len(passage) - 1 for passage in held_out]
    perplexity = ab.data.perplexity(losses, len(test) - 1)
    print(f"{len(test)} other characters: {math.log2(perplexity):.3f} bits a character, perplexity {perplexity:.3f}")
    model.eval()
    first = letters.transform("\n")[0]
    print("".join(letters.inverse_transform(model.write(200, first, np.random.default_rng(0)))))


if __name__ == "__main__":
    main()
