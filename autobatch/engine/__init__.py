"""What begins and ends a run: values that are asked for, and gradients.

In: a recording. Out: numbers, gradients of parameters. Here the stages are put in order; none of them is done here.

In reading order: `values` (a tensor is asked for its numbers), `flush` (the recording becomes arrays), `forward` (the
stages in order), `backward` with `reverse`, `ending` (what stays readable), `finite` (which op gave the first NaN).
"""
