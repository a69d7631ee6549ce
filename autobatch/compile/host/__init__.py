"""From steps to a program for the processor: calls of NumPy, and loops that Numba compiles.

In: the steps of a piece. Out: a function of pools, rows and data. The texts are the same whenever the piece is the
same.

In reading order: `lower` writes the driver, `loops` the loops, in `passes` over blocks of elements; `cache` keeps
compiled loops on disk, and `workers` compile many side by side. `indices`: row numbers that a GPU run can know before
it starts, by NumPy.
"""
