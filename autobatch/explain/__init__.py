"""What was recorded, how it was batched and what it cost, for people.

In: values, recordings, runs. Out: text and numbers. Nothing is changed by looking.

In reading order: `explain` with `inspection` (a recording as each stage sees it) and `reasons` (why nodes were not
batched); `profile`.
"""
