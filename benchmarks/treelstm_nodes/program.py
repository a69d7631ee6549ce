"""The Tree-LSTM with a loss on every node, as a user of autobatch writes it: for one tree, with cells and without."""

from __future__ import annotations

import autobatch as ab
from benchmarks.treelstm.data import Tree
from benchmarks.treelstm.program import State, TreeLSTM, Variant


class Nodes(TreeLSTM):
    """Without cells: every op is a node of its own."""

    def judge(self, h: ab.Tensor, label: int) -> ab.Tensor:
        return ab.cross_entropy(self.out(h), label)

    def descend(self, tree: Tree, losses: list[ab.Tensor]) -> State:
        if tree.is_leaf:
            state = self.word(tree.word)
        else:
            state = self.compose(self.descend(tree.left, losses), self.descend(tree.right, losses))
        losses.append(self.judge(state[0], tree.label))
        return state

    def loss(self, tree: Tree) -> ab.Tensor:
        losses: list[ab.Tensor] = []
        self.descend(tree, losses)
        return ab.sum(losses)


class CellNodes(Nodes):
    """With cells: a call of `word`, `compose` or `judge` is one node."""

    word = ab.cell(Nodes.word)
    compose = ab.cell(Nodes.compose)
    judge = ab.cell(Nodes.judge)


class NodesVariant(Variant):
    """The variant of the Tree-LSTM with a loss on every node."""

    @ab.cell
    def grade(self, state: ab.Tensor, answer: int) -> ab.Tensor:
        return ab.cross_entropy(self.judge(state), answer)

    def loss(self, tree: Tree) -> ab.Tensor:
        grades: list[ab.Tensor] = []

        def visit(branch: Tree) -> State:
            if branch.is_leaf:
                both = self.token(branch.word)
            else:
                both = self.pair(visit(branch.left), visit(branch.right))
            grades.append(self.grade(both[0], branch.label))
            return both

        visit(tree)
        return ab.sum(grades)
