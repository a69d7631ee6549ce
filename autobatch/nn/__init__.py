"""Layers and models: each written for one example, on the public ops of the library."""

from __future__ import annotations

from ..record.parameter import Buffer
from . import init
from .containers import MLP, Lambda, ModuleDict, ModuleList, Sequential
from .conv1d import Conv1d
from .dropout import Dropout
from .embedding import Embedding
from .freezing import freeze, parameter_groups, unfreeze
from .functional_call import functional_call
from .layer_norm import LayerNorm
from .linear import Linear
from .module import Module
from .multi_head_attention import MultiHeadAttention
from .positions import PositionalEncoding, RotaryEncoding
from .recurrent import GRU, LSTM, RNN, Stack, StackLSTM
from .recurrent_cells import GRUCell, LSTMCell, RNNCell
from .standardize import Standardize
from .summary import summary
from .transformer import TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer
from .tree_lstm_cells import BinaryTreeLSTMCell, ChildSumTreeLSTMCell, TreeLSTMLeaf

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "BinaryTreeLSTMCell",
    "Buffer",
    "ChildSumTreeLSTMCell",
    "Conv1d",
    "Dropout",
    "Embedding",
    "GRUCell",
    "LSTMCell",
    "Lambda",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiHeadAttention",
    "PositionalEncoding",
    "RNNCell",
    "RotaryEncoding",
    "Sequential",
    "Stack",
    "StackLSTM",
    "Standardize",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "TreeLSTMLeaf",
    "freeze",
    "functional_call",
    "init",
    "parameter_groups",
    "summary",
    "unfreeze",
]
