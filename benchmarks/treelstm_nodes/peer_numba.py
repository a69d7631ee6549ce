"""The NumPy program with its elementwise work in loops compiled by Numba."""

from __future__ import annotations

from benchmarks.treelstm.peer_numba import NumbaTreeLSTM
from benchmarks.treelstm_nodes.peer_numpy import NumpyNodes


class NumbaNodes(NumpyNodes, NumbaTreeLSTM):
    """What is judged as there, loops as in the Tree-LSTM."""

    name = NumbaTreeLSTM.name
