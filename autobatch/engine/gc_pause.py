"""When Python's collector of cycles looks at what was recorded: not before the flush, if it can wait.

A recording is many small objects that all live until the flush; looking for cycles among them is in vain, and takes as
long as recording a tenth of them. `ab.map` switches the collector off while it records, and hands over to `go_on`.
"""

from __future__ import annotations

import gc

_raised, _before = 0, 0
"""The number of young objects that starts a collection: what it is raised to, 0 if it is not, and what it was."""


def go_on() -> None:
    """Switch the collector on. The next collection waits for as many new objects as if none had been recorded."""
    global _raised, _before
    count = gc.get_count()[0]
    young, *older = gc.get_threshold()
    if 0 < young < count:
        if young != _raised:
            _before = young
        _raised = count + _before
        gc.set_threshold(_raised, *older)
    gc.enable()


def flushed() -> None:
    """Collect as before: what was recorded has gone."""
    global _raised
    young, *older = gc.get_threshold()
    if _raised and young == _raised:
        gc.set_threshold(_before, *older)
        _raised = 0
