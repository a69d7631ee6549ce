"""The typed graph of ops, and transformations of graphs.

In: functions on values, ops and their rules. Out: a `Graph`. No graph is run here but by the interpreter, which is the
reference for all kernels; nothing here knows of batches.

In reading order: `graph`, and `rewriter` (a graph after another one); `trace` with its `tracers` (a function becomes a
graph); `vjp` (the graph of a derivative), `by_rows` (that of one row of matrices), `simplify`, `interpret`.
"""
