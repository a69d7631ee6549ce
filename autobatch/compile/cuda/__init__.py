"""From steps to a program for a GPU: kernels in CUDA C, and the driver that launches them.

In: the steps of a piece. Out: source text, with extents written into it. Nothing is launched here.

In reading order: `arrange` says what lies in memory, `memory` where. `body` and `lower` write the driver; `loops`,
`reductions`, `rows` and `products` the kernels, by `writer` with `seen` (values that a kernel computes where it reads
them) and `scalars` (expressions of one element).
"""
