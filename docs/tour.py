"""A tour of autobatch: one small tree model, taken through every stage from user code to gradients.

`python docs/tour.py` prints the text below and, after each paragraph, the structure that it describes. `ab.explain`
shows the same for any model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn
from autobatch.data import Tree


def say(text: str) -> None:
    print(f"\n{text.strip()}\n")


def show(text: object) -> None:
    print("\n".join(f"    {line}".rstrip() for line in str(text).splitlines()))


# ----------------------------------------------------------------------------------------------------------------------

say("""
1. The model, for one tree
--------------------------
A leaf is a word, and its state is that word's vector. Any other node computes its state from those of its two children.
The score of a tree is computed from the state of its root. The code is ordinary Python over one tree: it recurses,
branches on the tree, and knows nothing of minibatches. `@ab.cell` is optional: each call of `compose` is recorded as
one node, instead of one node per op.
""")


class Scorer(nn.Module):
    def __init__(self, n_words: int, dim: int) -> None:
        self.words = nn.Embedding(n_words, dim)
        self.mix = nn.Linear(2 * dim, dim)
        self.score = ab.Parameter(np.full(dim, 0.5))

    @ab.cell
    def compose(self, left: Any, right: Any) -> Any:
        return ab.tanh(self.mix(ab.concat([left, right])))

    def state(self, tree: Tree) -> Any:
        if tree.is_leaf:
            return self.words[tree.word]
        return self.compose(self.state(tree.left), self.state(tree.right))

    def scored(self, tree: Tree) -> tuple[Any, Any]:
        state = self.state(tree)
        return state, ab.squared_error(state @ self.score, float(tree.label))


def leaf(word: int) -> Tree:
    return Tree(word=word)


ab.seed(0)
model = Scorer(n_words=5, dim=3)
trees = [
    Tree(1, children=[Tree(children=[leaf(0), leaf(1)]), leaf(2)]),
    Tree(0, children=[leaf(3), Tree(children=[leaf(4), Tree(children=[leaf(0), leaf(1)])])]),
    Tree(1, children=[leaf(2), leaf(0)]),
]
for tree in trees:
    show(f"{tree.n_nodes} nodes, {tree.depth} deep: {tree}")

# ----------------------------------------------------------------------------------------------------------------------

say("""
2. Recording
------------
`ab.map` calls the function once for each tree. Ops do not compute anything: each appends a few integers, the number of
its signature and the numbers of its operands, and returns a tensor with a type and a number. Shapes and dtypes are
checked here, so an error is raised at the line that caused it.
""")

scored = ab.map(model.scored, trees)
loss = ab.mean([loss for _, loss in scored])
show(loss)

say("""
The recording is the *tape*: nodes in the order in which they were recorded. A node reads values (v0, v1, …) of
earlier nodes. A signature is what nodes must have in common to run together: the op or cell, the types of its
operands, its attributes, and which parameters it reads. The word of a leaf is not part of it. It is data, one number
per node, so all leaves of all trees have the same signature.
""")
show(ab.explain(loss, stage="tape"))

# ----------------------------------------------------------------------------------------------------------------------

say("""
3. Once per signature: from a function to a kernel
--------------------------------------------------
The first call of `compose` with new operand types was *traced*: the function ran once on tracers, and the ops that it
applied became a graph, for one example. `product` multiplies matrices, so a vector is first reshaped to a
matrix of one row.
""")
show(ab.explain(model.compose, stage="graph"))

say("""
*batch* adds a leading axis to each value that differs between nodes: m is the number of nodes in a launch, known
when it runs. The weight has no such axis. The product of one row with a matrix has become one GEMM.
""")
show(ab.explain(model.compose, stage="batch"))

say("""
*vjp* appends the derivatives. `cotangent(0)` is the derivative of the loss by the result; from it the graph computes
the cotangents of both operands, of the weight and of the bias. They consist of the same ops, so they can be
differentiated again.
""")
show(ab.explain(model.compose, stage="vjp"))

say("""
*split* cuts that graph into pieces which run at different times. "forward" and "backward" run once per launch, since
the states of a tree depend on one another. The gradient of a weight is deferred: "final" runs once per
signature, after all launches, over the residuals of all of them, and is one GEMM. `tanh` is not a residual:
it is cheap, and "backward" rematerialises it.
""")
show(ab.explain(model.compose, stage="split"))

say("""
*fuse* decides which ops become generated loops and which are calls. Matmuls are calls of GEMM kernels. Elementwise
ops are fused into few loops, which read their operands in place and add cotangents to the operands' rows.
""")
show(ab.explain(model.compose, stage="fuse"))

say("""
*lower* writes the source: a driver with the calls, and loops that Numba compiles. A compiled loop is cached on disk
under the hash of its source, so a model is compiled once.
""")
show(ab.explain(model.compose, stage="lower"))

# ----------------------------------------------------------------------------------------------------------------------

say("""
4. For every minibatch: from a tape to values
---------------------------------------------
*expand* splits a cell in two where part of its work is loop-invariant. All of `compose` depends on its children, so the
tape stays as it is. Then *schedule* assigns nodes to launches. A launch is a set of nodes of one signature, from any
trees, that do not depend on each other: one call of one kernel. An op that is ready in the shallow trees could run
immediately, and again when it is ready in the deep ones. To run once for all trees, it waits while the nodes of
another signature are ready in all trees.

