"""Which nodes share a launch, the order of launches, and where every value is stored.

In: a `Tape`, flat integer arrays. Out: a `Schedule`, then a `Plan`. No array of the user is touched, and no Python
object is made for a node.

In reading order: `structures` (Tape, Expansion, Schedule, Plan), `schedule`, `policies/` for the order of launches,
`place` with its `free_rows`; `check` verifies both; `merged` counts recordings that were split as if they
were one.
"""
