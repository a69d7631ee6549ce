"""Layers and models: each written for one example, on the public ops of the library."""

from __future__ import annotations

from ..record.parameter import Buffer
from .dropout import Dropout
from .embedding import Embedding
from .gru_cell import GRUCell
from .layer_norm import LayerNorm
from .linear import Linear
from .lstm_cell import LSTMCell
from .module import Module
from .tree_lstm_cells import BinaryTreeLSTMCell, ChildSumTreeLSTMCell, TreeLSTMLeaf

__all__ = [
    "BinaryTreeLSTMCell",
    "Buffer",
    "ChildSumTreeLSTMCell",
    "Dropout",
    "Embedding",
    "GRUCell",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "Module",
    "TreeLSTMLeaf",
]
