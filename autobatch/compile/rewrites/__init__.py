"""Passes from graph to graph that make kernels faster, and change no result.

In reading order: `join` joins products before the derivative is taken, `beside` puts weights side by side, `rows`
reads the parts of a concat where they lie, `rewrite` simplifies ops that move elements, `stacks` reads matrices of
nodes in their pools.
"""
