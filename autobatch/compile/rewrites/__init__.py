"""Passes from graph to graph that make kernels faster, and change no result.

In reading order: `flatten_operands` gives operands the shape of their rows; `merge_matmuls` merges matmuls before the
derivative is taken, and takes out what is made of shared operands alone; `movement` moves slices to operands;
`in_place_matmuls` reads matrices of nodes in their pools, and `residuals` keeps none of those.
"""
