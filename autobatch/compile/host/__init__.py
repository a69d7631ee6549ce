"""From steps to a program for the processor: calls of NumPy, and loops that Numba compiles.

In: the steps of a piece. Out: a function of pools, rows and data. The texts are the same whenever the piece is the
same.

In reading order: `lower` takes a graph to steps and a program; `driver` writes the function, with `calls` and `loops`,
which pass their rows in `passes`; `cache` loads loops, and `workers` compile many side by side. `indices`: row numbers
that a GPU run can know before it starts, by NumPy.
"""
