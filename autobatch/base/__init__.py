"""What every room uses: errors, types, signals, files, compiled functions.

Nothing is recorded, scheduled or compiled for a model here.

In reading order: `errors` has every error and the form of its message, `tracebacks` ends their tracebacks at the
user's line. `types` is dtype and shape of a value, interned. `module_epoch` counts changes of modules, `clocks` the
seconds of stages; higher rooms read what lower ones write there. `tasks` says which asyncio task runs. `interrupts`
has blocks that no signal interrupts, `files` atomic writes; `disk` is the kernel cache on
disk, to which no other user can have written, and `jit` compiles functions that are cached in it, while `progress`
says so on a terminal. `memory` reads and copies by address, and `cpython` reads lists so. `notebooks` writes tables of
HTML, `extras` says which optional packages can be imported.
"""
