"""The tagger with characters as a user of autobatch writes it: for one sentence, with cells and without."""

from __future__ import annotations

from collections.abc import Sequence

import autobatch as ab
from autobatch import nn
from benchmarks.bilstm.program import CellTagger, Tagger, Variant, VariantLSTM
from benchmarks.tagger_chars.data import LETTER_DIM, LETTER_WIDTH, N_KNOWN, N_LETTERS, spelling
from benchmarks.workload import Parameters


class CharacterTagger(Tagger):
    """Without cells."""

    def __init__(self, parameters: Parameters) -> None:
        self.letters = nn.Embedding(N_LETTERS, LETTER_WIDTH)
        self.letters_forward = self.LSTM(LETTER_WIDTH, LETTER_DIM)
        self.letters_backward = self.LSTM(LETTER_WIDTH, LETTER_DIM)
        super().__init__(parameters)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            **super().named(),
            "letter_table": self.letters.weight,
            **self.letters_forward.named("letters_forward"),
            **self.letters_backward.named("letters_backward"),
        }

    def known(self, word: int) -> ab.Tensor:
        return self.embed[word]

    def letter(self, letter: int) -> ab.Tensor:
        return self.letters[letter]

    def spelled(self, letters: Sequence[int]) -> ab.Tensor:
        vectors = [self.letter(letter) for letter in letters]
        return ab.concat([self.letters_forward(vectors)[-1], self.letters_backward(reversed(vectors))[-1]])

    def vector(self, word: int) -> ab.Tensor:
        return self.known(word) if word < N_KNOWN else self.spelled(spelling(word))


class CellCharacterTagger(CharacterTagger, CellTagger):
    """With cells."""

    known = ab.cell(CharacterTagger.known)
    letter = ab.cell(CharacterTagger.letter)


class CharacterVariant(Variant):
    """Drawn from a seed, as the BiLSTM tagger's."""

    def __init__(self, parameters: Parameters, seed: int) -> None:
        self.glyphs = nn.Embedding(N_LETTERS, LETTER_WIDTH)
        self.rightward = VariantLSTM(LETTER_WIDTH, LETTER_DIM, seed)
        self.leftward = VariantLSTM(LETTER_WIDTH, LETTER_DIM, seed)
        super().__init__(parameters, seed)

    def named(self) -> dict[str, ab.Parameter]:
        """Parameters under the names of the workload."""
        return {
            **super().named(),
            "letter_table": self.glyphs.weight,
            **self.rightward.named("letters_forward"),
            **self.leftward.named("letters_backward"),
        }

    @ab.cell
    def frequent(self, number: int) -> ab.Tensor:
        return self.lookup[number]

    @ab.cell
    def glyph(self, number: int) -> ab.Tensor:
        return self.glyphs[number]

    def meaning(self, number: int) -> ab.Tensor:
        if number < N_KNOWN:
            return self.frequent(number)
        glyphs = [self.glyph(letter) for letter in spelling(number)]
        return ab.concat([self.rightward.scan(glyphs)[-1], self.leftward.scan(glyphs[::-1])[-1]])
