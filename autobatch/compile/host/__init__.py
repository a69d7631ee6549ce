"""From steps to a program for the processor: calls of NumPy, and loops that Numba compiles.

In: the steps of a piece. Out: a function of pools, rows and data. The texts are the same whenever the piece is the
same.

In reading order: `lower` takes a graph to steps and a program; `driver` writes the function, with `calls` and `loops`,
`passes` over their rows; `cache` loads loops, and `workers` compile many in parallel. `call_tables` are the calls of a
driver as numbers, found on `symbolic` arrays. `indices`: row numbers that a GPU run can know before it starts, by
NumPy.
"""