The last line gives a lower bound. The nodes of `compose` on a path from a leaf to the root depend on each other, so
there are at least as many launches of `compose` as the deepest tree has inner nodes on a path.
""")
schedule = ab.explain(loss, stage="schedule")
show(schedule)

say("""
*place* assigns rows to values. All values of one width and dtype are in one *pool*, a matrix; every launch writes
one block of rows. Rows that follow one another are read in place. Scattered rows are read through their numbers: loops
index with these numbers, and only the operands of matmuls are gathered first.
Rows that are not read again are reused by later launches, unless the backward pass needs them.
""")
show(ab.explain(loss, stage="place"))

say("""
Why did two nodes not run together? The roots of the first and of the second tree have the same signature, and neither
depends on the other. But the second tree is deeper: its root had to wait.
""")
(first, _), (second, _), _ = scored
show(ab.explain([first, second], stage="reasons"))

# ----------------------------------------------------------------------------------------------------------------------

say("""
5. Values and gradients
-----------------------
So far nothing has been computed. Asking for a number runs everything that is pending, by the schedule above.
`ab.profile` counts launches; it also measures the seconds of each stage (`print(profile.table())`).
""")
with ab.profile() as profile:
    value = float(loss)
show(
    f"loss {value:.4f}: {profile.nodes} nodes in {profile.launches} launches, no order needs fewer than {profile.bound}"
)

say("""
`backward` runs the launches in reverse order: where a launch read rows, cotangents are added to the same rows of a
second set of pools. It ends the recording and frees its memory. An embedding gets a row-sparse gradient, so an
optimiser updates only the words that occurred.
""")
loss.backward()
show(f"mix.weight.grad, {model.mix.weight.grad.shape}:\n{np.round(model.mix.weight.grad, 3)}")
rows = model.words.weight.grad
show(f"words.weight.grad: rows {rows.rows.tolist()} of {rows.shape[0]}\n{np.round(rows.values, 3)}")

say("""
Is it right? With `batched=False` each tree runs by itself, op by op, by an interpreter that uses no schedules, plans
or kernels. The tests compare the two on random programs; here is the comparison for this model.
""")


def dense(parameter: ab.Parameter) -> np.ndarray:
    gradient: Any = parameter.grad
    return gradient.to_dense() if hasattr(gradient, "to_dense") else gradient


batched = {name: dense(parameter) for name, parameter in model.named_parameters()}
for parameter in model.parameters():
    parameter.grad = None
again = ab.mean([loss for _, loss in ab.map(model.scored, trees, batched=False)])
again.backward()
for name, parameter in model.named_parameters():
    assert np.abs(batched[name] - dense(parameter)).max() < 1e-5, name
    show(f"{name:<14} equal")
assert abs(float(again) - value) < 1e-5

say("""
`docs/architecture.md` says in which file each of these stages is.
""")
