"""Whether a gradient would be lost if a value became an array: seen from what was recorded, before anything runs.

Cost: O(nodes) for each recording, once; while it is open, at every question.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from ..ops.elementwise import STOP_GRADIENT
from ..record.forcing import engine
from ..record.tape import OPEN, Recording, assemble, state
from ..run.execute import gradient_needed
from ..schedule.structures import Tape

_flows: weakref.WeakKeyDictionary[Recording, np.ndarray[Any, Any]] = weakref.WeakKeyDictionary()
"""Of recordings that ran, for each node whether its results carry a gradient."""


def carries_gradient(recording: Recording, value: int) -> bool:
    """Whether a parameter leads to a value by ops that have derivatives, in its recording or in earlier ones."""
    if recording.lines is not None:
        return value in recording.lines and value not in recording.constants
    if recording.state == OPEN and state.tape is not recording:
        return False  # of another thread or given up: it cannot be read
    waiting = [recording]
    while waiting:
        earlier = [old for _, old, _ in waiting[-1].links if old not in _flows]
        if earlier:
            waiting += earlier
            continue
        tape = waiting.pop()
        if tape is recording and tape.state == OPEN:
            arrays = assemble(tape, ())
            return bool(_flow(tape, arrays)[_node(arrays, value)])
        if tape not in _flows:
            assert tape.arrays is not None
            _flows[tape] = _flow(tape, tape.arrays)
    assert recording.arrays is not None
    return bool(_flows[recording][_node(recording.arrays, value)])


def _node(arrays: Tape, value: int) -> int:
    return int(np.searchsorted(arrays.value_of, value, side="right")) - 1


def _flow(tape: Recording, arrays: Tape) -> np.ndarray[Any, Any]:
    """For each node whether its results carry a gradient; recordings that values were brought from come first."""
    linked = np.zeros(arrays.sig.size, np.uint8)
    for lifted, old, number in tape.links:
        assert old.arrays is not None
        linked[_node(arrays, lifted)] = _flows[old][_node(old.arrays, number)]
    frozen = np.array([s.frozen or s.name == STOP_GRADIENT.name for s in tape.signatures], np.int32)
    every = np.ones(int(arrays.value_of[-1]), np.uint8)
    trainable = arrays.signatures.trainable
    flow: np.ndarray[Any, Any] = gradient_needed(
        arrays.sig, arrays.slot_of, arrays.arg_of, arrays.args, arrays.value_of, trainable, frozen, linked, every
    )
    return flow


engine.carries_gradient = carries_gradient
