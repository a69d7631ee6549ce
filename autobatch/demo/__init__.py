"""What the command `autobatch` does with the models: `cli` reads its arguments.

In reading order: `bracketed_training` and `syntax_tree_demo` train, by `training`, with a bar of `progress` and a
`tally`; `baselines` and `batching_report` are what the demo compares with; `optional` imports extras.
"""
