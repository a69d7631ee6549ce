"""`ab.map`: the examples of a minibatch are recorded one after the other, or replayed.

In: a function and examples. Out: pending results. Nothing is computed here.

In reading order: `map`; reused recordings: `store`, `encoded` (what an example recorded, relative to it),
`arrays` (its columns), `common` (what recordings share, by number), `templates` of results, `surroundings` (what a
recording depends on beside its example).
"""
