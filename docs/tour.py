"""A tour of autobatch: one small model of trees, taken through every stage from user code to gradients.

Run it with `python docs/tour.py`. It prints what it says here, and after each paragraph the structure that the
paragraph is about, so that the output reads as a page of its own. Nothing in it is special: `ab.explain` shows the same
of any model of yours.
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
A leaf is a word, and its state is that word's vector. Any other node joins the states of its two children. The score
of a tree is read from the state of its root. The code below is ordinary Python over one tree: it recurses, it
branches on the tree, and it knows nothing of minibatches. `@ab.cell` is optional. It says that a whole call of `join`
is to be one node of what is recorded, instead of one node for each op in it.
""")


class Scorer(nn.Module):
    def __init__(self, n_words: int, dim: int) -> None:
        self.words = nn.Embedding(n_words, dim)
        self.mix = nn.Linear(2 * dim, dim)
        self.score = ab.Parameter(np.full(dim, 0.5))

    @ab.cell
    def join(self, left: Any, right: Any) -> Any:
        return ab.tanh(self.mix(ab.concat([left, right])))

    def state(self, tree: Tree) -> Any:
        if tree.is_leaf:
            return self.words[tree.word]
        return self.join(self.state(tree.left), self.state(tree.right))

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
`ab.map` calls the function once for each tree. The ops that run do not compute: each writes a few integers, namely
the number of its signature and the numbers of the values that it reads, and gives back a tensor that knows a type and
a place. Shapes and dtypes are checked here, so that a mistake is raised at the line that made it.
""")

scored = ab.map(model.scored, trees)
loss = ab.mean([loss for _, loss in scored])
show(loss)

say("""
What has been written is the *tape*: nodes in the order in which they were recorded. A node reads values (v0, v1, …),
all of them made by earlier nodes. A signature says what nodes must have in common to run together: the op or cell,
the types of its operands, its attributes, and which parameters it reads. The word of a leaf is not in it. It is data,
one number for each node, and therefore all leaves of all trees have one signature.
""")
show(ab.explain(loss, stage="tape"))

# ----------------------------------------------------------------------------------------------------------------------

say("""
3. Once per signature: from a function to a kernel
--------------------------------------------------
The first call of `join` with new types was *traced*: the function ran once with stand-ins for its operands, and what
it did to them became a graph, for one example. This is the text of that graph. Products are products of matrices
throughout, so a vector is first made a matrix of one row.
""")
show(ab.explain(model.join, stage="graph"))

say("""
*batch* gives each value that differs from node to node a leading axis: m is the number of nodes in a launch, known
when it runs. The weight stays as it is. What was a product of one row with a matrix is now one product of matrices.
""")
show(ab.explain(model.join, stage="batch"))

say("""
*vjp* continues the graph by its derivatives. `cotangent(0)` is the derivative of the loss by the result; from it come
those by both operands, by the weight and by the bias. They are written in the same ops as the graph, so they can be
differentiated again.
""")
show(ab.explain(model.join, stage="vjp"))

say("""
*split* cuts that graph into programs which run at different times. "forward" and "backward" run launch by launch, for
states of a tree depend on one another. The gradient of a weight does not have to: "final" runs once for each
signature, after all launches, over the rows that were kept from all of them, and is one product. `tanh` is not kept.
It is cheap, and "backward" computes it again.
""")
show(ab.explain(model.join, stage="split"))

say("""
*fuse* decides what becomes one generated loop and what is called. Products are calls of the BLAS library. All work
that goes element by element is put into few loops, which read their operands where these lie and add cotangents to
the rows they belong to.
""")
show(ab.explain(model.join, stage="fuse"))

say("""
*lower* writes the source: a driver of calls, and loops that Numba compiles. A compiled loop is kept on disk under a
name made of its content, so a model is compiled once.
""")
show(ab.explain(model.join, stage="lower"))

# ----------------------------------------------------------------------------------------------------------------------

say("""
4. For every minibatch: from a tape to values
---------------------------------------------
*expand* turns a call of a cell into two nodes where part of its work does not depend on the recurrence. All that `join`
computes waits for its children, so the tape stays as it is. Then *schedule* puts nodes into launches. A launch is a set
of nodes of one signature that do not depend on each other, from whichever trees: one call of one kernel. An op that is
ready in the shallow trees could run at once, and again when it is ready in the deep ones. To run it for all of them
together, it waits while there is another signature whose nodes are ready in all trees.

Below the launches stands what they could not do without. The nodes of `join` on a path from a leaf to the root wait
for each other, so there are at least as many launches of `join` as the deepest tree has inner nodes on a path.
""")
schedule = ab.explain(loss, stage="schedule")
show(schedule)

say("""
*place* gives every value its rows. All values of one width and dtype lie in one *pool*, a matrix; every launch writes
one block of rows. `3 @ 5` are three rows from row 5 on, read where they lie. `3: 0 4 7` are rows here and there, read
through their numbers: loops follow these numbers themselves, and only what a product reads is brought together first.
Rows that nobody will read again are taken by later launches, unless the reverse pass wants them.
""")
show(ab.explain(loss, stage="place"))

say("""
Any two nodes can be asked for. The roots of the first and of the second tree have one signature, and neither depends
on the other. Why did they not run together? The second tree is deeper: its root had to wait.
""")
(first, _), (second, _), _ = scored
show(ab.explain([first, second], stage="reasons"))

# ----------------------------------------------------------------------------------------------------------------------

say("""
5. Values and gradients
-----------------------
Until here nothing has been computed. Asking for a number runs all that is pending, by the schedule above.
`ab.profile` counts what happens; it also measures the seconds of each stage (`print(profile.table())`).
""")
with ab.profile() as profile:
    value = float(loss)
show(
    f"loss {value:.4f}: {profile.nodes} nodes in {profile.launches} launches, no order needs fewer than {profile.bound}"
)

say("""
`backward` runs the launches in reverse order: where a launch read rows, cotangents are added to the same rows of a
second set of pools. It ends the recording and frees its memory. A table that was only looked up gets its gradient as
rows, so that an optimiser touches no other word.
""")
loss.backward()
show(f"mix.weight.grad, {model.mix.weight.grad.shape}:\n{np.round(model.mix.weight.grad, 3)}")
rows = model.words.weight.grad
show(f"words.weight.grad: rows {rows.rows.tolist()} of {rows.shape[0]}\n{np.round(rows.values, 3)}")

say("""
Is it right? With `batched=False` each tree runs by itself, op by op, through code that shares nothing with schedules,
plans and kernels. The tests hold the two equal on random programs; here they are held equal on ours.
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
That is all of it. `docs/architecture.md` says in which file each of these stages lives.
""")
