"""Once per signature: from the graph of one node to a kernel that runs many.

In: a `Graph`. Out: a `Kernel`, whose pieces are programs. Nothing here knows of recordings or of the rows that are
read.

In reading order: `kernel` holds the stages together. `batch` makes a graph of n nodes of the graph of one, `split`
cuts it into forward, backward and final pieces, `fuse` makes `steps` of the ops: calls, and loops over
`domains`. `rewrites/` are passes between them; `host/` and `cuda/` generate the programs, and `text` has their
in common.
"""
