"""User code becomes nodes on a tape.

In: calls of ops and cells. Out: lists of integers that become a `Tape` at a flush. Nothing is optimised, scheduled or
computed here; a value is forced by the hooks of `forcing`.

In reading order: `choice` (of the recorder: `compiled`, in Cython, or in Python); `context` (modes); `shared` (values
that are the same for every example), `creation`, `expressions` and `parameter`; `operands` (what the signatures of a
recording share); `signature` (what nodes have in common that share a launch) and the `decisions` about it; `forcing`;
`tensor` (values of an example); `tape` (the open recording) with `tensor_list` (recycled tensors) and `assemble` (its
lists become arrays); `nodes` (appending a node); `links` (values of other recordings) and `views`; `op_signatures`,
`lengths` (which vary), `layouts` (rows of any number as views), `pairs` (of rows and columns), `segments`; `recorder`
(the general path of an op), `ops` and `view_paths` (the fast ones); `reductions`, `convolution`, `attention`, `random`;
`numpy_shapes`, `numpy_algebra`, `numpy_compositions` and `numpy_functions` (NumPy's functions on values), `array_api`
and `exchange`; `calls` (functions whose nodes are kept), `layers` (so called, too); `modes`; `containers` (rebuilt
around other parts); `derived` (signatures of derivatives), `derivatives`, `differentiation`, `grad`, `jacobians`,
`custom_vjp`, `checkpoint`; `forced_values` (counted by line). `cells/` are whole functions recorded as one node.
"""
