"""TreeFC in PyTorch, level-batched by hand: neighbours are the operand of a node, so a view is all it takes.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.torch_trainer import TorchTrainer
from benchmarks.treefc.data import Leaves
from benchmarks.workload import Parameters


class TorchTreeFC(TorchTrainer):
    """The program with autograd."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters, tables=["table"])

    def loss(self, examples: Sequence[Leaves]) -> Tensor:
        """The summed loss of a minibatch."""
        w = self.weights
        h = F.embedding(torch.tensor([example.words for example in examples]).view(-1), w["table"], sparse=True)
        while len(h) > len(examples):
            h = F.linear(h.view(len(h) // 2, -1), w["node_w"], w["node_b"]).relu_()
        labels = torch.tensor([example.label for example in examples])
        return F.cross_entropy(F.linear(h, w["out_w"], w["out_b"]), labels, reduction="sum")
