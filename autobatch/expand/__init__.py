"""Recorded nodes become the nodes that are scheduled.

In: a `Tape` as recorded. Out: an `Expansion`: the tape to schedule, and how recorded values are numbered in it. The
decisions are taken once per signature.

In reading order: `expand` calls the others. Cells found: `patterns` are made of runs of nodes that `find` finds
recurring, joined by `chain`; `match` matches them. Cells cut: `hoist` says what does not depend on a recurrence, `cut`
cuts. `costs` is the cost model of both. `gradient_flow` says which values carry a gradient.
"""
