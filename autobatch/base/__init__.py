"""The ground floor: what every room uses, and what knows nothing of arrays that are batched.

Nothing is recorded, scheduled or compiled for a model here.

In reading order: `errors` has every error and the form of its message, `tracebacks` ends their tracebacks at the
user's line. `types` is dtype and shape of a value, interned. `module_epoch` counts changes of modules, `clocks` the
seconds of stages; higher rooms read what lower ones write there. `tasks` says which asyncio task runs. `interrupts`
has blocks that no signal breaks off, `files` files that are there whole or not at all; `disk` is the kernel cache on
disk, to which nobody else can have written, and `jit` compiles functions that are kept in it. `cpython` reads lists
from memory.
"""
