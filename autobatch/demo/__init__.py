"""The command `autobatch`, and what it does with the models.

In reading order: `cli` reads arguments; `lifetime` trains, evaluates, predicts and exports, on a `machine`, each a
`task`: `bracketed` trees or `syntax_trees`; `baselines` and `batching_report` are what the demo compares with;
`optional` says which packages of the extra `demo` are there.
"""
