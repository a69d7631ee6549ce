"""The end of a recording: values that stay readable are copied, the rest is released."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backends.transfer import is_on_device
from ..base.types import Array, Type
from ..record.links import carrying
from ..record.tape import ENDED, Links, Recording, state
from ..record.tensor import RecordedTensor
from ..run.device.layout import DeviceRun

_NO_LINKS = Links()
"""Those of recordings that have been let go."""


def end_all(recordings: Sequence[Recording]) -> None:
    """End recordings; of those ended before, only the numbers and source lines of referenced values stay."""
    earlier, state.ended = state.ended, [weakref.ref(recording) for recording in recordings]
    for recording in recordings:
        end(recording)
    for reference in earlier:
        _let_go(reference())


def end(tape: Recording) -> None:
    """End a recording: copy values that stay readable, and release the rest."""
    tape.left = _left(tape)
    if isinstance(tape.run, DeviceRun):
        tape.moment = tape.run.device.mark()
    tape.run = None
    if tape.replays:
        tape.replays = dict.fromkeys(tape.replays)
    tape.state = ENDED
    tape.payloads = []
    tape.brought = tape.table = None


def _let_go(tape: Recording | None) -> None:
    """Give the tensors of an ended recording their numbers, and keep their source lines."""
    if tape is None or tape.lines is not None:
        return
    held = [t for t in (reference() for reference in tape.holders) if t is not None]
    if not any(is_on_device(copies) for _, copies in tape.left):  # a device copies them together, or takes long
        left = [_still_held(places, copies, held) for places, copies in tape.left]
        tape.left = [(places, copies) for places, copies in left if places]
    carries = carrying(tape)
    constants = {t._id for t in held if not carries[t._id]}
    assert tape.arrays is not None
    nodes = tape.arrays.node_of([t._id for t in held]).tolist()
    tape.lines = {t._id: tape.place(node) for t, node in zip(held, nodes, strict=True)}
    tape.constants, tape.holders = constants, []
    tape.arrays = tape.plan_cache = tape.operands = tape.targets = tape.table = None
    tape.signatures, tape.number, tape.imports, tape.links, tape.held, tape.results = [], {}, {}, _NO_LINKS, [], set()
    tape.codes, tape.blocks = [(0, None)], []
    tape.drop_places()


def _still_held(places: dict[int, int], copies: Any, held: Sequence[RecordedTensor]) -> tuple[dict[int, int], Any]:
    """What is left of copied values when only some of their tensors are referenced."""
    found = [t for t in held if t._id in places]
    if 2 * len(found) > len(places):
        return places, copies
    kept = [places[t._id] for t in found]
    copies = copies[kept] if isinstance(copies, np.ndarray) else [copies[k] for k in kept]
    for t in found:
        t._value = None  # it was part of the copies
    return {t._id: k for k, t in enumerate(found)}, copies


def _left(tape: Recording) -> list[tuple[dict[int, int], Any]]:
    """Copies of the values of referenced tensors that stay readable: constants and results."""
    held, results, run = tape.held, tape.results, tape.run
    if run is None:
        return []
    stays = [one for one in held if one[0] in results]
    if len(stays) < len(held) and tape.arrays is not None:
        others = [one for one in held if one[0] not in results]
        stays += [others[k] for k in np.flatnonzero(_frozen(tape, others))]
    groups: dict[Type, list[int]] = {}
    for id, type in stays:
        groups.setdefault(type, []).append(id)
    return [({id: k for k, id in enumerate(ids)}, run.copies(ids, type)) for type, ids in groups.items()]


def is_constant_recording(tape: Recording) -> bool:
    """Whether no value referenced at the flush has a gradient, so there is no backward pass."""
    if tape.links.here.size or tape.replays or tape.arrays is None:
        return False
    return bool(_frozen(tape, tape.held).all())


def _frozen(tape: Recording, values: Sequence[tuple[int, Type]]) -> Array:
    """Which values of a recording that became arrays are of nodes through which no gradient flows."""
    assert tape.arrays is not None
    frozen_signatures = np.array([s.frozen for s in tape.signatures], np.bool_)
    nodes = tape.arrays.node_of([id for id, _ in values])
    flags: Array = frozen_signatures[tape.arrays.sig[nodes]]
    return flags
