"""Layers and models: each written for one example, on the public ops of the library.

What all are made of: `module`; `containers` of them, `functional_call` with other weights, `freezing` and groups by
name, `summary`, `saving`, initial values in `init`, statistics of the data in `standardize`.

Maps and tables: `linear`, `embedding`, `conv1d`, `words` (bags, and words from characters), `dropout`, `layer_norm` and
other `norms`. Sequences: `recurrent_cells`, `recurrent`, `attention` (with bilinear and biaffine maps, pointers),
`multi_head_attention`, `positions`, `transformer`. Trees and graphs: `tree_lstm_cells`, `tree_cells`, `encoders` of
lattices and parses, `graphs`.
"""

from __future__ import annotations

from ..record.parameter import Buffer
from . import init
from .attention import AdditiveAttention, Biaffine, Bilinear, DotAttention, Highway, Pointer
from .containers import MLP, Lambda, ModuleDict, ModuleList, Sequential
from .conv1d import Conv1d
from .dropout import Dropout
from .embedding import Embedding
from .encoders import SPINN, LatticeLSTM
from .freezing import freeze, parameter_groups, unfreeze
from .functional_call import functional_call
from .graphs import GAT, GIN, CFConv, GatedGraph, GraphConv
from .layer_norm import LayerNorm
from .linear import Linear
from .module import Module
from .multi_head_attention import MultiHeadAttention
from .norms import BatchNorm, GroupNorm, RMSNorm
from .positions import PositionalEncoding, RotaryEncoding
from .recurrent import GRU, LSTM, RNN, Stack, StackLSTM
from .recurrent_cells import GRUCell, LSTMCell, RNNCell
from .standardize import Standardize
from .summary import summary
from .transformer import TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer
from .tree_cells import ChildSumTreeGRUCell, MVRNNCell, NaryTreeGRUCell, NaryTreeLSTMCell, RNTNCell
from .tree_lstm_cells import BinaryTreeLSTMCell, ChildSumTreeLSTMCell, TreeLSTMLeaf
from .words import CharBiLSTM, CharCNN, EmbeddingBag

__all__ = [
    "GAT",
    "GIN",
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "SPINN",
    "AdditiveAttention",
    "BatchNorm",
    "Biaffine",
    "Bilinear",
    "BinaryTreeLSTMCell",
    "Buffer",
    "CFConv",
    "CharBiLSTM",
    "CharCNN",
    "ChildSumTreeGRUCell",
    "ChildSumTreeLSTMCell",
    "Conv1d",
    "DotAttention",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "GRUCell",
    "GatedGraph",
    "GraphConv",
    "GroupNorm",
    "Highway",
    "LSTMCell",
    "Lambda",
    "LatticeLSTM",
    "LayerNorm",
    "Linear",
    "MVRNNCell",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiHeadAttention",
    "NaryTreeGRUCell",
    "NaryTreeLSTMCell",
    "Pointer",
    "PositionalEncoding",
    "RMSNorm",
    "RNNCell",
    "RNTNCell",
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
