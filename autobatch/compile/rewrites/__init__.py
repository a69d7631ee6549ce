"""Passes from graph to graph that make kernels faster, and change no result.

In reading order: `flatten_operands` gives operands the shape of their rows; `merge_matmuls` merges matmuls before the
derivative is taken, and moves out what depends on shared operands alone; `forward_concats` lets matmuls read parts of
a concat; `movement` moves slices to operands; `in_place_matmuls` reads matrices of nodes in their pools, and
`residuals` drops those.
"""
