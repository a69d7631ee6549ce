"""The stages of `run` on a GPU: one allocation, one upload and a loop of launches; another for the backward pass.

In reading order: `layout` with `memory` and `staging` (the one upload), `execute` with `indices` (row numbers worked
out on the host) and `faults`, `backward` with `segments` (rows that are added to, sorted), `finals` and `gradients`;
`expressions` of parameters; `rows` has the kernels that move rows.
"""
