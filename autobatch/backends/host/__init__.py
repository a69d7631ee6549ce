"""The processor: array verbs, matmuls, threads and memory.

In: arrays. Out: arrays. Nothing here knows of nodes, launches or ops.

In reading order: `verbs` of NumPy programs and `numba_verbs` of compiled ones; `scalar_functions` of generated loops.
`matmul` chooses who multiplies matrices: `tiles` of our own, made of `tile_code`, with `packed_weights`, or a BLAS,
`mkl` among them; `pairs` and `attention` are made of tiles, too. `native_calls` makes the calls of many launches at
once. `threads` share `parts` of a loop. `arena` is the memory that runs lease.
"""
