"""Execution of a plan: forward and backward.

In: an `Expansion`, a `Schedule`, a `Plan`, kernels. Out: pools that hold values, and gradients of shared operands. No
decision is taken here that changes what is computed.

In reading order: `layout` binds launches to memory, `earlier` reads values that other runs computed, `feed` and
`execute` run launches, `together` those that follow each other as one compiled call, `backward` runs them in reverse,
where `first_writes` says which gradient rows are stored rather than added to, and `finals` computes gradients of shared
operands. `one_by_one` interprets node by node: the reference. `kept_plans`: cached plans and layouts of recordings
of one structure. `protocols`: what is needed from signatures and shared operands. `device/` has the same stages for a
GPU.
"""
