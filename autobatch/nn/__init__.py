"""Layers and models: each written for one example, on the public ops of the library."""

from __future__ import annotations

from ..record.parameter import Buffer
from . import init
from .conv1d import Conv1d
from .dropout import Dropout
from .embedding import Embedding
from .layer_norm import LayerNorm
from .linear import Linear
from .module import Module
from .multi_head_attention import MultiHeadAttention
from .recurrent_cells import GRUCell, LSTMCell
from .standardize import Standardize
from .tree_lstm_cells import BinaryTreeLSTMCell, ChildSumTreeLSTMCell, TreeLSTMLeaf

__all__ = [
    "BinaryTreeLSTMCell",
    "Buffer",
    "ChildSumTreeLSTMCell",
    "Conv1d",
    "Dropout",
    "Embedding",
    "GRUCell",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "Standardize",
    "TreeLSTMLeaf",
    "init",
]
