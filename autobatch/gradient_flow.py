"""Whether a gradient would be lost if a value became an array: seen from what was recorded, before anything runs."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from .ops.elementwise import STOP_GRADIENT
from .run.execute import gradient_needed
from .run.program import Tape
from .tape import OPEN, Recording, assemble, state


def carries_gradient(recording: Recording, value: int) -> bool:
    """Whether a parameter leads to a value by ops that have derivatives, in its recording or in earlier ones.

    Nothing is run. Cost: O(nodes). Each recording is looked at once, the latest first.
    """
    asked = {recording: {value}}
    heap = [(-recording.serial, recording)]
    while heap:
        _, tape = heapq.heappop(heap)
        if tape.state == OPEN and state.tape is not tape:
            continue  # of another thread or given up: it cannot be read
        arrays = tape.arrays if tape.arrays is not None else assemble(tape, ())
        targets = sorted(asked[tape])
        nodes = np.searchsorted(arrays.value_of, targets, side="right") - 1
        if _gradient_flow(tape, arrays, targets, linked=False)[nodes].any():
            return True
        flow = _gradient_flow(tape, arrays, targets, linked=True) if tape.links else ()
        for lifted, old, number in tape.links:
            if flow[np.searchsorted(arrays.value_of, lifted, side="right") - 1]:
                if old not in asked:
                    asked[old] = set()
                    heapq.heappush(heap, (-old.serial, old))
                asked[old].add(number)
    return False


def _gradient_flow(tape: Recording, arrays: Tape, targets: Sequence[int], linked: bool) -> np.ndarray[Any, Any]:
    """The nodes on a way to the targets from parameters, and with `linked` from values of earlier recordings."""
    frozen = np.array([s.frozen or s.name == STOP_GRADIENT.name for s in tape.signatures], np.int32)
    starts = np.zeros(arrays.sig.size, np.uint8)
    if linked:
        starts[np.searchsorted(arrays.value_of, [value for value, _, _ in tape.links], side="right") - 1] = 1
    wanted = np.zeros(int(arrays.value_of[-1]), np.uint8)
    wanted[targets] = 1
    trainable = arrays.signatures.trainable
    needed: np.ndarray[Any, Any] = gradient_needed(
        arrays.sig, arrays.slot_of, arrays.arg_of, arrays.args, arrays.value_of, trainable, frozen, starts, wanted
    )
    return needed
