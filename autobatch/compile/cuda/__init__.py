"""From steps to a program for a GPU: kernels in CUDA C, and the driver that launches them.

In: the steps of a piece. Out: source text, with extents written into it. Nothing is launched here.

In reading order: `arrange` says what is stored in memory, `memory` where. `body` and `lower` write the driver; `loops`,
`reductions`, `rows`, `matmuls`, `pairs`, `whole` and `attention` the kernels, by `writer` with `inlined` (producers
that are computed where they are read) and `scalars` (expressions of one element).
"""
