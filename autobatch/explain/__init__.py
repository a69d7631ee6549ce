"""What was recorded, how it was batched and what it cost, as text, drawings and tables.

In: values, recordings, runs. Out: text, HTML, numbers. Nothing is run or changed.

In reading order: `explain` with `inspection` (a recording as each stage sees it), `reasons` (why nodes were not
batched), `picture` (boxes and arrows, and their form for Graphviz) and `page` (those in HTML); `profile` with `report`
(its tables, plot and trace).
"""
