"""`ab.map`: the examples of a minibatch are recorded one after the other, or replayed.

In: a function and examples. Out: pending results. Nothing is computed here but what the function forces.

In reading order: `map`; `examples` (one of which is called at a time), `fibers` (which wait for values); reused
recordings: `store`, `encoded` (what an example recorded, relative to it), `arrays` (its columns), `common` (what
recordings share, by number), `templates` of results, `surroundings` (what a recording depends on beside its example).
"""
