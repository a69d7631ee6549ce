"""What starts and ends a run: requests for values and for gradients.

In: a recording. Out: arrays, gradients of parameters. The stages are called in order from here.

In reading order: `values` (a tensor is forced), `peek` (while it is differentiated), `flush` (the recording becomes
arrays), `forward` (the stages in order), `backward` with `reverse` and `replay` (of checkpoints), `ending` (what stays
readable), `finite` (which op gave the first NaN), `printing` (values that are printed once they are computed).
"""
