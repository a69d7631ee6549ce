"""`@ab.cell`: a function is traced once per signature, and each call is one node.

In: a call. Out: a node on the tape. Nothing is computed here.

In reading order: `cell`, `arguments` (taken apart and put together), `entry` (the generated fast path of a call) and
`guard` (what the user's code reads, and whether it has changed).
"""
