"""What was recorded, how it was batched and what it cost, as text.

In: values, recordings, runs. Out: text and numbers. Nothing is run or changed.

In reading order: `explain` with `inspection` (a recording as each stage sees it) and `reasons` (why nodes were not
batched); `profile`.
"""
