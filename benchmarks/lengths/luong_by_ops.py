"""The translation model with Luong's attention, written with separate ops."""

from __future__ import annotations

import autobatch as ab
from benchmarks.lengths.luong import Luong
from benchmarks.lengths.pairs import pairs
from benchmarks.twins import Program


class LuongByOps(Luong):
    def context(self, keys: ab.Tensor, query: ab.Tensor) -> ab.Tensor:
        return ab.softmax(keys @ query) @ keys


PROGRAM = Program("seq2seq, Luong, attention by ops", LuongByOps, pairs)
