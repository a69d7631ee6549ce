"""Vectors of words: from bags of indices, and from their characters."""

from __future__ import annotations

from collections.abc import Sequence

import autobatch as ab

from ..base.errors import message, op_error
from . import init
from .conv1d import Conv1d
from .embedding import Embedding, whole_numbers
from .module import Module
from .recurrent import LSTM


class EmbeddingBag(Module):
    """The sum, mean or maximum of rows of a table.

    Arguments:
        num_embeddings: number of rows.
        embedding_dim: width of a row.
        mode: "sum", "mean" or "max"; others raise ValueError.

    Parameter and key as in `torch.nn.EmbeddingBag`: `weight: f[num_embeddings, embedding_dim]`, drawn from N(0, 1). A
    call is one bag.

    >>> bag = nn.EmbeddingBag(10, 4, mode="sum")
    >>> bag([1, 2, 2]).shape, bag([]).numpy().tolist()
    ((4,), [0.0, 0.0, 0.0, 0.0])
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, mode: str = "mean") -> None:
        if mode not in ("sum", "mean", "max"):
            raise ValueError(message("EmbeddingBag: no such mode", expected="'sum', 'mean' or 'max'", got=repr(mode)))
        self.mode = mode
        self.weight = init.normal((num_embeddings, embedding_dim))

    def forward(self, indices: Sequence[int], per_sample_weights: ab.TensorLike | None = None) -> ab.Tensor:
        """indices: k integers, per_sample_weights: f[k], of "sum" alone → f[embedding_dim]; zeros for an empty bag.

        An index outside the table raises IndexError, as a negative one does.
        """
        if per_sample_weights is not None and self.mode != "sum":
            raise op_error("EmbeddingBag", "only sums have weights", got=f"mode {self.mode!r}")
        numbers = whole_numbers("EmbeddingBag", indices, self.weight.shape[0])
        if not len(numbers):
            return ab.zeros(self.weight.shape[1], dtype=self.weight.dtype)
        rows = self.weight[numbers]
        if per_sample_weights is not None:
            rows = rows * ab.tensor(per_sample_weights).reshape(len(numbers), 1)
        return {"sum": ab.sum, "mean": ab.mean, "max": ab.max}[self.mode](rows, axis=0)

    def extra_repr(self) -> str:
        n, dim = self.weight.shape
        return f"num_embeddings={n}, embedding_dim={dim}, mode={self.mode!r}"


class CharBiLSTM(Module):
    """A word's vector from its characters: the last states of an LSTM in each direction (Ling et al., "Finding function
    in form", 2015; Lample et al., "Neural architectures for named entity recognition", 2016).

    Arguments:
        n_chars: characters are numbers below this.
        char_dim: width of a character's vector.
        hidden_size: width H of each state.

    Parameters: those of an `Embedding`, `embed.*`, and of an `LSTM`, `lstm.*`.

    >>> nn.CharBiLSTM(30, 4, 5)([3, 1, 20]).shape
    (10,)
    """

    def __init__(self, n_chars: int, char_dim: int, hidden_size: int) -> None:
        self.embed = Embedding(n_chars, char_dim)
        self.lstm = LSTM(char_dim, hidden_size, bidirectional=True)

    def forward(self, chars: Sequence[int]) -> ab.Tensor:
        """chars: integers → f[2H]; zeros for an empty word. IndexError for a number that is no character."""
        _, (h, _) = self.lstm(self.embed[whole_numbers("CharBiLSTM", chars, self.embed.n)])
        return h.reshape(-1)


class CharCNN(Module):
    """A word's vector from its characters: the largest values of convolutions over them (dos Santos & Zadrozny,
    "Learning character-level representations for part-of-speech tagging", 2014; Ma & Hovy, 2016).

    Arguments:
        n_chars: characters are numbers below this.
        char_dim: width of a character's vector.
        out_channels: width C of the result of each convolution.
        kernel_sizes: windows; the word is padded by one less on both sides.

    Parameters: those of an `Embedding`, `embed.*`, and of a `Conv1d` for each window, `convs.{k}.*`.

    >>> nn.CharCNN(30, 4, 5, kernel_sizes=(2, 3))([3, 1, 20]).shape
    (10,)
    """

    def __init__(self, n_chars: int, char_dim: int, out_channels: int, kernel_sizes: Sequence[int] = (3,)) -> None:
        self.embed = Embedding(n_chars, char_dim)
        self.convs = [Conv1d(char_dim, out_channels, size, padding=size - 1) for size in kernel_sizes]

    def forward(self, chars: Sequence[int]) -> ab.Tensor:
        """chars: integers → f[C × windows]; zeros for an empty word. IndexError for a number that is no character."""
        numbers = whole_numbers("CharCNN", chars, self.embed.n)
        if not len(numbers):
            return ab.zeros(sum(conv.out_channels for conv in self.convs), dtype=self.embed.weight.dtype)
        rows = self.embed[numbers]
        return ab.concat([ab.max(conv(rows), axis=0) for conv in self.convs])
