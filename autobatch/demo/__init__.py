"""What the command `autobatch` does with the models: `cli` reads its arguments.

In reading order: `bracketed_training` and `syntax_tree_demo` train, by `training`, with a bar of `progress` and a
`tally`; `batching_report` and `learning_curve` report; `optional` imports extras, `blas_threads` holds libraries to
one thread.
"""
