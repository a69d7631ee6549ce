"""`@ab.cell`: a function is traced once per signature, and each call is one node.

In: a call. Out: a node on the tape. Nothing is computed here.

In reading order: `cell` (the decorator, and the general path of a call), `arguments` (flattened), `trace`, `results`
(unflattened), `inline_cache` (the generated fast path of a call); `guard` (what the user's code reads), with
`reads` (bytecode) and `facts` (whether anything has changed).
"""
